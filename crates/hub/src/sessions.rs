//! Legacy sessions: opened by `initialize`, bound to their owner, known to every node.

use std::time::Duration;

use mcphub_domain::{Event, Principal, UserId};
use mcphub_store::sessions::Session;
use mcphub_wire::method;
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::recent::Recent;

/// How many sessions a person may have open; the one that was used longest ago makes room.
pub const SESSIONS_PER_PERSON: usize = 1_000;
/// How long, in bytes, what a client says of itself may be.
pub const LONGEST_CAPABILITIES: usize = 16 * 1024;
/// How many sessions are kept in memory; the others are rows.
const KEPT: usize = 16_384;
/// How long a session is taken to be as it was read: so long another node may not know what became of it.
const HOLDS: Duration = Duration::from_mins(1);
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

/// Is a session that was opened.
#[derive(Debug)]
pub struct OpenedSession {
    /// Its id: 64 hexadecimal digits, known to the client alone.
    pub id: String,
    /// The sessions that made room for it; whatever is open of them ends.
    pub ended: Vec<[u8; 32]>,
}

impl Hub {
    /// Opens a session. A person who has too many loses those that she used longest ago.
    pub async fn open_session(&self, caller: &Caller, new: NewSession) -> Result<OpenedSession, HubError> {
        let Principal::Person { user, key } = caller.principal else {
            return Err(HubError::Invalid("only a person opens a session".to_owned()));
        };
        if new.capabilities.len() > LONGEST_CAPABILITIES {
            let text = format!("the client's capabilities are longer than {LONGEST_CAPABILITIES} bytes");
            return Err(HubError::Invalid(text));
        }
        let id = self.unguessable();
        let now = self.clock.now();
        let session = Session {
            id_hash: digest(&id),
            owner: user,
            key,
            endpoint: new.endpoint.clone(),
            version: new.version.clone(),
            capabilities: new.capabilities,
            log_level: None,
            created_at: now,
            seen_at: now,
            ended_at: None,
        };
        let event = Event::SessionOpened { endpoint: new.endpoint, version: new.version };
        self.record_durable(caller, event).await?;
        let ended = self.make_room(caller, user).await?;
        self.store.add_session(&session).await?;
        Ok(OpenedSession { id, ended })
    }

    /// Makes an id that nobody guesses: 64 hexadecimal digits.
    pub fn unguessable(&self) -> String {
        hex::encode(self.entropy.bytes::<32>())
    }

    /// Ends the sessions of a person that leave no place for another one.
    async fn make_room(&self, caller: &Caller, user: UserId) -> Result<Vec<[u8; 32]>, HubError> {
        let surplus = self.store.surplus_sessions(user, SESSIONS_PER_PERSON - 1).await?;
        for session in &surplus {
            self.close_session(caller, session).await?;
        }
        Ok(surplus.into_iter().map(|session| session.id_hash).collect())
    }

    /// Finds a session of the caller's on an endpoint. Somebody else's, an ended one and an unknown
    /// one are all not found.
    pub async fn find_session(&self, caller: &Caller, endpoint: &str, id: &str) -> Result<Session, HubError> {
        let unknown = || HubError::NotFound { what: "the session".to_owned() };
        let owner = caller.principal.user().ok_or_else(unknown)?;
        let (id_hash, now) = (digest(id), self.clock.now());
        let mut session = match self.sessions.get(&(owner, id_hash)) {
            Some(session) => session,
            None => self.read_session(owner, id_hash).await?.ok_or_else(unknown)?,
        };
        if session.ended_at.is_some() || session.endpoint != endpoint {
            return Err(unknown());
        }
        if now.since(session.seen_at) >= NOTED {
            self.store.touch_session(&session, now).await?;
            session.seen_at = now;
            self.sessions.change(&(owner, id_hash), |known| known.seen_at = now);
        }
        Ok(session)
    }

    async fn read_session(&self, owner: UserId, id_hash: [u8; 32]) -> Result<Option<Session>, HubError> {
        let session = self.store.session(owner, &id_hash).await?;
        Ok(session.map(|session| self.sessions.get_or_put((owner, id_hash), session)))
    }

    /// Sets the lowest level of log messages that a session's client hears.
    pub async fn set_log_level(
        &self,
        caller: &Caller,
        session: &Session,
        level: &str,
    ) -> Result<(), HubError> {
        self.record_read(caller, method::SET_LEVEL, Some(&session.endpoint), 0).await;
        self.store.set_log_level(session, level).await?;
        let key = (session.owner, session.id_hash);
        self.sessions.change(&key, |known| known.log_level = Some(level.to_owned()));
        Ok(())
    }

    /// Lets servers that work for the caller alone hear, at her next call, that her client's folders have changed.
    pub fn roots_changed(&self, caller: &Caller, session: &Session) {
        if let Some(user) = caller.principal().user() {
            self.upstreams.roots_changed(user, session.id_hash);
        }
    }

    /// Ends a session of the caller's.
    pub async fn close_session(&self, caller: &Caller, session: &Session) -> Result<(), HubError> {
        self.record_durable(caller, Event::SessionClosed { endpoint: session.endpoint.clone() }).await?;
        let (key, ended_at) = ((session.owner, session.id_hash), Some(self.clock.now()));
        // From here on nobody finds it, whoever reads it meanwhile, and even if nobody waits for the end.
        self.sessions.put(key, Session { ended_at, ..session.clone() });
        let ended = self.store.end_session(session.owner, &session.id_hash).await;
        if ended.is_err() {
            self.sessions.remove(&key);
        }
        Ok(ended?)
    }
}

/// Makes the place for the sessions in memory, by owner and the id's digest.
pub(crate) fn known() -> Recent<(UserId, [u8; 32]), Session> {
    Recent::new(KEPT, HOLDS)
}

fn digest(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use mcphub_domain::{KeyId, Timestamp, UserId};
    use tokio::time::advance;

    use super::{HOLDS, KEPT, Session, known};
    use crate::recent::tests::assert_kept;

    fn session(number: usize) -> ((UserId, [u8; 32]), Session) {
        let (owner, mut id_hash) = (UserId::from_bytes([1; 16]), [0; 32]);
        id_hash[..8].copy_from_slice(&number.to_be_bytes());
        let session = Session {
            id_hash,
            owner,
            key: KeyId::from_bytes([2; 16]),
            endpoint: String::new(),
            version: String::new(),
            capabilities: String::new(),
            log_level: None,
            created_at: Timestamp::from_micros(0),
            seen_at: Timestamp::from_micros(0),
            ended_at: None,
        };
        ((owner, id_hash), session)
    }

    #[test]
    fn so_many_sessions_are_in_memory() {
        assert_kept(&known(), KEPT, session);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_read_again_after_so_long() {
        let (known, (key, session)) = (known(), session(1));
        known.put(key, session);
        advance(HOLDS).await;
        assert_eq!(known.get(&key), None, "another node may have ended it");
    }
}
