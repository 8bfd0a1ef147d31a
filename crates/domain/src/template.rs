//! Texts with placeholders: `Bearer ${USER_GITHUB_TOKEN}`.
//!
//! Substitution is a single pass: a value is never expanded again, and the hub's own environment
//! is out of reach.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::SlotName;

/// Names a value that a server needs and the hub keeps.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Slot {
    /// `${USER_X}`: each person fills in her own.
    Personal(SlotName),
    /// `${SHARED_X}`: an admin sets one value for all.
    Shared(SlotName),
}

/// Names a part of the caller's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Identity {
    /// `${HUB_USER_ID}`.
    Id,
    /// `${HUB_USER_NAME}`.
    Name,
    /// `${HUB_USER_EMAIL}`.
    Email,
}

/// Is one piece of a template.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Part {
    /// Stands for itself.
    Text(String),
    /// Stands for a secret value.
    Slot(Slot),
    /// Stands for a part of the caller's identity.
    Identity(Identity),
}

/// Is a text with placeholders, parsed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(Vec<Part>);

/// Says what is wrong with a placeholder.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTemplate {
    /// The placeholder has no end.
    #[error("a placeholder that begins with `${{` never ends: expected `}}`")]
    Unclosed,
    /// The placeholder is of no known kind.
    #[error(
        "${{{0}}} is not a placeholder: expected ${{USER_X}}, ${{SHARED_X}}, ${{HUB_USER_ID}}, ${{HUB_USER_NAME}} or ${{HUB_USER_EMAIL}}"
    )]
    Unknown(String),
}

impl Slot {
    /// Returns the name without its prefix, as people type it.
    pub const fn name(&self) -> &SlotName {
        match self {
            Self::Personal(name) | Self::Shared(name) => name,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Personal(name) => write!(f, "${{USER_{name}}}"),
            Self::Shared(name) => write!(f, "${{SHARED_{name}}}"),
        }
    }
}

impl Template {
    /// Shows the pieces, in their order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Lists the slots that the text needs.
    pub fn slots(&self) -> BTreeSet<Slot> {
        self.0
            .iter()
            .filter_map(|part| match part {
                Part::Slot(slot) => Some(slot.clone()),
                Part::Text(_) | Part::Identity(_) => None,
            })
            .collect()
    }

    /// Says whether the text depends on who calls.
    pub fn is_personal(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Slot(Slot::Personal(_)) | Part::Identity(_)))
    }

    /// Returns the text, if it has no placeholder.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, opened)) = rest.split_once("${") {
            let (name, after) = opened.split_once('}').ok_or(InvalidTemplate::Unclosed)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(placeholder(name)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

fn placeholder(name: &str) -> Result<Part, InvalidTemplate> {
    let unknown = || InvalidTemplate::Unknown(name.chars().take(80).collect());
    let slot = |rest: &str| rest.parse::<SlotName>().map_err(|_| unknown());
    match name {
        "HUB_USER_ID" => Ok(Part::Identity(Identity::Id)),
        "HUB_USER_NAME" => Ok(Part::Identity(Identity::Name)),
        "HUB_USER_EMAIL" => Ok(Part::Identity(Identity::Email)),
        _ => match (name.strip_prefix("USER_"), name.strip_prefix("SHARED_")) {
            (Some(rest), _) => Ok(Part::Slot(Slot::Personal(slot(rest)?))),
            (_, Some(rest)) => Ok(Part::Slot(Slot::Shared(slot(rest)?))),
            _ => Err(unknown()),
        },
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Slot(slot) => slot.fmt(f),
            Part::Identity(Identity::Id) => f.write_str("${HUB_USER_ID}"),
            Part::Identity(Identity::Name) => f.write_str("${HUB_USER_NAME}"),
            Part::Identity(Identity::Email) => f.write_str("${HUB_USER_EMAIL}"),
        })
    }
}

impl TryFrom<String> for Template {
    type Error = InvalidTemplate;

    fn try_from(text: String) -> Result<Self, InvalidTemplate> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidTemplate, Template};

    #[test]
    fn a_template_survives_its_text_and_names_its_slots() {
        let text = "a ${USER_TOKEN}:${SHARED_SITE}/${HUB_USER_ID} $b {c}";
        let template: Template = text.parse().unwrap();
        assert_eq!(template.to_string(), text);
        let slots: Vec<String> = template.slots().iter().map(ToString::to_string).collect();
        assert_eq!(slots, ["${USER_TOKEN}", "${SHARED_SITE}"]);
        assert!(template.is_personal());
    }

    #[test]
    fn placeholders_of_other_kinds_are_refused() {
        for text in ["${HOME}", "${JWT_SECRET}", "${USER_}", "${USER_a}", "${}", "${HUB_USER_KEY}"] {
            assert!(matches!(text.parse::<Template>(), Err(InvalidTemplate::Unknown(_))), "{text}");
        }
        assert_eq!("${USER_X".parse::<Template>(), Err(InvalidTemplate::Unclosed));
    }
}
