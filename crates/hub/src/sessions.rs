//! Legacy sessions: opened by `initialize`, bound to their owner, known to every node.

use std::time::Duration;

use mcphub_domain::{Event, Principal};
use mcphub_store::sessions::Session;
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;

/// How long, in bytes, what a client says of itself may be.
const LONGEST_CAPABILITIES: usize = 16 * 1024;
/// How often it is noted that a session is in use; it is forgotten long after that.
const NOTED: Duration = Duration::from_secs(3600);

/// Describes a session to open.
#[derive(Debug)]
pub struct NewSession {
    /// The endpoint's path.
    pub endpoint: String,
    /// The negotiated protocol version.
    pub version: String,
    /// The client's capabilities, as JSON.
    pub capabilities: String,
}

impl Hub {
    /// Opens a session and returns its id: 64 hexadecimal digits, known to the client alone.
    pub async fn open_session(&self, caller: &Caller, new: NewSession) -> Result<String, HubError> {
        let Principal::Person { user, key } = caller.principal else {
            return Err(HubError::Invalid("only a person opens a session".to_owned()));
        };
        if new.capabilities.len() > LONGEST_CAPABILITIES {
            let text = format!("the client's capabilities are longer than {LONGEST_CAPABILITIES} bytes");
            return Err(HubError::Invalid(text));
        }
        let id = hex::encode(self.entropy.bytes::<32>());
        let now = self.clock.now();
        let session = Session {
            id_hash: digest(&id),
            owner: user,
            key,
            endpoint: new.endpoint.clone(),
            version: new.version.clone(),
            capabilities: new.capabilities,
            created_at: now,
            seen_at: now,
            ended_at: None,
        };
        let event = Event::SessionOpened { endpoint: new.endpoint, version: new.version };
        self.record_durable(caller, event).await?;
        self.store.add_session(&session).await?;
        Ok(id)
    }

    /// Finds a session of the caller's on an endpoint. Somebody else's, an ended one and an unknown
    /// one are all not found.
    pub async fn find_session(&self, caller: &Caller, endpoint: &str, id: &str) -> Result<Session, HubError> {
        let unknown = || HubError::NotFound { what: "the session".to_owned() };
        let owner = caller.principal.user().ok_or_else(unknown)?;
        let (id_hash, now) = (digest(id), self.clock.now());
        let known = self.sessions.lock().get(&(owner, id_hash)).cloned();
        let mut session = match known {
            Some(session) => session,
            None => self.store.session(owner, &id_hash).await?.ok_or_else(unknown)?,
        };
        if session.ended_at.is_some() || session.endpoint != endpoint {
            return Err(unknown());
        }
        if now.since(session.seen_at) >= NOTED {
            self.sessions.lock().pop(&(owner, id_hash));
            self.store.touch_session(&session, now).await?;
            session.seen_at = now;
        }
        self.sessions.lock().put((owner, id_hash), session.clone());
        Ok(session)
    }

    /// Ends a session of the caller's.
    pub async fn close_session(&self, caller: &Caller, session: &Session) -> Result<(), HubError> {
        self.record_durable(caller, Event::SessionClosed { endpoint: session.endpoint.clone() }).await?;
        self.sessions.lock().pop(&(session.owner, session.id_hash));
        self.store.end_session(session.owner, &session.id_hash).await?;
        Ok(())
    }
}

fn digest(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}
