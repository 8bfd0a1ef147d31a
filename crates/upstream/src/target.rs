//! Puts values into a server's target: one pass, and no value is ever read as a template.

use std::collections::{BTreeMap, BTreeSet};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use mcphub_domain::server::{HttpTarget, StdioTarget};
use mcphub_domain::template::{Identity, Part};
use mcphub_domain::{SecretText, Slot, Template, UserId, UserName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;
use zeroize::Zeroizing;

/// Everything but the unreserved characters of RFC 3986.
pub(crate) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Says who calls, for servers that want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Her id.
    pub id: UserId,
    /// Her name.
    pub name: UserName,
    /// Her e-mail address, where known.
    pub email: Option<String>,
}

/// Holds the values for one connection.
#[derive(Default)]
pub struct Values {
    /// The secrets, by the slot they fill.
    pub slots: BTreeMap<Slot, SecretText>,
    /// Who calls; nobody when the hub itself does.
    pub caller: Option<Caller>,
}

/// Is an HTTP target with its values in it.
pub struct ResolvedHttp {
    /// The endpoint. It can hold secrets, so only its origin may be shown.
    pub url: Url,
    /// The headers of every request, all of them marked as sensitive.
    pub headers: HeaderMap,
}

/// Is a stdio target with its values in it.
pub struct ResolvedStdio {
    /// The program, as the definition names it.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, Zeroizing<String>>,
}

/// Says why values can't be put into a target.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Some slots have no value.
    #[error("values are missing: {0:?}")]
    MissingValues(Vec<Slot>),
    /// A value can't stand where it is needed.
    #[error("{place}: {reason}")]
    Unusable {
        /// The header, variable, argument or URL.
        place: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Values {
    /// Puts the values into an HTTP target.
    pub fn resolve_http(&self, target: &HttpTarget) -> Result<ResolvedHttp, TargetError> {
        self.require(std::iter::once(&target.url).chain(target.headers.values()))?;
        let token = target.oauth.as_ref().map(|_| self.bearer()).transpose()?;
        let url = self.resolve_url(target)?;
        let mut headers = HeaderMap::with_capacity(target.headers.len());
        for (name, template) in &target.headers {
            let wrong = |reason| unusable(format!("header {name}"), reason);
            let value = self.fill(template, |text| text.to_owned()).map_err(&wrong)?;
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("not a header's name"))?;
            let mut value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| wrong("a header's value has no CR, LF, NUL or other control characters"))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        headers.extend(token.map(|token| (AUTHORIZATION, token)));
        Ok(ResolvedHttp { url, headers })
    }

    /// Writes the token of the account that the person has connected.
    fn bearer(&self) -> Result<HeaderValue, TargetError> {
        let slot = Slot::account();
        let Some(token) = self.slots.get(&slot) else { return Err(TargetError::MissingValues(vec![slot])) };
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            unusable("header authorization".to_owned(), "the account's token fits into no header")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Puts the values into a stdio target.
    pub fn resolve_stdio(&self, target: &StdioTarget) -> Result<ResolvedStdio, TargetError> {
        self.require(target.args.iter().chain(target.env.values()))?;
        let mut args = Vec::with_capacity(target.args.len());
        for template in &target.args {
            args.push(self.resolve_argument(template)?);
        }
        let mut env = BTreeMap::new();
        for (name, template) in &target.env {
            let wrong = |reason| unusable(format!("variable {name}"), reason);
            let value = self.fill(template, |text| text.to_owned()).map_err(&wrong)?;
            if value.contains('\0') {
                return Err(wrong("a variable's value has no NUL"));
            }
            env.insert(name.clone(), value);
        }
        Ok(ResolvedStdio { command: target.command.clone(), args, env })
    }

    fn require<'a>(&self, templates: impl Iterator<Item = &'a Template>) -> Result<(), TargetError> {
        let needed: BTreeSet<Slot> = templates.flat_map(Template::slots).collect();
        let missing: Vec<Slot> = needed.into_iter().filter(|slot| !self.slots.contains_key(slot)).collect();
        if missing.is_empty() { Ok(()) } else { Err(TargetError::MissingValues(missing)) }
    }

    /// Values are percent-encoded; one that would change the origin or climb in the path is refused.
    fn resolve_url(&self, target: &HttpTarget) -> Result<Url, TargetError> {
        let wrong = |reason| unusable("the URL".to_owned(), reason);
        let base = target.base().map_err(|_| wrong("not a URL"))?;
        let text =
            self.fill(&target.url, |value| utf8_percent_encode(value, ENCODED).to_string()).map_err(wrong)?;
        let url = Url::parse(&text).map_err(|_| wrong("not a URL with these values"))?;
        let depth = |url: &Url| url.path_segments().map_or(0, Iterator::count);
        if url.origin() != base.origin() || depth(&url) != depth(&base) {
            return Err(wrong("a value may not be `.` or `..`, or lead elsewhere"));
        }
        Ok(url)
    }

    fn resolve_argument(&self, template: &Template) -> Result<String, TargetError> {
        let wrong = |reason| unusable("an argument".to_owned(), reason);
        let value = self.fill(template, |text| text.to_owned()).map_err(wrong)?;
        if value.contains('\0') {
            return Err(wrong("an argument has no NUL"));
        }
        if matches!(template.parts(), [Part::Identity(_), ..]) && value.starts_with('-') {
            return Err(wrong("the caller's identity would be read as an option"));
        }
        Ok(value.to_string())
    }

    /// The single pass.
    fn fill(
        &self,
        template: &Template,
        encode: impl Fn(&str) -> String,
    ) -> Result<Zeroizing<String>, &'static str> {
        let mut filled = Zeroizing::new(String::new());
        for part in template.parts() {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Slot(slot) => {
                    let value = self.slots.get(slot).ok_or("a value is missing")?;
                    filled.push_str(&Zeroizing::new(encode(value.expose())));
                }
                Part::Identity(identity) => filled.push_str(&encode(&self.identity(*identity)?)),
            }
        }
        Ok(filled)
    }

    fn identity(&self, identity: Identity) -> Result<String, &'static str> {
        let caller = self.caller.as_ref().ok_or("it needs to know who calls, and the hub itself does")?;
        match identity {
            Identity::Id => Ok(caller.id.to_string()),
            Identity::Name => Ok(caller.name.to_string()),
            Identity::Email => caller.email.clone().ok_or("the caller has no e-mail address"),
        }
    }
}

const fn unusable(place: String, reason: &'static str) -> TargetError {
    TargetError::Unusable { place, reason }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mcphub_domain::server::{HttpTarget, StdioTarget};
    use mcphub_domain::{SecretText, Slot, UserId};
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{Caller, TargetError, Values};

    fn values(pairs: &[(&str, &str)]) -> Values {
        let slots = pairs
            .iter()
            .map(|(name, value)| {
                (Slot::Personal(name.parse().unwrap()), SecretText::new((*value).to_owned()))
            })
            .collect();
        let caller = Caller {
            id: UserId::from_bytes([5; 16]),
            name: "alice".parse().unwrap(),
            email: Some("a@b.example".into()),
        };
        Values { slots, caller: Some(caller) }
    }

    fn http(url: &str, header: &str) -> HttpTarget {
        let headers = BTreeMap::from([("authorization".to_owned(), header.parse().unwrap())]);
        HttpTarget { url: url.parse().unwrap(), headers, oauth: None }
    }

    fn stdio(arg: &str, env: &str) -> StdioTarget {
        StdioTarget {
            command: "x".into(),
            args: vec![arg.parse().unwrap()],
            env: BTreeMap::from([("T".to_owned(), env.parse().unwrap())]),
        }
    }

    #[test]
    fn values_stand_in_headers_as_they_are_and_marked() {
        let target = http("https://a.example/mcp", "Bearer ${USER_T} for ${HUB_USER_NAME}");
        let resolved = values(&[("T", "s3cret")]).resolve_http(&target).ok().unwrap();
        let header = &resolved.headers["authorization"];
        assert_eq!(header.to_str().unwrap(), "Bearer s3cret for alice");
        assert!(header.is_sensitive());
    }

    #[test]
    fn all_missing_slots_are_named_at_once() {
        let target = http("https://a.example/${USER_A}", "${USER_B} ${SHARED_C}");
        let error = values(&[("B", "b")]).resolve_http(&target).err().unwrap();
        let TargetError::MissingValues(slots) = error else { panic!("{error:?}") };
        let names: Vec<String> = slots.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["${USER_A}", "${SHARED_C}"]);
    }

    #[test]
    fn a_url_takes_values_encoded_and_never_changes_its_place() {
        let target = http("https://a.example/${USER_T}/mcp?k=${USER_T}", "x");
        let resolve = |value| values(&[("T", value)]).resolve_http(&target).map(|http| http.url.to_string());
        let encoded = "https://a.example/a%2Fb%3F%23%26%40%20%25/mcp?k=a%2Fb%3F%23%26%40%20%25";
        assert_eq!(resolve("a/b?#&@ %").unwrap(), encoded);
        assert!(resolve("..").is_err());
        assert!(resolve(".").is_err());
    }

    #[test]
    fn line_breaks_and_nul_go_nowhere() {
        for bad in ["a\r\nx: y", "a\nb", "a\rb", "a\0b"] {
            assert!(values(&[("T", bad)]).resolve_http(&http("https://a.example/", "${USER_T}")).is_err());
        }
        assert!(values(&[("T", "a\0b")]).resolve_stdio(&stdio("x", "${USER_T}")).is_err());
        assert!(values(&[("T", "a\nb")]).resolve_stdio(&stdio("x", "${USER_T}")).is_ok());
    }

    #[test]
    fn an_identity_is_no_option() {
        let mut values = values(&[("T", "t")]);
        values.caller.as_mut().unwrap().email = Some("--exec@x".into());
        assert!(values.resolve_stdio(&stdio("${HUB_USER_EMAIL}", "x")).is_err());
        assert!(values.resolve_stdio(&stdio("user=${HUB_USER_EMAIL}", "x")).is_ok());
    }

    #[test]
    fn an_unknown_caller_is_told() {
        let nobody = Values::default();
        assert!(matches!(
            nobody.resolve_stdio(&stdio("x", "${HUB_USER_ID}")),
            Err(TargetError::Unusable { .. })
        ));
    }

    proptest! {
        #[test]
        fn a_value_is_never_expanded_again(value in r"[ -~]{0,40}", name in "[A-Z]{1,3}") {
            for inner in [value.clone(), format!("${{USER_{name}}}"), "${HUB_USER_ID}".to_owned()] {
                let values = values(&[("T", &inner), (&name, "other")]);
                let text = if name == "T" { "other" } else { &inner };
                let resolved = values.resolve_stdio(&stdio("x", "<${USER_T}>")).ok().unwrap();
                prop_assert_eq!(resolved.env["T"].as_str(), format!("<{text}>"));
                let resolved = values.resolve_http(&http("https://a.example/", "<${USER_T}>")).ok().unwrap();
                let header = format!("<{text}>");
                prop_assert_eq!(resolved.headers["authorization"].as_bytes(), header.as_bytes());
            }
        }

        #[test]
        fn no_value_moves_the_url(value in r"\PC{0,30}") {
            let target = http("https://a.example:8443/x/${USER_T}/y?q=${USER_T}", "x");
            if let Ok(resolved) = values(&[("T", &value)]).resolve_http(&target) {
                prop_assert_eq!(resolved.url.origin().ascii_serialization(), "https://a.example:8443");
                prop_assert!(resolved.url.path().starts_with("/x/"));
                prop_assert!(resolved.url.path().ends_with("/y"));
                let pairs: Vec<(String, String)> = resolved.url.query_pairs().into_owned().collect();
                prop_assert_eq!(pairs, vec![("q".to_owned(), value)]);
                prop_assert!(resolved.url.fragment().is_none());
            }
        }
    }
}
