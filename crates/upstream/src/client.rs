//! What a server may know, and ask, of the client that a request comes from.

use mcphub_wire::{Abilities, LogLevel, Raw, Trace};

use crate::key::Prefers;

/// Is the software that a person uses, as far as servers may know it. Its name stays in the hub.
#[derive(Clone, Debug)]
pub struct Client {
    /// Names its session with the hub, if it has one.
    pub session: Option<[u8; 32]>,
    /// What it declared, for servers that are told with each request.
    pub capabilities: Raw,
    /// What of that decides what a server may ask for.
    pub abilities: Abilities,
    /// In whose words it speaks, and so a server of both eras best speaks with the hub.
    pub prefers: Prefers,
    /// The lowest level of log messages that it wants, if any.
    pub log_level: Option<LogLevel>,
    /// The span that its request is sent on in, if it belongs to a trace.
    pub trace: Option<Trace>,
}

impl Client {
    /// Can do nothing, and wants to hear nothing.
    pub const NOBODY: Self = Self {
        session: None,
        capabilities: Raw::empty_object(),
        abilities: Abilities::NONE,
        prefers: Prefers::Modern,
        log_level: None,
        trace: None,
    };

    /// Can do what is listed.
    pub fn able(abilities: Abilities) -> Self {
        Self { capabilities: abilities.to_raw(), abilities, ..Self::NOBODY }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::NOBODY
    }
}
