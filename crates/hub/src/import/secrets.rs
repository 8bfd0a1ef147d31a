//! Which literal looks like a secret. Better one too many than one too few: a value that is wrongly
//! taken for a secret still works, and is reported.

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
pub(super) fn is_named(name: &str, value: &str) -> bool {
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
    use super::find;

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
}
