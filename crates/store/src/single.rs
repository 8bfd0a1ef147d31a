//! Statements that are transactions by themselves: one round trip instead of three.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{Connection as _, Postgres};
use tokio::time::Instant;

use crate::db::{Db, RESTED};
use crate::direct::Direct;
use crate::error::StoreError;
use crate::sqlite_writer::SqliteWriter;
use crate::statement::{Value, bind, check_parameters, in_time};

/// Runs them, always on the same connection.
pub(crate) struct Single {
    db: Db,
    way: Way,
}

/// Says how they get to the database.
enum Way {
    /// On this thread, in a turn of their own among all who write.
    Sqlite { writer: Arc<SqliteWriter>, direct: Direct },
    /// A pool asks each connection that comes back whether it is well, so this one stays here.
    Postgres { pool: PgPool, kept: Option<(PoolConnection<Postgres>, Instant)> },
}

impl Single {
    /// Has no connection yet.
    pub(crate) fn new(db: Db) -> Self {
        let way = match &db {
            Db::Sqlite { writer, .. } => {
                Way::Sqlite { writer: Arc::clone(writer), direct: Direct::new(writer.file().to_owned()) }
            }
            Db::Postgres(pool) => Way::Postgres { pool: pool.clone(), kept: None },
        };
        Self { db, way }
    }

    /// Shows the database.
    pub(crate) const fn db(&self) -> &Db {
        &self.db
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, StoreError> {
        check_parameters(sql, &values)?;
        match &mut self.way {
            Way::Sqlite { writer, direct } => {
                let _turn = writer.turn().await?;
                in_time(direct.execute(sql, values)).await
            }
            Way::Postgres { pool, kept } => in_time(on_postgres(pool, kept, sql, values)).await,
        }
    }
}

async fn on_postgres(
    pool: &PgPool,
    kept: &mut Option<(PoolConnection<Postgres>, Instant)>,
    sql: &'static str,
    values: Vec<Value>,
) -> Result<u64, sqlx::Error> {
    let mut connection = match kept.take() {
        Some(kept) => well(kept, pool).await?,
        None => pool.acquire().await?,
    };
    let done = bind!(Postgres, sql, values).execute(&mut *connection).await?;
    *kept = Some((connection, Instant::now()));
    Ok(done.rows_affected())
}

/// Makes sure that a connection that rested is still there, or takes another one.
async fn well(
    (mut connection, since): (PoolConnection<Postgres>, Instant),
    pool: &PgPool,
) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    if since.elapsed() < RESTED || connection.ping().await.is_ok() {
        return Ok(connection);
    }
    drop(connection.detach());
    pool.acquire().await
}
