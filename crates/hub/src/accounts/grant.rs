//! Asking a token endpoint for tokens, and what its answers mean (RFC 6749 5).

use mcphub_upstream::{Content, Errand, Fetched};
use serde::Deserialize;
use url::Url;

use super::account::{Account, Granted, Origin, token_request};
use super::discovery::{Site, read};
use crate::error::HubError;
use crate::hub::Hub;

/// The longest code of an error that is repeated.
const LONGEST: usize = 64;

/// What an authorization server says that knows the hub's id no more.
const UNKNOWN_CLIENT: [&str; 2] = ["invalid_client", "unauthorized_client"];

/// Says why there is no token.
#[derive(Debug)]
pub(super) enum NoToken {
    /// The authorization server says no, by this code.
    Refused(String),
    /// Nobody said no, and it may work another time.
    Failed(HubError),
}

/// Is how a token endpoint says no. The rest of what it says is for nobody's eyes.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl NoToken {
    /// Says whether only the person can help: what she has connected is good for nothing any more. An id that stands in the
    /// server's definition is an admin's to mend.
    pub(super) fn is_final(&self, origin: Origin) -> bool {
        let Self::Refused(code) = self else { return false };
        code == "invalid_grant" || (origin != Origin::Definition && UNKNOWN_CLIENT.contains(&code.as_str()))
    }

    /// Says it in words.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Refused(code) => format!("its authorization server gives no token: {code}"),
            Self::Failed(HubError::Account { reason, .. }) => reason.clone(),
            Self::Failed(error) => error.to_string(),
        }
    }

    /// Says it to who connects an account.
    pub(super) fn explain(self, site: &Site<'_>) -> HubError {
        match self {
            Self::Refused(_) => site.fails(self.reason()),
            Self::Failed(error) => error,
        }
    }
}

impl Hub {
    /// Asks a token endpoint for tokens.
    pub(super) async fn ask_for_token(
        &self,
        site: &Site<'_>,
        account: Account,
        fields: &[(&str, &str)],
    ) -> Result<Account, NoToken> {
        let fails = |reason: &str| NoToken::Failed(site.fails(reason));
        let url =
            Url::parse(&account.token_endpoint).map_err(|_| fails("its token endpoint has no address"))?;
        let secret = self.client_secret(site, &account.client).await.map_err(NoToken::Failed)?;
        let (form, authorization) = token_request(fields, &account.client, secret.as_ref());
        let errand = Errand { content: Content::Form(form), authorization, ..Errand::get(url) };
        let granted = read_grant(&self.run(site, errand).await.map_err(NoToken::Failed)?);
        if granted.as_ref().is_err_and(|code| UNKNOWN_CLIENT.contains(&code.as_str())) {
            self.accounts.ways.give_up(&account.issuer, &account.client.id);
        }
        account.granted(granted.map_err(NoToken::Refused)?, self.clock.now()).map_err(fails)
    }
}

/// Reads what a token endpoint says; an error by its code alone.
fn read_grant(fetched: &Fetched) -> Result<Granted, String> {
    if let Some(granted) = read(fetched) {
        return Ok(granted);
    }
    let is_plain = |code: &String| {
        code.len() <= LONGEST && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    // Who fails, or has no time, has not looked at what was asked.
    let refusal = (fetched.status < 500 && fetched.status != 429)
        .then(|| serde_json::from_slice::<Refusal>(&fetched.body).ok())
        .flatten();
    let code = refusal.map(|refusal| refusal.error).filter(is_plain);
    Err(code.unwrap_or_else(|| format!("HTTP {}", fetched.status)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mcphub_upstream::Fetched;

    use super::{NoToken, Origin, read_grant};

    fn read(status: u16, body: &str) -> NoToken {
        let fetched = Fetched { status, body: Bytes::copy_from_slice(body.as_bytes()) };
        NoToken::Refused(read_grant(&fetched).err().unwrap())
    }

    #[test]
    fn only_what_is_said_of_the_account_ends_it() {
        let table = [
            (400, r#"{"error":"invalid_grant","error_description":"who@x.example"}"#, "invalid_grant", true),
            (401, r#"{"error":"invalid_client"}"#, "invalid_client", true),
            (400, r#"{"error":"unauthorized_client"}"#, "unauthorized_client", true),
            (400, r#"{"error":"invalid_target"}"#, "invalid_target", false),
            (400, r#"{"error":"temporarily_unavailable"}"#, "temporarily_unavailable", false),
            (503, r#"{"error":"invalid_grant"}"#, "HTTP 503", false),
            (429, "slow down", "HTTP 429", false),
            (200, "<html>", "HTTP 200", false),
        ];
        for (status, body, code, is_final) in table {
            let none = read(status, body);
            assert_eq!(none.is_final(Origin::Registration), is_final, "{body}");
            // An id that an admin wrote down is hers to mend.
            assert_eq!(none.is_final(Origin::Definition), code == "invalid_grant", "{body}");
            assert_eq!(none.reason(), format!("its authorization server gives no token: {code}"));
        }
    }

    #[test]
    fn nothing_but_a_plain_code_is_repeated() {
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(65));
        for body in [r#"{"error":"the token eyJ0.x is bad"}"#, r#"{"error":"A1"}"#, &long, "eyJ0.x"] {
            assert!(read(400, body).reason().ends_with(": HTTP 400"), "{body}");
        }
    }
}
