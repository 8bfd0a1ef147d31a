//! What is sealed of an account: its tokens, and as whom the hub got them. None of it is shown or logged.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mcphub_domain::oauth::OAuth;
use mcphub_domain::{SecretText, Timestamp};
use serde::{Deserialize, Serialize};
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroize as _;

use super::bounded::few;
use super::metadata::Authority;
use crate::error::HubError;

/// How long before its end a token is replaced; one that is given for no longer, at half of its time.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is a new one: if it is refused then, another new one helps nothing.
const NEW: Duration = Duration::from_secs(60);

/// How much room the names of what proves who the hub is, and what stands between, may take in a form.
const LONGEST_NAMES: usize = 128;

/// Is an account that a person has connected.
#[derive(Serialize, Deserialize)]
pub(crate) struct Account {
    access: String,
    refresh: Option<String>,
    expires_at: Option<Timestamp>,
    /// For how many seconds it was given.
    #[serde(default)]
    lasts: Option<u64>,
    /// When the token was last replaced by another.
    #[serde(default)]
    renewed_at: Option<Timestamp>,
    /// What was asked for and given.
    pub(super) scopes: Vec<String>,
    pub(super) issuer: String,
    pub(super) token_endpoint: String,
    pub(super) resource: String,
    pub(super) client: Registered,
}

/// Says as whom the hub is known to an authorization server.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Registered {
    pub(super) id: String,
    /// The secret that it was given when it registered itself.
    pub(super) secret: Option<String>,
    pub(super) proof: Proof,
    pub(super) origin: Origin,
    /// Where people come back to who were sent away in its name; nowhere, where that was not noted yet.
    #[serde(default)]
    pub(super) redirect: String,
    /// When the secret ends.
    pub(super) ends_at: Option<Timestamp>,
}

/// Says how the hub proves at the token endpoint who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Proof {
    #[serde(rename = "client_secret_basic")]
    Basic,
    #[serde(rename = "client_secret_post")]
    Post,
    #[serde(rename = "none")]
    None,
}

/// Says where the hub has its id from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// The server's definition; a secret is a shared value.
    Definition,
    /// The hub's own document, whose address is the id.
    Document,
    /// It has registered itself; whoever it is then is bound to that issuer.
    Registration,
}

/// Is what a token endpoint answers.
#[derive(Deserialize)]
pub(super) struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
    scope: Option<String>,
}

/// Says what is known of an account without unsealing it.
pub(super) struct Known {
    /// When a new token is due.
    pub(super) due: Option<Timestamp>,
    pub(super) scopes: Vec<String>,
    ends: Option<Timestamp>,
    renewed_at: Option<Timestamp>,
    issuer: String,
    /// The id that the definition had for the hub, if it has that one.
    client: Option<String>,
}

impl Known {
    /// Says whether the token has ended.
    pub(super) fn has_ended(&self, now: Timestamp) -> bool {
        self.ends.is_some_and(|end| now >= end)
    }

    /// Says whether the token replaced another a moment ago.
    pub(super) fn is_new(&self, now: Timestamp) -> bool {
        self.renewed_at.is_some_and(|at| now.since(at) < NEW)
    }

    /// Says whether it was connected where the definition says now, and as whom: nothing of it is sent elsewhere, nor is the
    /// secret of another sent there.
    pub(super) fn fits(&self, oauth: &OAuth) -> bool {
        oauth.issuer.as_ref().is_none_or(|issuer| *issuer == self.issuer)
            && self.client.as_ref().is_none_or(|id| oauth.client_id.as_ref() == Some(id))
    }
}

impl Account {
    /// Reads what was sealed.
    pub(crate) fn read(text: &SecretText) -> Result<Self, HubError> {
        // The parser's own words could repeat a part of the secret.
        serde_json::from_str(text.expose())
            .map_err(|_| HubError::Internal("a stored account can't be read".to_owned()))
    }

    /// Writes what is to be sealed.
    pub(super) fn write(&self) -> Result<SecretText, HubError> {
        let text = serde_json::to_string(self);
        text.map(SecretText::new).map_err(|_| HubError::Internal("an account can't be written".to_owned()))
    }

    /// Takes the token that calls carry.
    pub(crate) fn token(&self) -> SecretText {
        SecretText::new(self.access.clone())
    }

    /// Shows what a new token is asked for with.
    pub(super) fn refresh_token(&self) -> Option<&str> {
        self.refresh.as_deref()
    }

    /// Says what may be known without unsealing it.
    pub(super) fn known(&self) -> Known {
        let lasts = self.lasts.map(Duration::from_secs).filter(|lasts| *lasts <= EARLY);
        // One that hardly lives that long would be replaced with each call.
        let early = lasts.map_or(EARLY, |lasts| lasts / 2).as_micros() as i64;
        let due = self.expires_at.filter(|_| self.refresh.is_some());
        let due = due.map(|end| Timestamp::from_micros(end.as_micros() - early));
        Known {
            due,
            scopes: self.scopes.clone(),
            ends: self.expires_at,
            renewed_at: self.renewed_at,
            issuer: self.issuer.clone(),
            client: (self.client.origin == Origin::Definition).then(|| self.client.id.clone()),
        }
    }

    /// Takes over what was granted; what the answer doesn't name stays as it was.
    pub(super) fn granted(mut self, mut granted: Granted, now: Timestamp) -> Result<Self, &'static str> {
        if !granted.token_type.eq_ignore_ascii_case("bearer") {
            return Err("its token is none that can be sent as a bearer token");
        }
        if granted.access_token.is_empty()
            || !granted.access_token.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err("its token fits into no header");
        }
        self.renewed_at = (!self.access.is_empty()).then_some(now);
        self.access.zeroize();
        self.access = std::mem::take(&mut granted.access_token);
        self.lasts = granted.expires_in.filter(|seconds| *seconds > 0);
        self.expires_at = self.lasts.map(|seconds| now.plus(Duration::from_secs(seconds)));
        if let Some(refresh) = granted.refresh_token.take() {
            self.refresh.zeroize();
            self.refresh = Some(refresh);
        }
        let given = granted.scope.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned);
        self.scopes = few(std::mem::take(&mut self.scopes).into_iter().chain(given));
        Ok(self)
    }

    /// Begins one without a token.
    pub(super) fn begin(
        authority: &Authority,
        resource: String,
        client: Registered,
        scopes: Vec<String>,
    ) -> Self {
        let (issuer, token_endpoint) = (authority.issuer.clone(), authority.token_endpoint.to_string());
        Self {
            access: String::new(),
            refresh: None,
            expires_at: None,
            lasts: None,
            renewed_at: None,
            scopes,
            issuer,
            token_endpoint,
            resource,
            client,
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.access.zeroize();
        self.refresh.zeroize();
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.access_token.zeroize();
        self.refresh_token.zeroize();
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Proof {
    /// Chooses the best that both can; without a list, the authorization server knows `client_secret_basic` (RFC 8414 2).
    pub(super) fn choose(supported: Option<&[String]>) -> Option<Self> {
        let Some(supported) = supported else { return Some(Self::Basic) };
        let has = |proof: &Self| supported.iter().any(|name| name == proof.as_str());
        [Self::Basic, Self::Post, Self::None].into_iter().find(has)
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::None => "none",
        }
    }
}

/// Writes the form for a token endpoint, and the header beside it, with which the hub proves who it is.
pub(super) fn token_request(
    fields: &[(&str, &str)],
    client: &Registered,
    secret: Option<&SecretText>,
) -> (SecretText, Option<SecretText>) {
    // Long enough from the start: what a text leaves behind where it grows out of its place is not wiped.
    let secret_length = secret.map_or(0, |secret| secret.expose().len());
    let length: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mut form = Serializer::new(String::with_capacity(
        3 * (length + client.id.len() + secret_length) + LONGEST_NAMES,
    ));
    // Some want the id here, even where it stands in the header; it proves nothing.
    form.extend_pairs(fields).append_pair("client_id", &client.id);
    let authorization = match (client.proof, secret) {
        (Proof::Basic, Some(secret)) => {
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = SecretText::new(format!("{}:{}", encoded(&client.id), encoded(secret.expose())));
            Some(SecretText::new(format!("Basic {}", STANDARD.encode(pair.expose()))))
        }
        (Proof::Post, Some(secret)) => {
            form.append_pair("client_secret", secret.expose());
            None
        }
        _ => None,
    };
    (SecretText::new(form.finish()), authorization)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcphub_domain::oauth::OAuth;
    use mcphub_domain::{SecretText, Timestamp};

    use super::{Account, Authority, Granted, Origin, Proof, Registered, token_request};

    impl Registered {
        /// Is a client that registered itself.
        pub(crate) fn known(id: &str) -> Self {
            let (proof, origin) = (Proof::None, Origin::Registration);
            let redirect = "http://127.0.0.1:3000/oauth/callback".into();
            Self { id: id.into(), secret: None, proof, origin, redirect, ends_at: None }
        }
    }

    fn client(proof: Proof) -> Registered {
        let mut client = Registered::known("an id");
        (client.proof, client.origin) = (proof, Origin::Definition);
        client
    }

    fn begun(scopes: &[&str]) -> Account {
        let authority = Authority::assumed(&"https://a.example".parse().unwrap()).unwrap();
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Account::begin(&authority, "r".into(), client(Proof::None), scopes)
    }

    #[test]
    fn the_hub_proves_who_it_is_as_it_is_wanted() {
        let secret = SecretText::new("s:cret".into());
        let request = |proof| {
            let (form, header) = token_request(&[("a", "b c")], &client(proof), Some(&secret));
            (form.expose().to_owned(), header.map(|header| header.expose().to_owned()))
        };
        assert_eq!(
            request(Proof::Basic),
            ("a=b+c&client_id=an+id".into(), Some("Basic YW4raWQ6cyUzQWNyZXQ=".into()))
        );
        assert_eq!(request(Proof::Post), ("a=b+c&client_id=an+id&client_secret=s%3Acret".into(), None));
        assert_eq!(request(Proof::None), ("a=b+c&client_id=an+id".into(), None));
        let choose = |names: &[&str]| {
            Proof::choose(Some(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()))
        };
        assert_eq!(choose(&["none", "client_secret_post"]), Some(Proof::Post));
        assert_eq!(choose(&["private_key_jwt"]), None);
        assert_eq!(Proof::choose(None), Some(Proof::Basic));
    }

    #[test]
    fn a_renewed_token_keeps_what_the_answer_does_not_name() {
        let granted = |json: &str| serde_json::from_str::<Granted>(json).unwrap();
        let now = Timestamp::from_micros(0);
        let account = begun(&["x"]);
        let first =
            r#"{"access_token":"a","token_type":"bearer","expires_in":60,"refresh_token":"r","scope":"x y"}"#;
        let account = account.granted(granted(first), now).ok().unwrap();
        assert_eq!(account.known().due, Some(now.plus(Duration::from_secs(30))));
        let known = account.known();
        assert!(!known.is_new(now) && !known.has_ended(now.plus(Duration::from_secs(59))));
        assert!(known.has_ended(now.plus(Duration::from_secs(60))));
        for (seconds, due) in [(31, Some(1)), (30, Some(15)), (2, Some(1)), (0, None)] {
            let short = format!(
                r#"{{"access_token":"a","token_type":"bearer","expires_in":{seconds},"refresh_token":"r"}}"#
            );
            let due = due.map(|seconds| now.plus(Duration::from_secs(seconds)));
            assert_eq!(begun(&[]).granted(granted(&short), now).ok().unwrap().known().due, due, "{seconds}");
        }
        let next =
            account.granted(granted(r#"{"access_token":"b","token_type":"Bearer"}"#), now).ok().unwrap();
        let next = Account::read(&next.write().unwrap()).unwrap();
        assert_eq!((next.token().expose(), next.refresh_token()), ("b", Some("r")));
        assert_eq!((next.scopes.join(" ").as_str(), next.known().due), ("x y", None));
        let is_new = |seconds| next.known().is_new(now.plus(Duration::from_secs(seconds)));
        assert!(is_new(59) && !is_new(60), "refused later, it is renewed again");
        for bad in [
            r#"{"access_token":"b","token_type":"DPoP"}"#,
            r#"{"access_token":"a\nb","token_type":"bearer"}"#,
        ] {
            let account = begun(&[]);
            assert!(account.granted(granted(bad), now).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_account_is_of_one_authorization_server_and_one_client() {
        let known = |origin| {
            let mut account = begun(&[]);
            (account.issuer, account.client.id, account.client.origin) = ("i".into(), "c".into(), origin);
            account.known()
        };
        let oauth = |issuer: Option<&str>, id: Option<&str>| OAuth {
            issuer: issuer.map(str::to_owned),
            client_id: id.map(str::to_owned),
            ..OAuth::default()
        };
        let table = [
            (Origin::Definition, None, Some("c"), true),
            (Origin::Definition, Some("i"), Some("c"), true),
            (Origin::Definition, Some("j"), Some("c"), false),
            (Origin::Definition, Some("i"), Some("d"), false),
            (Origin::Definition, None, None, false),
            (Origin::Registration, None, None, true),
            (Origin::Registration, Some("i"), Some("d"), true),
            (Origin::Registration, Some("j"), None, false),
            (Origin::Document, Some("i"), None, true),
        ];
        for (origin, issuer, id, fits) in table {
            assert_eq!(known(origin).fits(&oauth(issuer, id)), fits, "{origin:?} {issuer:?} {id:?}");
        }
    }
}
