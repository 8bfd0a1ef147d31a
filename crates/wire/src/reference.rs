//! What a `completion/complete` request refers to.

use crate::edit::Edit;
use crate::fault::Fault;
use crate::object::{Object, refuse_lookalike};
use crate::params::Params;
use crate::raw::Raw;

/// Says what kind of thing is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceKind {
    /// Refers to a prompt by its name.
    Prompt,
    /// Refers to a resource or template by its URI.
    Resource,
}

impl ReferenceKind {
    const fn key(self) -> &'static str {
        match self {
            Self::Prompt => "name",
            Self::Resource => "uri",
        }
    }
}

/// Holds the `ref` of a completion request.
#[derive(Clone, Debug)]
pub struct Reference {
    kind: ReferenceKind,
    target: Box<str>,
    raw: Raw,
}

impl Reference {
    /// Reads `params.ref`.
    ///
    /// # Errors
    /// Refuses a missing or unknown reference, and keys that resemble `type`, `name` or `uri`.
    pub fn read(params: &Params) -> Result<Self, Fault> {
        let raw = params.get("ref").ok_or(Fault::Invalid("params.ref is missing"))?;
        let object = Object::parse(raw)?;
        for member in object.members() {
            refuse_lookalike(&member.key, &["type", "name", "uri"])?;
        }
        let kind = match object.text("type").as_deref() {
            Some("ref/prompt") => ReferenceKind::Prompt,
            Some("ref/resource") => ReferenceKind::Resource,
            _ => return Err(Fault::Invalid("params.ref.type must be ref/prompt or ref/resource")),
        };
        let target = object.text(kind.key()).ok_or(Fault::Invalid("params.ref names nothing"))?.into();
        Ok(Self { kind, target, raw: raw.clone() })
    }

    /// Returns the whole reference, as it was sent.
    #[must_use]
    pub const fn raw(&self) -> &Raw {
        &self.raw
    }

    /// Returns what kind of thing is meant.
    #[must_use]
    pub const fn kind(&self) -> ReferenceKind {
        self.kind
    }

    /// Returns the name or URI that is meant.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Writes the reference with another target, for `Edit::set("ref", ..)`.
    ///
    /// # Errors
    /// Never in practice: `read` has seen the object.
    pub fn renamed(&self, target: &str) -> Result<Raw, Fault> {
        Edit::new().set(self.kind.key(), Raw::string(target)).apply(&self.raw)
    }
}
