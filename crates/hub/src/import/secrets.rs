//! Which literal looks like a secret. Better one too many than one too few: a value that is wrongly
//! taken for a secret still works, and is reported.

use std::collections::BTreeMap;

use mcphub_domain::template::Part;
use mcphub_domain::{ServerDefinition, Template, Transport};

use super::slot_name;

/// Beginnings that only secrets have.
const BEGINNINGS: &[&str] = &[
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_",
    "pk_live_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "npm_",
    "pypi-",
    "hf_",
    "mcphub_",
    "dop_v1_",
    "shpat_",
    "SG.",
    "-----BEGIN",
];

/// Words in the name of a variable or header whose value is a secret.
const WORDS: &[&str] = &[
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "APIKEY",
    "API_KEY",
    "AUTHORIZATION",
    "CREDENTIAL",
    "PRIVATE_KEY",
    "ACCESS_KEY",
];

/// Words before a secret in a header.
const SCHEMES: &[&str] = &["Bearer ", "bearer ", "Basic ", "basic ", "Token ", "token "];

/// Finds a literal that looks like a secret in a definition, and says where it stands and what to do,
/// without repeating it. A definition is shown to many, and the log keeps it for ever.
pub(crate) fn literal_secret(definition: &ServerDefinition) -> Option<String> {
    match &definition.transport {
        Transport::Http(target) => {
            in_url(&target.url.to_string()).or_else(|| in_table("headers", &target.headers))
        }
        Transport::Stdio(target) => {
            let args: Vec<String> = target.args.iter().map(ToString::to_string).collect();
            in_args(&args).or_else(|| in_table("env", &target.env))
        }
    }
}

/// Finds an argument that looks like a secret. Arguments are visible to everybody on the machine, so it
/// can't stay, and can't become a placeholder either.
pub(super) fn in_args(args: &[String]) -> Option<String> {
    let mut flag = "";
    for arg in args {
        let (name, value) = arg.split_once('=').unwrap_or((flag, arg));
        if is_named(name, value) || is_named("", arg) {
            let place =
                if name.starts_with('-') { format!("the value of {name:?}") } else { "one".to_owned() };
            return Some(format!(
                "args: {place} looks like a secret, and arguments are visible to everybody on the machine; \
                 put it in `env`"
            ));
        }
        flag = if arg.starts_with('-') { arg } else { "" };
    }
    None
}

/// Finds the secret in a pair of a URL's query: its name and its value.
pub(super) fn in_pair(pair: &str) -> Option<(String, String)> {
    let (name, value) = url::form_urlencoded::parse(pair.as_bytes()).next()?;
    let secret = !value.contains("${") && find(&name, &value).is_some();
    secret.then(|| (name.into_owned(), value.into_owned()))
}

/// Says whether a part of a URL's path is a secret.
pub(super) fn is_segment(segment: &str) -> bool {
    !segment.contains("${") && find("", segment).is_some()
}

fn in_url(url: &str) -> Option<String> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    // The first three are the scheme, nothing, and the host.
    if path.split('/').skip(3).any(is_segment) {
        return Some(advice("url", "a part of the path", "URL"));
    }
    let (name, _) = query.split('&').find_map(in_pair)?;
    Some(advice("url", "a value of the query", &name))
}

fn in_table(table: &str, values: &BTreeMap<String, Template>) -> Option<String> {
    let (name, _) = values.iter().find(|(name, value)| holds_secret(name, value))?;
    Some(advice(table, &format!("the value of {name:?}"), name))
}

fn holds_secret(name: &str, value: &Template) -> bool {
    let secret = |word: &str| is_named("", word) || is_random(word);
    match value.literal() {
        Some(text) => find(name, text).is_some(),
        None => value.parts().iter().any(|part| match part {
            Part::Text(text) => text.split([' ', ':', ',', ';']).any(secret),
            Part::Slot(_) | Part::Identity(_) => false,
        }),
    }
}

fn advice(place: &str, what: &str, name: &str) -> String {
    let slot = slot_name(name).map_or_else(|| "SECRET".to_owned(), |slot| slot.to_string());
    format!(
        "{place}: {what} looks like a secret, which a definition must not hold: write ${{SHARED_{slot}}} there, \
         and set that value for itself"
    )
}

/// Finds the secret in a literal value, given the name that it stands under: the text before it, and
/// the secret.
pub(super) fn find<'v>(name: &str, value: &'v str) -> Option<(&'v str, &'v str)> {
    let (before, secret) = SCHEMES
        .iter()
        .find_map(|scheme| {
            value.strip_prefix(scheme).map(|rest| (value.get(..scheme.len()).unwrap_or(""), rest))
        })
        .unwrap_or(("", value));
    let scheme = !before.is_empty() && !secret.is_empty();
    (is_named(name, secret) || scheme || is_random(secret)).then_some((before, secret))
}

/// Says whether a value is a secret by the name that it stands under, or by its own beginning.
fn is_named(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    let named = WORDS.iter().any(|word| name.contains(word)) && value.len() >= 4 && !value.contains("${");
    named || (BEGINNINGS.iter().any(|beginning| value.starts_with(beginning)) && value.len() >= 12)
}

/// Says whether a text looks drawn by chance: long, of one alphabet, with digits among the letters.
fn is_random(text: &str) -> bool {
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+/=".contains(&byte);
    let count = |kind: fn(&u8) -> bool| text.bytes().filter(kind).count();
    let (digits, letters) = (count(u8::is_ascii_digit), count(u8::is_ascii_alphabetic));
    text.len() >= 24 && text.bytes().all(alphabet) && !text.starts_with('/') && digits >= 4 && letters >= 4
}

#[cfg(test)]
mod tests {
    use super::{find, literal_secret};

    #[test]
    fn secrets_are_found_and_plain_values_left_alone() {
        let table = [
            ("GITHUB_TOKEN", "abcd1234", Some(("", "abcd1234"))),
            ("authorization", "Bearer abc", Some(("Bearer ", "abc"))),
            ("X", "ghp_0123456789abcdef", Some(("", "ghp_0123456789abcdef"))),
            ("X", "c2VjcmV0LXRva2VuLTEyMzQ1Njc4", Some(("", "c2VjcmV0LXRva2VuLTEyMzQ1Njc4"))),
            ("LOG_LEVEL", "debug", None),
            ("SITE", "https://example.org/some/long/path/12345", None),
            ("HOME", "/var/lib/some/long/directory/name1234", None),
            ("NODE_ENV", "production", None),
        ];
        for (name, value, expected) in table {
            assert_eq!(find(name, value), expected, "{name}={value}");
        }
    }

    #[test]
    fn a_definition_is_told_where_its_secret_is_but_not_which() {
        let http = |rest: &str| format!(r#"{{"type":"streamable-http","url":"https://a.example/mcp{rest}}}"#);
        let stdio = |rest: &str| format!(r#"{{"type":"stdio","command":"x",{rest}}}"#);
        let table = [
            (http(r#"","headers":{"authorization":"Bearer c4n4ry"}"#), Some("${SHARED_AUTHORIZATION}")),
            (http(r#"","headers":{"x-a":"${USER_X}:ghp_c4n4ry0123456"}"#), Some("${SHARED_X_A}")),
            (http(r#"/sk-c4n4ry0123456789""#), Some("${SHARED_URL}")),
            (http(r#"?page=2&api_key=c4n4ry""#), Some("${SHARED_API_KEY}")),
            (stdio(r#""env":{"DB_PASSWORD":"c4n4ry"}"#), Some("${SHARED_DB_PASSWORD}")),
            (stdio(r#""args":["--token","c4n4ry"]"#), Some("--token")),
            (stdio(r#""args":["ghp_c4n4ry0123456="]"#), Some("args: one looks")),
            (stdio(r#""args":["ghp_c4n4ry0123456"]"#), Some("args: one looks")),
            (
                http(r#"/${USER_PATH}?key=${SHARED_KEY}","headers":{"authorization":"Bearer ${USER_T}"}"#),
                None,
            ),
            (
                stdio(r#""args":["-y","jira-mcp@1.2.3"],"env":{"LOG":"debug","T":"Token token=${USER_T}"}"#),
                None,
            ),
        ];
        for (json, expected) in table {
            let told = literal_secret(&serde_json::from_str(&json).unwrap());
            assert_eq!(told.is_some(), expected.is_some(), "{json}: {told:?}");
            let told = told.unwrap_or_default();
            assert!(
                told.contains(expected.unwrap_or_default()) && !told.contains("c4n4ry"),
                "{json}: {told}"
            );
        }
    }
}
