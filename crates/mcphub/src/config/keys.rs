//! The keys that a configuration may have, and what to say about any other.

use figment::value::{Dict, Value};

use super::ConfigError;

/// Says how a key's value is written in a variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Texts with commas between them.
    List,
}

/// The table whose keys are free: variables of child processes.
pub(super) const FREE: &str = "children.environment";

/// Every key, with the sections that it stands in.
pub(super) const KEYS: &[(&str, Kind)] = &[
    ("listen", Kind::Text),
    ("data_dir", Kind::Text),
    ("public_url", Kind::Text),
    ("behind_proxy", Kind::Flag),
    ("profile", Kind::Text),
    ("database.url", Kind::Text),
    ("database.worker_url", Kind::Text),
    ("vault.key_dir", Kind::Text),
    ("vault.provider", Kind::Text),
    ("vault.key", Kind::Text),
    ("audit.heads_dir", Kind::Text),
    ("limits.calls_per_minute", Kind::Number),
    ("limits.concurrent_calls", Kind::Number),
    ("children.path", Kind::Text),
    ("children.idle_seconds", Kind::Number),
    ("children.processes_per_person", Kind::Number),
    ("children.processes", Kind::Number),
    ("children.namespaces", Kind::Text),
    ("http.allowed_hosts", Kind::List),
    ("http.allowed_origins", Kind::List),
];

/// Finds out how a key is written.
pub(super) fn kind(key: &str) -> Option<Kind> {
    KEYS.iter().find(|(known, _)| *known == key).map(|(_, kind)| *kind)
}

/// Refuses keys that mean nothing.
pub(super) fn check(place: &str, values: &Dict) -> Result<(), ConfigError> {
    check_below(place, "", values)
}

/// Builds the error for a key that means nothing.
pub(super) fn unknown(place: &str, key: &str) -> ConfigError {
    ConfigError::UnknownKey { place: place.to_owned(), key: key.to_owned(), nearest: nearest(key) }
}

fn check_below(place: &str, section: &str, values: &Dict) -> Result<(), ConfigError> {
    for (name, value) in values {
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        match value {
            _ if key == FREE || kind(&key).is_some() => {}
            Value::Dict(_, below) if is_section(&key) => check_below(place, &key, below)?,
            _ if is_section(&key) => {
                return Err(ConfigError::invalid(place, format!("{key} is a section: write [{key}]")));
            }
            _ => return Err(unknown(place, &key)),
        }
    }
    Ok(())
}

fn is_section(key: &str) -> bool {
    KEYS.iter().any(|(known, _)| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// Names the known key, or section, that looks most like this one: as a whole, or by its last part for
/// those who forgot the section.
fn nearest(key: &str) -> &'static str {
    let last = |key: &'static str| key.rsplit('.').next().unwrap_or(key);
    let likeness = |known: &'static str| {
        strsim::jaro_winkler(key, known).max(0.95 * strsim::jaro_winkler(key, last(known)))
    };
    let sections = KEYS.iter().filter_map(|(known, _)| known.split_once('.')).map(|(section, _)| section);
    let sections = sections.filter(|_| !key.contains('.'));
    let known = KEYS.iter().map(|(known, _)| *known).chain([FREE]).chain(sections);
    known.max_by(|one, other| likeness(one).total_cmp(&likeness(other))).unwrap_or(FREE)
}
