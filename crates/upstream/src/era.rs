//! Which era an HTTP server speaks: found out by asking, remembered, and asked for again where it turns out wrong.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use mcphub_wire::discover::Discovery;
use mcphub_wire::{Outcome, Version, error};
use tokio::sync::Mutex;

use crate::error::UpstreamError;
use crate::events::EventSession;
use crate::http::{HttpConnection, Own, PROTOCOL_VERSION, SESSION_ID, status_error, unauthorized};
use crate::key::Prefers;
use crate::legacy::Session;
use crate::outgoing::Outgoing;
use crate::response::{Arrival, read_answer};

/// Says how a server wants to be spoken to.
#[derive(Clone)]
pub(crate) enum Era {
    Modern(Version),
    Legacy(Arc<Session>),
    /// With the stream of 2024-11-05.
    Events(Arc<EventSession>),
}

/// Is what is known of a server's era.
#[derive(Default)]
pub(crate) struct KnownEra {
    known: ArcSwapOption<Era>,
    /// Who holds it finds the era out.
    probing: Mutex<()>,
}

impl Era {
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Modern(version) => *version,
            Self::Legacy(session) => session.version,
            Self::Events(session) => session.version,
        }
    }
}

impl HttpConnection {
    /// Returns the era, finding it out first if need be; others wait meanwhile.
    pub(crate) async fn era(self: &Arc<Self>) -> Result<Arc<Era>, UpstreamError> {
        match self.known_era() {
            Some(era) => Ok(era),
            // Boxed, as whatever a call mostly doesn't do: its state would make that of every call large.
            None => Box::pin(self.find_out()).await,
        }
    }

    /// Returns the era, unless its session has ended.
    fn known_era(&self) -> Option<Arc<Era>> {
        self.era.known.load_full().filter(|era| !matches!(&**era, Era::Events(session) if session.is_over()))
    }

    async fn find_out(self: &Arc<Self>) -> Result<Arc<Era>, UpstreamError> {
        let _probing = self.era.probing.lock().await;
        if let Some(era) = self.known_era() {
            return Ok(era);
        }
        let era = Arc::new(self.probe().await?);
        self.era.known.store(Some(Arc::clone(&era)));
        Ok(era)
    }

    /// Forgets an era that turned out wrong, unless another was found since.
    pub(crate) fn forget(&self, assumed: &Arc<Era>) {
        if let Era::Legacy(session) = &**assumed {
            session.over.cancel();
        }
        self.era.known.rcu(|known| match known {
            Some(known) if Arc::ptr_eq(known, assumed) => None,
            known => known.clone(),
        });
    }

    /// Finds the era out, beginning with the one that is preferred. Only a clear answer makes a server modern, and no
    /// single code makes it legacy.
    async fn probe(self: &Arc<Self>) -> Result<Era, UpstreamError> {
        if self.key.prefers == Prefers::Modern
            && let Some(version) = self.discover().await?
        {
            return Ok(Era::Modern(version));
        }
        let refused = match Session::open(self).await {
            Ok(session) => return Ok(Era::Legacy(session)),
            // It answers, but not to `initialize`.
            Err(error @ UpstreamError::Garbage { .. }) => error,
            Err(error) => return Err(error),
        };
        if self.key.prefers == Prefers::Legacy
            && let Some(version) = self.discover().await?
        {
            return Ok(Era::Modern(version));
        }
        match EventSession::open(self).await {
            Ok(session) => Ok(Era::Events(session)),
            Err(UpstreamError::Garbage { .. }) => Err(refused),
            Err(error) => Err(error),
        }
    }

    /// Forgets a session that the server has forgotten.
    pub(crate) fn forget_session(&self, session: &Arc<Session>) {
        session.over.cancel();
        let is_it = |era: &Era| matches!(era, Era::Legacy(known) if Arc::ptr_eq(known, session));
        self.era.known.rcu(|known| known.clone().filter(|known| !is_it(known)));
    }

    /// Opens the stream on which a session's news comes.
    pub(crate) fn hear(self: &Arc<Self>) {
        if let Some(Era::Legacy(session)) = self.era.known.load_full().as_deref() {
            session.hear(self);
        }
    }

    /// Takes leave of the server, if it keeps a session.
    pub(crate) async fn end(&self) {
        let _probed = self.era.probing.lock().await;
        // A stream ends with its session.
        if let Some(Era::Legacy(session)) = self.era.known.swap(None).as_deref() {
            Arc::clone(session).delete(self).await;
        }
    }

    /// Asks which modern version the server speaks, if any.
    async fn discover(self: &Arc<Self>) -> Result<Option<Version>, UpstreamError> {
        let newest = Version::V2026_07_28;
        let id = self.shared.next_id();
        let response = self.post_request(&Outgoing::discover(), id, &Era::Modern(newest)).await?;
        let status = response.status().as_u16();
        if let Some(error) = status_error(&self.blame, &response)
            && !matches!(status, 400..=501)
        {
            return Err(error);
        }
        if matches!(status, 401 | 403) {
            return Err(unauthorized(&self.blame, &response));
        }
        match read_answer(self, response, id).await {
            Ok(Arrival::Response(answer)) => Ok(modern_version(&answer.outcome)),
            Ok(Arrival::Other) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Makes the headers that say which version, and which session, a message belongs to.
pub(crate) fn era_headers(era: &Era) -> Own {
    let mut own = Own::with_capacity(6);
    let version = era.version();
    if version >= Version::V2025_06_18 {
        own.push((PROTOCOL_VERSION, HeaderValue::from_static(version.as_str())));
    }
    if let Era::Legacy(session) = era
        && let Some(id) = &session.id
    {
        own.push((SESSION_ID, id.clone()));
    }
    own
}

/// Reads the version out of an answer to `server/discover` that only a modern server gives.
pub(crate) fn modern_version(outcome: &Outcome) -> Option<Version> {
    match outcome {
        Outcome::Result(result) => Discovery::read(result).ok()?.best_version(),
        Outcome::Error(error) => {
            let modern = matches!(
                error.code,
                error::HEADER_MISMATCH
                    | error::MISSING_CLIENT_CAPABILITY
                    | error::UNSUPPORTED_PROTOCOL_VERSION
            );
            let speaks = |version: &Version| match &error.data {
                Some(data) if error.code == error::UNSUPPORTED_PROTOCOL_VERSION => {
                    String::from_utf8_lossy(data).contains(version.as_str())
                }
                _ => true,
            };
            Version::MODERN.into_iter().find(|version| modern && speaks(version))
        }
    }
}

/// Says whether an error means that the server no longer speaks the era that was assumed.
pub(crate) fn is_of_other_era(outcome: &Outcome, era: &Era) -> bool {
    let Outcome::Error(rpc) = outcome else { return false };
    match era {
        Era::Modern(_) => rpc.code == error::UNSUPPORTED_PROTOCOL_VERSION,
        Era::Legacy(_) | Era::Events(_) => {
            matches!(rpc.code, error::HEADER_MISMATCH | error::UNSUPPORTED_PROTOCOL_VERSION)
        }
    }
}
