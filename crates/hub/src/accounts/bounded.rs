//! Texts that others chose: no longer, and no more of them, than anybody needs. What a hostile server costs is this and no more.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// How long an address is, or an issuer.
pub(super) const ADDRESS: usize = 2048;
/// How long a word is, such as a scope.
pub(super) const WORD: usize = 256;
/// How many words are kept.
pub(super) const WORDS: usize = 64;
/// How long the hub's id at an authorization server is, and the secret that it gets there.
pub(crate) const CLIENT: usize = 4096;
/// How much of a text that others chose is shown.
const SHOWN: usize = 100;

/// Reads an address, or what is compared with one.
pub(super) fn address<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    parse(&String::deserialize(deserializer)?)
}

/// Reads an address that may be missing.
pub(super) fn some_address<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    Option::<String>::deserialize(deserializer)?.map(|text| parse(&text)).transpose()
}

/// Reads a list of addresses; those beyond the bounds are left out.
pub(super) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(Texts { longest: ADDRESS })
}

/// Reads a list of words; those beyond the bounds are left out.
pub(super) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(Texts { longest: WORD })
}

/// Reads a list of words that may be missing.
pub(super) fn some_words<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    struct Words(Vec<String>);
    impl<'de> Deserialize<'de> for Words {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            words(deserializer).map(Self)
        }
    }
    Ok(Option::<Words>::deserialize(deserializer)?.map(|Words(words)| words))
}

/// Keeps each word once, in order, and no more than the bounds allow.
pub(super) fn few(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut few: Vec<String> = Vec::new();
    for word in words.filter(|word| is_kept(word, WORD)) {
        if few.len() < WORDS && !few.contains(&word) {
            few.push(word);
        }
    }
    few
}

/// Cuts a text that is shown to people.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn parse<T: FromStr<Err: Display>, E: Error>(text: &str) -> Result<T, E> {
    match text {
        text if text.len() > ADDRESS => Err(E::custom("an address is too long")),
        text => text.parse().map_err(E::custom),
    }
}

fn is_kept(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads a list without keeping more of it than is wanted.
struct Texts {
    longest: usize,
}

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < WORDS {
            match list.next_element::<String>()? {
                Some(text) if is_kept(&text, self.longest) => kept.push(text),
                Some(_) => {}
                None => return Ok(kept),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESS, WORD, WORDS, few, shown};
    use crate::accounts::metadata::{Authority, Resource};

    #[test]
    fn a_hostile_description_is_kept_within_bounds() {
        let many = vec!["a"; 65_536];
        let long = "b".repeat(WORD + 1);
        let text = serde_json::json!({
            "resource": "https://a.example", "authorization_servers": many, "scopes_supported": [long, "c", "d e", "f"],
        });
        let resource: Resource = serde_json::from_value(text).unwrap();
        assert_eq!(
            (resource.authorization_servers.len(), resource.scopes_supported),
            (WORDS, vec!["c".into(), "f".into()])
        );
        let authority = |issuer: &str, token: &str| {
            let text = serde_json::json!({
                "issuer": issuer, "authorization_endpoint": "https://a.example/a", "token_endpoint": token,
                "registration_endpoint": null, "token_endpoint_auth_methods_supported": many,
            });
            serde_json::from_str::<Authority>(&text.to_string())
        };
        let kept = authority("https://a.example", "https://a.example/t").unwrap();
        assert_eq!(kept.token_endpoint_auth_methods_supported.map(|methods| methods.len()), Some(WORDS));
        let path = "x".repeat(ADDRESS);
        assert!(authority(&format!("https://a.example/{path}"), "https://a.example/t").is_err());
        assert!(authority("https://a.example", &format!("https://a.example/{path}")).is_err());
    }

    #[test]
    fn words_are_kept_once_and_in_order() {
        let words = |text: &str| few(text.split(' ').map(str::to_owned)).join(" ");
        assert_eq!(words("b a b  c"), "b a c");
        assert_eq!(few((0..1000).map(|number| number.to_string())).len(), WORDS);
        assert_eq!(few([String::from("x").repeat(WORD + 1)].into_iter()).len(), 0);
        assert_eq!(shown(&"é".repeat(1000)).chars().count(), 100);
    }
}
