//! Legacy MCP sessions: rows, so that any node and any restart can go on with them.

use mcphub_domain::{KeyId, Timestamp, UserId};

use crate::error::StoreError;
use crate::statement::{Row, values};
use crate::store::Store;

/// Is a session of a client that speaks a protocol version with sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// SHA-256 of the session's id; the id itself is known to the client alone.
    pub id_hash: [u8; 32],
    /// Whose it is.
    pub owner: UserId,
    /// The key it was opened with.
    pub key: KeyId,
    /// The endpoint's path.
    pub endpoint: String,
    /// The negotiated protocol version.
    pub version: String,
    /// The client's capabilities, as JSON.
    pub capabilities: String,
    /// The lowest level of log messages that the client asked for.
    pub log_level: Option<String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, as far as that was noted.
    pub seen_at: Timestamp,
    /// When it was ended.
    pub ended_at: Option<Timestamp>,
}

/// How many sessions one search for surplus finds; the next finds more.
const SURPLUS: i64 = 64;

impl Store {
    /// Adds a session.
    pub async fn add_session(&self, session: &Session) -> Result<(), StoreError> {
        let mut tx = self.app().write().await?;
        tx.act_for(&session.owner.to_string()).await?;
        tx.execute(
            "INSERT INTO sessions (id_hash, owner_id, key_id, endpoint, version, capabilities, created_at, seen_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            values![
                session.id_hash.as_slice(),
                session.owner.to_string(),
                session.key.to_string(),
                session.endpoint.as_str(),
                session.version.as_str(),
                session.capabilities.as_str(),
                session.created_at.as_micros(),
                session.seen_at.as_micros(),
            ],
        )
        .await?;
        tx.commit().await
    }

    /// Finds the live sessions of a person beyond the `keep` that were used last, oldest use first.
    pub async fn surplus_sessions(&self, owner: UserId, keep: usize) -> Result<Vec<Session>, StoreError> {
        let mut tx = self.app().read().await?;
        tx.act_for(&owner.to_string()).await?;
        let rows = tx
            .all(
                "SELECT owner_id, key_id, endpoint, version, capabilities, log_level, created_at, seen_at, ended_at,
                        id_hash
                   FROM sessions WHERE owner_id = $1 AND ended_at IS NULL
                  ORDER BY seen_at DESC, created_at DESC LIMIT $2 OFFSET $3",
                values![owner.to_string(), SURPLUS, i64::try_from(keep).unwrap_or(i64::MAX)],
            )
            .await?;
        rows.iter().rev().map(|row| read(row, row.array(9)?)).collect()
    }

    /// Finds a session of a person. Somebody else's is not found.
    pub async fn session(&self, owner: UserId, id_hash: &[u8; 32]) -> Result<Option<Session>, StoreError> {
        let mut tx = self.app().read().await?;
        tx.act_for(&owner.to_string()).await?;
        let row = tx
            .one(
                "SELECT owner_id, key_id, endpoint, version, capabilities, log_level, created_at, seen_at, ended_at FROM sessions
                  WHERE id_hash = $1 AND owner_id = $2",
                values![id_hash.as_slice(), owner.to_string()],
            )
            .await?;
        row.map(|row| read(&row, *id_hash)).transpose()
    }

    /// Notes that a session of a person is in use, or says that there is none any more.
    pub async fn touch_session(&self, session: &Session, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.app().write().await?;
        tx.act_for(&session.owner.to_string()).await?;
        let touched = tx
            .execute(
                "UPDATE sessions SET seen_at = $2 WHERE id_hash = $1 AND owner_id = $3 AND ended_at IS NULL",
                values![session.id_hash.as_slice(), now.as_micros(), session.owner.to_string()],
            )
            .await?;
        tx.commit().await?;
        if touched == 0 { Err(StoreError::missing("the session")) } else { Ok(()) }
    }

    /// Sets the lowest level of log messages that a session's client hears.
    pub async fn set_log_level(&self, session: &Session, level: &str) -> Result<(), StoreError> {
        let mut tx = self.app().write().await?;
        tx.act_for(&session.owner.to_string()).await?;
        tx.execute(
            "UPDATE sessions SET log_level = $2 WHERE id_hash = $1 AND owner_id = $3 AND ended_at IS NULL",
            values![session.id_hash.as_slice(), level, session.owner.to_string()],
        )
        .await?;
        tx.commit().await
    }

    /// Ends a session of a person.
    pub async fn end_session(&self, owner: UserId, id_hash: &[u8; 32]) -> Result<(), StoreError> {
        let mut tx = self.app().write().await?;
        tx.act_for(&owner.to_string()).await?;
        tx.execute(
            "UPDATE sessions SET ended_at = $2 WHERE id_hash = $1 AND owner_id = $3 AND ended_at IS NULL",
            values![id_hash.as_slice(), self.now().as_micros(), owner.to_string()],
        )
        .await?;
        tx.commit().await
    }
}

fn read(row: &Row, id_hash: [u8; 32]) -> Result<Session, StoreError> {
    Ok(Session {
        id_hash,
        owner: row.parse(0)?,
        key: row.parse(1)?,
        endpoint: row.get(2)?,
        version: row.get(3)?,
        capabilities: row.get(4)?,
        log_level: row.get(5)?,
        created_at: Timestamp::from_micros(row.get(6)?),
        seen_at: Timestamp::from_micros(row.get(7)?),
        ended_at: row.get::<Option<i64>>(8)?.map(Timestamp::from_micros),
    })
}
