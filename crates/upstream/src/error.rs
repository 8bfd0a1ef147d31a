//! What can go wrong between the hub and a server, by what to do next.
//!
//! No text here holds a secret: a URL is shown as its origin, a slot by its name.

use std::time::Duration;

use mcphub_domain::{ServerName, Slot, Timestamp};

use crate::challenge::Challenge;
use crate::outbound::SendError;
use crate::target::TargetError;

/// Says why a server could not be asked, or did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// The person or an admin has to fill in values.
    #[error("{server} needs values that are not set: {}", list(slots))]
    MissingValues {
        /// The server.
        server: ServerName,
        /// The slots without a value.
        slots: Vec<Slot>,
    },
    /// A value has to be replaced by one that can stand where it is needed.
    #[error("{server}: the value for {place} can't be used: {reason}")]
    UnusableValue {
        /// The server.
        server: ServerName,
        /// The header, variable or URL that the value is for.
        place: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server refused the credential: store another.
    #[error("{server} refused the credential (HTTP {status}): {}", advice(challenge.as_ref()))]
    Unauthorized {
        /// The server.
        server: ServerName,
        /// 401 or 403.
        status: u16,
        /// What it said that it wants instead.
        challenge: Option<Challenge>,
    },
    /// An admin has to allow the address, or correct the URL.
    #[error("{server}: {reason}")]
    AddressRefused {
        /// The server.
        server: ServerName,
        /// Which address was refused, and what would allow it.
        reason: String,
    },
    /// An admin has to write the new address into the definition.
    #[error("{server} redirects to {to}: redirects are not followed, so change the server's URL")]
    Redirected {
        /// The server.
        server: ServerName,
        /// The origin that it redirects to.
        to: String,
    },
    /// An admin has to correct the command or what it needs.
    #[error("{server} can't be started: {reason}")]
    NotStarted {
        /// The server.
        server: ServerName,
        /// What the attempt failed with.
        reason: String,
    },
    /// Wait: the server failed several times, and is left alone until the given time.
    #[error("{server} failed several times in a row and is not asked again before {until}")]
    Unavailable {
        /// The server.
        server: ServerName,
        /// When it is tried again.
        until: Timestamp,
    },
    /// Try again later: the server can't be reached, or went away in the middle.
    #[error("{server} can't be reached: {reason}")]
    Unreachable {
        /// The server.
        server: ServerName,
        /// What the attempt failed with.
        reason: String,
    },
    /// Try again later: the server, or what stands before it, says that it can't now.
    #[error("{server} answered HTTP {status}")]
    Failing {
        /// The server.
        server: ServerName,
        /// 429, or 500 to 599.
        status: u16,
    },
    /// Try again later, or give the server a longer deadline.
    #[error("{server} did not answer within {} ms", after.as_millis())]
    TimedOut {
        /// The server.
        server: ServerName,
        /// How long it had.
        after: Duration,
    },
    /// Tell the server's author: it doesn't keep to the protocol.
    #[error("{server} answered something that is not MCP: {reason}")]
    Garbage {
        /// The server.
        server: ServerName,
        /// What was wrong.
        reason: String,
    },
    /// Stop other servers, or wait until idle ones stop.
    #[error("{server} can't be started: {limit} server processes run already, which is the limit {whose}")]
    TooManyProcesses {
        /// The server.
        server: ServerName,
        /// The limit that is reached.
        limit: usize,
        /// Whose limit it is.
        whose: &'static str,
    },
    /// Call again: the connection was closed because a credential, right or definition changed.
    #[error("the connection to {server} was closed: a credential, a right or the server itself changed")]
    Closed {
        /// The server.
        server: ServerName,
    },
    /// Correct the program: the permit is for another server or definition.
    #[error("the permit is not for this connection to {server}")]
    WrongPermit {
        /// The server that was to be called.
        server: ServerName,
    },
    /// Look after the vault: a value that is stored can't be unsealed.
    #[error("the values for {server} can't be unsealed: {reason}")]
    StillSealed {
        /// The server that was to be called.
        server: ServerName,
        /// Why, without any value.
        reason: String,
    },
    /// Call another node: this one stops.
    #[error("the hub is stopping")]
    Stopping,
}

/// Says how far a call came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The server was not ready to be asked.
    Connecting,
    /// It was asked.
    Asking,
}

/// Says whose fault an error is, for the breakers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nobody's: nothing was learnt about the server.
    None,
    /// The caller's or the definition's: the server works.
    Refusal,
    /// What this call asked for, as far as one can tell.
    Call,
    /// The server's, whoever asks it.
    Server,
}

impl UpstreamError {
    /// Says whose fault it is. A server that took a call and is slow, or answers nonsense, fails for
    /// the one who called: the next caller's tool may well work.
    pub(crate) const fn fault(&self, phase: Phase) -> Fault {
        match (self, phase) {
            (Self::Unauthorized { .. } | Self::Redirected { .. }, _) => Fault::Refusal,
            (Self::Unreachable { .. } | Self::NotStarted { .. }, _)
            | (Self::TimedOut { .. } | Self::Garbage { .. }, Phase::Connecting) => Fault::Server,
            (Self::TimedOut { .. } | Self::Garbage { .. }, Phase::Asking) | (Self::Failing { .. }, _) => {
                Fault::Call
            }
            _ => Fault::None,
        }
    }
}

const fn advice(challenge: Option<&Challenge>) -> &'static str {
    match challenge {
        Some(_) => "store a valid one, or, if each person has an account there, give its definition `oauth`",
        None => "store a valid one",
    }
}

fn list(slots: &[Slot]) -> String {
    slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Makes errors about one server.
#[derive(Clone, Debug)]
pub(crate) struct Blame(pub(crate) ServerName);

impl Blame {
    pub(crate) fn unreachable(&self, reason: impl Into<String>) -> UpstreamError {
        UpstreamError::Unreachable { server: self.0.clone(), reason: reason.into() }
    }

    pub(crate) fn garbage(&self, reason: impl Into<String>) -> UpstreamError {
        UpstreamError::Garbage { server: self.0.clone(), reason: reason.into() }
    }

    pub(crate) fn not_started(&self, reason: impl Into<String>) -> UpstreamError {
        UpstreamError::NotStarted { server: self.0.clone(), reason: reason.into() }
    }

    pub(crate) fn timed_out(&self, after: Duration) -> UpstreamError {
        UpstreamError::TimedOut { server: self.0.clone(), after }
    }

    pub(crate) fn closed(&self) -> UpstreamError {
        UpstreamError::Closed { server: self.0.clone() }
    }

    pub(crate) fn target(&self, error: TargetError) -> UpstreamError {
        let server = self.0.clone();
        match error {
            TargetError::MissingValues(slots) => UpstreamError::MissingValues { server, slots },
            TargetError::Unusable { place, reason } => UpstreamError::UnusableValue { server, place, reason },
        }
    }

    pub(crate) fn send(&self, error: SendError) -> UpstreamError {
        match error {
            SendError::Refused(reason) => UpstreamError::AddressRefused { server: self.0.clone(), reason },
            SendError::Failed(reason) => self.unreachable(reason),
        }
    }
}
