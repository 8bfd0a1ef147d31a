//! What can go wrong, by what the reader can do about it.

use std::path::PathBuf;

/// Says why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The change was based on an old revision of the row.
    #[error("{what} was changed by somebody else: read it again and repeat the change")]
    Stale {
        /// Names the thing.
        what: String,
    },
    /// A name is taken, by a thing of the same or of another kind.
    #[error("the name {name:?} is taken: choose another")]
    Taken {
        /// The name.
        name: String,
    },
    /// What was asked for doesn't exist.
    #[error("{what} does not exist")]
    Missing {
        /// Names the thing.
        what: String,
    },
    /// The database has been used by a newer version of the hub.
    #[error(
        "the database has schema {found}, this version knows {known}: start the newer version, or restore a backup"
    )]
    NewerSchema {
        /// The schema that was found.
        found: i64,
        /// The newest one that is known.
        known: i64,
    },
    /// The database has not been prepared for this version.
    #[error("the database has schema {found}, this version needs {needed}: run `mcphub database prepare`")]
    OlderSchema {
        /// The schema that was found.
        found: i64,
        /// The one that is needed.
        needed: i64,
    },
    /// The login could do what no control could then prevent.
    #[error("the database login {login:?} {power}: use the logins that `mcphub database prepare` makes")]
    TooPowerful {
        /// The login.
        login: String,
        /// What it could do.
        power: &'static str,
    },
    /// The data directory is in use.
    #[error("{path} is in use by another hub: end that one, or give this one another --data-dir", path = path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The audit log can't be written, so nothing may happen.
    #[error("the audit log can't be written: {reason}")]
    AuditUnavailable {
        /// Why.
        reason: String,
    },
    /// What is stored can't be read as what it must be.
    #[error("stored data is damaged: {what}: restore it from a backup")]
    Damaged {
        /// Names the thing and what is wrong.
        what: String,
    },
    /// The settings can't be used.
    #[error("{0}")]
    Settings(String),
    /// A file can't be used.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The database took too long.
    #[error("the database did not answer within 10 seconds")]
    TimedOut,
    /// The database doesn't answer, or not as it should.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// SQLite failed, where the hub calls it itself.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    pub(crate) fn stale(what: impl ToString) -> Self {
        Self::Stale { what: what.to_string() }
    }

    pub(crate) fn missing(what: impl ToString) -> Self {
        Self::Missing { what: what.to_string() }
    }

    pub(crate) fn damaged(what: impl ToString) -> Self {
        Self::Damaged { what: what.to_string() }
    }

    /// Says whether a unique name or id collided.
    pub(crate) fn is_collision(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.is_unique_violation())
    }

    /// Says whether something still refers to what was to go, or refers to what isn't there.
    pub(crate) fn is_reference(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.is_foreign_key_violation())
    }

    /// Says whether the table that was asked for doesn't exist, or isn't there for this login.
    pub(crate) fn is_unknown_table(&self) -> bool {
        const UNDEFINED_TABLE: &str = "42P01";
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE))
    }
}
