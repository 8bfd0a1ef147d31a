//! Brings a database to the schema that this version knows. Forward only: a migration that has run
//! somewhere is never edited.

use std::collections::BTreeMap;

use crate::db::{Db, fill};
use crate::error::StoreError;
use crate::prepare::Roles;
use crate::statement::{Tx, values};

/// Is one step: a text for both databases and what only one of them needs.
struct Migration {
    both: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        both: include_str!("../migrations/0001_foundation.sql"),
        sqlite: include_str!("../migrations/0001_foundation.sqlite.sql"),
        postgres: include_str!("../migrations/0001_foundation.postgres.sql"),
    },
    Migration {
        both: include_str!("../migrations/0002_custody.sql"),
        sqlite: include_str!("../migrations/0002_custody.sqlite.sql"),
        postgres: include_str!("../migrations/0002_custody.postgres.sql"),
    },
    Migration { both: include_str!("../migrations/0003_renewals.sql"), sqlite: "", postgres: "" },
    Migration { both: include_str!("../migrations/0004_closed.sql"), sqlite: "", postgres: "" },
];

/// The schema that this version knows.
pub const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Runs every migration that the database lacks, each in a transaction of its own.
pub(crate) async fn migrate(db: &Db, roles: Option<&Roles>) -> Result<(), StoreError> {
    let mut tx = db.write().await?;
    tx.script("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)".to_owned()).await?;
    tx.commit().await?;
    for (migration, version) in MIGRATIONS.iter().zip(1..) {
        let mut tx = db.write().await?;
        if found(&mut tx).await? < version {
            tx.script(migration.both.to_owned()).await?;
            tx.script(fill(db.dialect(migration.sqlite, migration.postgres), &places(roles))?).await?;
            tx.execute("INSERT INTO schema_version (version) VALUES ($1)", values![version]).await?;
        }
        tx.commit().await?;
    }
    check(db).await
}

/// Refuses a database that is newer or older than this version.
pub(crate) async fn check(db: &Db) -> Result<(), StoreError> {
    let mut tx = db.read().await?;
    let found = found(&mut tx).await?;
    match found {
        SCHEMA => Ok(()),
        newer if newer > SCHEMA => Err(StoreError::NewerSchema { found, known: SCHEMA }),
        _ => Err(StoreError::OlderSchema { found, needed: SCHEMA }),
    }
}

async fn found(tx: &mut Tx) -> Result<i64, StoreError> {
    match tx.one("SELECT COALESCE(MAX(version), 0) FROM schema_version", values![]).await {
        Ok(row) => row.map_or(Ok(0), |row| row.get(0)),
        Err(error) if error.is_unknown_table() => Ok(0),
        Err(error) => Err(error),
    }
}

fn places(roles: Option<&Roles>) -> BTreeMap<&'static str, String> {
    roles
        .map(|roles| {
            BTreeMap::from([
                ("migrator", roles.migrator.clone()),
                ("app", roles.app.clone()),
                ("worker", roles.worker.clone()),
            ])
        })
        .unwrap_or_default()
}
