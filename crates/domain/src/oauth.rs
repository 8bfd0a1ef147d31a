//! Servers at which each person connects an account of her own, by OAuth 2.1 (RFC 6749, 7636, 8414, 8707, 9728).

use serde::{Deserialize, Serialize};

use crate::name::SlotName;
use crate::template::{Part, Slot, Template};

/// Says how the hub is known where people connect their accounts. Empty, it finds everything out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OAuth {
    /// The authorization server that `clientId` is registered at: no other gets to see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The hub's id there, if somebody has registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The secret that belongs to the id: one `${SHARED_X}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Template>,
    /// What to ask for, instead of what the server wants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// Says what is wrong with such a description.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidOAuth {
    /// A secret belongs to nothing.
    #[error("`clientSecret` belongs to a `clientId`")]
    NoClient,
    /// The secret would stand in the definition.
    #[error("`clientSecret` is one placeholder such as ${{SHARED_CLIENT_SECRET}}, and nothing else")]
    Secret,
    /// A text that is sent has characters that it can't have.
    #[error("{0:?} has characters that can't be sent")]
    Text(String),
    /// Two would set the same header.
    #[error("the hub sets the header `authorization` of a server with `oauth` itself")]
    Header,
    /// Two would fill the same slot.
    #[error("${{USER_OAUTH}} is the account that people connect, and stands nowhere else")]
    Reserved,
}

impl OAuth {
    /// Checks that everything in it can be sent, and that no secret stands in it.
    pub fn check(&self) -> Result<(), InvalidOAuth> {
        if let Some(secret) = &self.client_secret {
            if self.client_id.is_none() {
                return Err(InvalidOAuth::NoClient);
            }
            if !matches!(secret.parts(), [Part::Slot(Slot::Shared(_))]) {
                return Err(InvalidOAuth::Secret);
            }
        }
        let mut texts = self.issuer.iter().chain(&self.client_id).chain(&self.scopes);
        let unfit = texts.find(|text| !is_sendable(text));
        unfit.map_or(Ok(()), |text| Err(InvalidOAuth::Text(text.clone())))
    }

    /// Names the shared slot of the secret.
    pub fn secret_slot(&self) -> Option<Slot> {
        self.client_secret.as_ref()?.slots().into_iter().next()
    }
}

impl Slot {
    /// Names the slot that holds the account which a person has connected.
    pub fn account() -> Self {
        Self::Personal(SlotName::account())
    }

    /// Says whether it is that slot.
    pub fn is_account(&self) -> bool {
        matches!(self, Self::Personal(name) if name.is_account())
    }
}

/// Is what RFC 6749 A allows in an id or a scope.
fn is_sendable(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::OAuth;

    fn good(json: &str) -> bool {
        serde_json::from_str::<OAuth>(json).is_ok_and(|oauth| oauth.check().is_ok())
    }

    #[test]
    fn a_secret_stands_in_the_vault_and_belongs_to_an_id() {
        assert!(good("{}"));
        assert!(good(r#"{"clientId":"a","clientSecret":"${SHARED_S}","scopes":["x:read"]}"#));
        for bad in [
            r#"{"clientSecret":"${SHARED_S}"}"#,
            r#"{"clientId":"a","clientSecret":"literal"}"#,
            r#"{"clientId":"a","clientSecret":"${USER_S}"}"#,
            r#"{"clientId":"a","clientSecret":"x${SHARED_S}"}"#,
            r#"{"clientId":"a b"}"#,
            r#"{"scopes":["a b"]}"#,
            r#"{"scopes":[""]}"#,
            r#"{"secret":"x"}"#,
        ] {
            assert!(!good(bad), "{bad}");
        }
    }
}
