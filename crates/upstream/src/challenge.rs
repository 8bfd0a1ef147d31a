//! What a server says of the credential that it wants (RFC 9110 11.6.1, RFC 6750 3, RFC 9728 5.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// How much of a challenge is read.
const LONGEST: usize = 4096;

/// Is the `Bearer` challenge of a server that refused a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Why, such as `insufficient_scope`.
    pub error: Option<String>,
    /// What a token has to be good for, separated by spaces.
    pub scope: Option<String>,
    /// Where the server describes what protects it.
    pub resource_metadata: Option<String>,
}

impl Challenge {
    /// Reads the first `Bearer` challenge of an answer.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
        texts.filter(|text| text.len() <= LONGEST).find_map(Self::parse)
    }

    /// Reads one header, in which several challenges may stand.
    fn parse(text: &str) -> Option<Self> {
        let mut found: Option<Self> = None;
        for part in split(text) {
            let scheme = scheme_of(part);
            match (scheme, &found) {
                (Some(_), Some(_)) => break,
                (Some(scheme), None) if scheme.eq_ignore_ascii_case("bearer") => {
                    found = Some(Self::default());
                }
                _ => {}
            }
            if let Some(challenge) = &mut found {
                challenge.take(scheme.and_then(|scheme| part.strip_prefix(scheme)).unwrap_or(part));
            }
        }
        found
    }

    fn take(&mut self, parameter: &str) {
        let Some((name, value)) = parameter.split_once('=') else { return };
        let value = Some(unquoted(value.trim())).filter(|value| !value.is_empty());
        match name.trim().to_ascii_lowercase().as_str() {
            "error" => self.error = value,
            "scope" => self.scope = value,
            "resource_metadata" => self.resource_metadata = value,
            _ => {}
        }
    }

    /// Lists the scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.iter().flat_map(|scope| scope.split(' ')).filter(|scope| !scope.is_empty())
    }

    /// Says whether a token is good, but not for this.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }
}

/// Reads the scheme of a part with which a challenge begins. Where a `=` follows, with blanks before it or without, it is no
/// scheme, but the name of a parameter.
fn scheme_of(part: &str) -> Option<&str> {
    let end = part.find([' ', '\t', '=']).unwrap_or(part.len());
    let (scheme, rest) = part.split_at_checked(end)?;
    (!rest.trim_start_matches([' ', '\t']).starts_with('=')).then_some(scheme)
}

/// Splits at the commas that stand outside of quotes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_end = move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == ',' && !quoted
    };
    text.split(is_end).map(str::trim).filter(|part| !part.is_empty())
}

fn unquoted(value: &str) -> String {
    let Some(inside) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut escaped = false;
    inside
        .chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{Challenge, LONGEST};

    fn read(texts: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append("www-authenticate", HeaderValue::from_str(text).unwrap());
        }
        Challenge::read(&headers)
    }

    #[test]
    fn the_bearer_challenge_is_found_among_others() {
        let all = Challenge {
            error: Some("insufficient_scope".into()),
            scope: Some("a b".into()),
            resource_metadata: Some("https://a.example/m?x=1,2".into()),
        };
        let text = r#"Bearer error="insufficient_scope", scope="a b", resource_metadata="https://a.example/m?x=1,2", realm="a \"b, c""#;
        assert_eq!(read(&[text]), Some(all.clone()));
        assert_eq!(
            read(&[&format!("Basic realm=\"x, Bearer y\", {text}, Digest scope=\"z\"")]),
            Some(all.clone())
        );
        assert_eq!(read(&["Basic realm=x", text]), Some(all.clone()));
        let spaced = r#"Bearer error = "insufficient_scope" , scope	=  "a b",resource_metadata = "https://a.example/m?x=1,2""#;
        assert_eq!(read(&[spaced]), Some(all.clone()), "blanks may stand round `=`");
        assert_eq!(read(&[&format!("Basic realm = x, {spaced}, Digest scope = z")]), Some(all.clone()));
        assert_eq!(all.scopes().collect::<Vec<_>>(), ["a", "b"]);
        assert!(all.wants_more());
    }

    #[test]
    fn what_is_no_bearer_challenge_is_none() {
        assert_eq!(read(&["bearer"]), Some(Challenge::default()));
        assert_eq!(read(&["BEARER scope=x"]).unwrap().scope.as_deref(), Some("x"));
        assert_eq!(read(&["Basic realm=\"Bearer scope=x\""]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_challenge_is_as_long_as_it_may_be_and_no_longer() {
        let of = |length: usize| format!("Bearer scope={}", "x".repeat(length - "Bearer scope=".len()));
        assert!(read(&[&of(LONGEST)]).is_some());
        assert_eq!(read(&[&of(LONGEST + 1)]), None);
    }
}
