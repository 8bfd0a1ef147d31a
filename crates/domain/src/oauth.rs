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
    /// The hub's id there, if somebody has registered it; it belongs to the `issuer`.
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
    /// An id would go to whomever the server names.
    #[error("`clientId` belongs to an `issuer`: the authorization server where it is registered")]
    NoIssuer,
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
        if self.client_id.is_some() && self.issuer.is_none() {
            return Err(InvalidOAuth::NoIssuer);
        }
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
    use super::{InvalidOAuth, OAuth};
    use crate::server::{InvalidServer, ServerDefinition};

    fn check(json: &str) -> Result<(), InvalidOAuth> {
        serde_json::from_str::<OAuth>(json).unwrap().check()
    }

    #[test]
    fn a_secret_stands_in_the_vault_and_belongs_to_an_id_and_an_id_to_an_issuer() {
        use InvalidOAuth::{NoClient, NoIssuer, Secret, Text};
        let table = [
            ("{}", None),
            (r#"{"issuer":"https://i.example"}"#, None),
            (r#"{"issuer":"https://i.example","clientId":"a"}"#, None),
            (r#"{"issuer":"i","clientId":"a","clientSecret":"${SHARED_S}","scopes":["x:read"]}"#, None),
            (r#"{"clientId":"a"}"#, Some(NoIssuer)),
            (r#"{"clientId":"a","clientSecret":"${SHARED_S}"}"#, Some(NoIssuer)),
            (r#"{"issuer":"i","clientSecret":"${SHARED_S}"}"#, Some(NoClient)),
            (r#"{"issuer":"i","clientId":"a","clientSecret":"literal"}"#, Some(Secret)),
            (r#"{"issuer":"i","clientId":"a","clientSecret":"${USER_S}"}"#, Some(Secret)),
            (r#"{"issuer":"i","clientId":"a","clientSecret":"x${SHARED_S}"}"#, Some(Secret)),
            (r#"{"issuer":"i","clientId":"a b"}"#, Some(Text("a b".into()))),
            (r#"{"issuer":"i j"}"#, Some(Text("i j".into()))),
            (r#"{"scopes":["a b"]}"#, Some(Text("a b".into()))),
            (r#"{"scopes":[""]}"#, Some(Text(String::new()))),
        ];
        for (json, wrong) in table {
            assert_eq!(check(json).err(), wrong, "{json}");
        }
        assert!(serde_json::from_str::<OAuth>(r#"{"secret":"x"}"#).is_err());
    }

    #[test]
    fn the_token_is_the_hubs_to_send_and_the_accounts_slot_is_nobody_elses() {
        use InvalidOAuth::{Header, Reserved};
        let http = r#""type":"streamable-http","url":"https://a.example""#;
        let table = [
            (format!(r#"{{{http},"oauth":{{}}}}"#), None),
            (format!(r#"{{{http},"oauth":{{}},"headers":{{"x-a":"${{USER_T}}"}}}}"#), None),
            (format!(r#"{{{http},"oauth":{{}},"headers":{{"authorization":"${{USER_T}}"}}}}"#), Some(Header)),
            (format!(r#"{{{http},"oauth":{{}},"headers":{{"x-a":"${{USER_OAUTH}}"}}}}"#), Some(Reserved)),
            (format!(r#"{{{http},"headers":{{"x-a":"${{USER_OAUTH}}"}}}}"#), Some(Reserved)),
            (
                r#"{"type":"streamable-http","url":"https://a.example/${USER_OAUTH}"}"#.to_owned(),
                Some(Reserved),
            ),
            (r#"{"type":"stdio","command":"x","env":{"T":"${USER_OAUTH}"}}"#.to_owned(), Some(Reserved)),
        ];
        for (json, wrong) in table {
            let found = serde_json::from_str::<ServerDefinition>(&json).unwrap().check().err();
            assert_eq!(found, wrong.map(InvalidServer::OAuth), "{json}");
        }
    }
}
