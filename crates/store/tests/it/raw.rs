//! A way round the store: its owner's own connection, with which anything can be read and broken.

use mcphub_store::DatabaseUrls;
use mcphub_store::testing::TestDatabase;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row, SqliteConnection};

/// Is a connection as whoever owns the file, or as PostgreSQL's superuser.
pub(crate) enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Is a row of `audit_segments`, whatever it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SegmentRow {
    pub(crate) chain: String,
    pub(crate) first: i64,
    pub(crate) count: i64,
    pub(crate) body: Vec<u8>,
    pub(crate) leaves: Vec<u8>,
    pub(crate) previous: Vec<u8>,
    pub(crate) hash: Vec<u8>,
    pub(crate) root: Vec<u8>,
    pub(crate) at: i64,
}

impl SegmentRow {
    /// Lists the records' lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        String::from_utf8(self.body.clone()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Replaces the records' lines and nothing else.
    pub(crate) fn with_lines(&self, lines: &[String]) -> Self {
        let body = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>().into_bytes();
        Self { body, ..self.clone() }
    }
}

impl Raw {
    pub(crate) async fn open(database: &TestDatabase) -> Self {
        match database.admin_url() {
            Some(url) => Self::login(url).await,
            None => {
                let file = database.place().data_dir.join("mcphub.db");
                Self::Sqlite(SqliteConnectOptions::new().filename(file).connect().await.unwrap())
            }
        }
    }

    /// Connects to PostgreSQL by an address.
    pub(crate) async fn login(url: &str) -> Self {
        Self::Postgres(PgConnection::connect(url).await.unwrap())
    }

    /// Connects to PostgreSQL with the login of requests.
    pub(crate) async fn app(database: &TestDatabase) -> Self {
        let DatabaseUrls::Postgres { app, .. } = &database.place().database else {
            panic!("PostgreSQL only")
        };
        Self::login(app).await
    }

    /// Connects to PostgreSQL with the login that loads the world.
    pub(crate) async fn worker(database: &TestDatabase) -> Self {
        let DatabaseUrls::Postgres { worker, .. } = &database.place().database else {
            panic!("PostgreSQL only")
        };
        Self::login(worker).await
    }

    /// Runs some statements.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => connection.execute(sqlx::raw_sql(sql)).await.map(|_| ()),
            Self::Postgres(connection) => connection.execute(sqlx::raw_sql(sql)).await.map(|_| ()),
        }
    }

    /// Returns the one number that a query has.
    pub(crate) async fn number(&mut self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => {
                connection.fetch_one(sqlx::query(sql)).await.unwrap().get::<i64, _>(0)
            }
            Self::Postgres(connection) => {
                connection.fetch_one(sqlx::query(sql)).await.unwrap().get::<i64, _>(0)
            }
        }
    }

    /// Returns the first column of a query.
    pub(crate) async fn texts(&mut self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => {
                let rows = connection.fetch_all(sqlx::query(sql)).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            Self::Postgres(connection) => {
                let rows = connection.fetch_all(sqlx::query(sql)).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// Lists a chain's segments, or those of all chains in the order of their time.
    pub(crate) async fn segments(&mut self) -> Vec<SegmentRow> {
        const SQL: &str = "SELECT chain, first, count, body, leaves, previous, hash, root, at
                             FROM audit_segments ORDER BY chain, first";
        macro_rules! row {
            ($row:expr) => {
                SegmentRow {
                    chain: $row.get(0),
                    first: $row.get(1),
                    count: $row.get(2),
                    body: $row.get(3),
                    leaves: $row.get(4),
                    previous: $row.get(5),
                    hash: $row.get(6),
                    root: $row.get(7),
                    at: $row.get(8),
                }
            };
        }
        match self {
            Self::Sqlite(connection) => {
                connection.fetch_all(sqlx::query(SQL)).await.unwrap().iter().map(|row| row!(row)).collect()
            }
            Self::Postgres(connection) => {
                connection.fetch_all(sqlx::query(SQL)).await.unwrap().iter().map(|row| row!(row)).collect()
            }
        }
    }

    /// Replaces the whole log, as somebody can who owns the database.
    pub(crate) async fn replace_segments(&mut self, segments: &[SegmentRow]) {
        self.run("BEGIN").await.unwrap();
        self.disarm().await;
        self.run("DELETE FROM audit_segments").await.unwrap();
        for segment in segments {
            self.insert(segment).await;
        }
        self.run("COMMIT").await.unwrap();
    }

    async fn insert(&mut self, segment: &SegmentRow) {
        const SQL: &str = "INSERT INTO audit_segments VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let segment = segment.clone();
        macro_rules! bind {
            ($query:expr) => {
                $query
                    .bind(segment.chain)
                    .bind(segment.first)
                    .bind(segment.count)
                    .bind(segment.body)
                    .bind(segment.leaves)
                    .bind(segment.previous)
                    .bind(segment.hash)
                    .bind(segment.root)
                    .bind(segment.at)
            };
        }
        match self {
            Self::Sqlite(connection) => {
                bind!(sqlx::query(SQL)).execute(connection).await.map(|_| ()).unwrap();
            }
            Self::Postgres(connection) => {
                bind!(sqlx::query(SQL)).execute(connection).await.map(|_| ()).unwrap();
            }
        }
    }

    /// Removes the triggers that keep the log.
    async fn disarm(&mut self) {
        let on = if matches!(self, Self::Postgres(_)) { " ON audit_segments" } else { "" };
        for trigger in ["audit_segments_keep", "audit_segments_stay", "audit_segments_once"] {
            self.run(&format!("DROP TRIGGER IF EXISTS {trigger}{on}")).await.unwrap();
        }
    }

    /// Makes every write of the log fail, until `unblock_log`.
    pub(crate) async fn block_log(&mut self) {
        self.block_records_with("").await;
    }

    /// Makes every write of a record fail that holds these words, until `unblock_log`.
    pub(crate) async fn block_records_with(&mut self, words: &str) {
        let text = match self {
            Self::Sqlite(_) => format!(
                "CREATE TRIGGER block BEFORE INSERT ON audit_segments
                    WHEN instr(CAST(NEW.body AS TEXT), '{words}') BEGIN SELECT RAISE(ABORT, 'blocked'); END"
            ),
            Self::Postgres(_) => format!(
                "CREATE FUNCTION block() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF position('{words}'::bytea IN NEW.body) > 0 THEN RAISE 'blocked'; END IF; RETURN NEW; END $$;
                 CREATE TRIGGER block BEFORE INSERT ON audit_segments FOR EACH ROW EXECUTE FUNCTION block()"
            ),
        };
        self.run(&text).await.unwrap();
    }

    pub(crate) async fn unblock_log(&mut self) {
        let text = match self {
            Self::Sqlite(_) => "DROP TRIGGER block",
            Self::Postgres(_) => "DROP FUNCTION block CASCADE",
        };
        self.run(text).await.unwrap();
    }

    /// Holds the log so that nobody can write it, until `release_log`.
    pub(crate) async fn hold_log(&mut self) {
        let text = match self {
            Self::Sqlite(_) => "BEGIN EXCLUSIVE",
            Self::Postgres(_) => "BEGIN; LOCK TABLE audit_segments IN ACCESS EXCLUSIVE MODE",
        };
        self.run(text).await.unwrap();
    }

    pub(crate) async fn release_log(&mut self) {
        self.run("ROLLBACK").await.unwrap();
    }
}
