//! What can go wrong in a use case, by what the caller can do about it.

use std::time::Duration;

use mcphub_domain::audit::Refusal;
use mcphub_domain::{ServerName, SlotName, Timestamp};
use mcphub_policy::Denial;
use mcphub_store::StoreError;
use mcphub_upstream::UpstreamError;
use mcphub_vault::VaultError;
use mcphub_wire::header::HeaderError;

/// Says why a use case was refused or failed. Every refusal has been recorded already.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The caller did not prove who she is.
    #[error("{text}", text = unauthenticated(*.0))]
    Unauthenticated(Refusal),
    /// Her right to it ended while it ran.
    #[error("your right to this has ended")]
    Revoked,
    /// The caller's rights don't allow it, or she may not know that it exists.
    #[error("not allowed")]
    Denied(Denial),
    /// Too many calls.
    #[error("too many calls: wait {after:?} and try again")]
    RateLimited {
        /// How long to wait.
        after: Duration,
    },
    /// A value that the call needs hasn't been filled in, or waits for a confirmation.
    #[error("{0}")]
    MissingCredential(MissingCredential),
    /// The account that she has connected was given a new token: the call has to be made again.
    #[error("the token of your account at {server} was renewed: call again")]
    Renewed {
        /// The server.
        server: ServerName,
    },
    /// The account that she has connected can't be given a new token now; later it may.
    #[error(
        "the token of your account at {server} can't be renewed, and is not tried again before {until}: {reason}"
    )]
    NotRenewed {
        /// The server.
        server: ServerName,
        /// What is wrong, in the hub's own words.
        reason: String,
        /// When it is tried again.
        until: Timestamp,
    },
    /// Nobody can connect an account there, or this attempt came to nothing.
    #[error("no account can be connected at {server}: {reason}")]
    Account {
        /// The server.
        server: ServerName,
        /// What is wrong, in the hub's own words.
        reason: String,
        /// What only the record tells, such as where a name leads.
        aside: Option<String>,
    },
    /// The vault has no key.
    #[error("the hub is sealed: its key file is missing; it unseals by itself when the key is back")]
    Sealed,
    /// The log can't be written, or the database can't confirm who may do what.
    #[error("the hub can't record what it does, so it does nothing: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// What was asked for doesn't exist.
    #[error("{what} does not exist")]
    NotFound {
        /// Names the thing.
        what: String,
    },
    /// What was asked for can't be done as it was said.
    #[error("{0}")]
    Invalid(String),
    /// It collides with something that is there.
    #[error("{0}")]
    Conflict(String),
    /// It is based on a revision that somebody else has changed since.
    #[error("{0}")]
    Stale(String),
    /// The headers of the request say something else than its body.
    #[error("{0}")]
    HeaderMismatch(HeaderError),
    /// The server behind the hub failed.
    #[error("{0}")]
    Upstream(UpstreamError),
    /// Something in the hub itself failed.
    #[error("{0}")]
    Internal(String),
}

/// Names the values that a server needs from the caller before it can be called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingCredential {
    /// The server.
    pub server: ServerName,
    /// The slots that nobody filled in.
    pub missing: Vec<SlotName>,
    /// The slots whose value waits for a confirmation, because the server has moved.
    pub suspended: Vec<SlotName>,
    /// The page that fixes it.
    pub url: String,
}

impl std::fmt::Display for MissingCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |slots: &[SlotName]| slots.iter().map(SlotName::as_str).collect::<Vec<_>>().join(", ");
        write!(f, "The server {} needs", self.server)?;
        let is_account = self.missing.iter().any(SlotName::is_account);
        let missing: Vec<SlotName> = self.missing.iter().filter(|slot| !slot.is_account()).cloned().collect();
        if is_account {
            write!(f, " your account there, connected")?;
        }
        if !missing.is_empty() {
            let and = if is_account { " and" } else { "" };
            write!(f, "{and} your credential {}", names(&missing))?;
        }
        if !self.suspended.is_empty() {
            let and = if self.missing.is_empty() { "" } else { " and" };
            write!(f, "{and} your confirmation of {} (the server has moved)", names(&self.suspended))?;
        }
        write!(f, ". Open {} to fix it.", self.url)
    }
}

const fn unauthenticated(reason: Refusal) -> &'static str {
    match reason {
        Refusal::NoKey => "no hub key: send `Authorization: Bearer mcphub_…`",
        Refusal::MalformedKey => "not a hub key: it is mistyped or cut off",
        Refusal::ExpiredKey => "the hub key has ended: make a new one",
        Refusal::ExposedKey => {
            "a hub key must never stand in a URL: send it as `Authorization: Bearer mcphub_…`, and replace this one"
        }
        _ => "the hub key is not valid",
    }
}

/// Refuses a change of `what`, which has one revision, if it is based on another.
pub(crate) fn check_revision(what: impl std::fmt::Display, has: i64, base: i64) -> Result<(), HubError> {
    if has == base {
        return Ok(());
    }
    Err(HubError::Stale(format!("{what} was changed by somebody else: read it again and repeat the change")))
}

/// Does something with a server, and once more if that refused the token of a person's account, which is a new one now:
/// nothing has run.
pub(crate) async fn again_if_renewed<T, F>(attempt: impl Fn() -> F) -> Result<T, HubError>
where
    F: Future<Output = Result<T, HubError>>,
{
    match attempt().await {
        Err(HubError::Renewed { .. }) => attempt().await,
        done => done,
    }
}

impl From<UpstreamError> for HubError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::StillSealed { .. } => Self::Internal(error.to_string()),
            error => Self::Upstream(error),
        }
    }
}

impl From<Denial> for HubError {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<StoreError> for HubError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::Stale { .. } => Self::Stale(text),
            StoreError::Taken { .. } => Self::Conflict(text),
            StoreError::Missing { what } => Self::NotFound { what },
            StoreError::AuditUnavailable { reason } => Self::Unavailable { reason },
            StoreError::Database(_) | StoreError::Sqlite(_) | StoreError::TimedOut => {
                Self::Unavailable { reason: text }
            }
            StoreError::Settings(_) => Self::Invalid(text),
            StoreError::NewerSchema { .. }
            | StoreError::OlderSchema { .. }
            | StoreError::TooPowerful { .. }
            | StoreError::Locked { .. }
            | StoreError::Damaged { .. }
            | StoreError::File { .. } => Self::Internal(text),
        }
    }
}

impl From<VaultError> for HubError {
    fn from(error: VaultError) -> Self {
        Self::Internal(error.to_string())
    }
}
