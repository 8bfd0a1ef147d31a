//! Makes a PostgreSQL database ready: its roles, the database itself, the schema.
//!
//! The owner of the tables is a role that nobody can log in as. The hub's two logins own nothing.

use std::collections::BTreeMap;
use std::fmt;

use mcphub_domain::Entropy;
use url::Url;

use crate::db::{Db, fill, without_password};
use crate::error::StoreError;
use crate::migrate::migrate;
use crate::statement::values;

/// Names the three PostgreSQL roles of an installation.
#[derive(Clone, Debug)]
pub struct Roles {
    /// Owns the tables; nobody logs in as it.
    pub migrator: String,
    /// Serves requests.
    pub app: String,
    /// Loads the world and keeps the search index.
    pub worker: String,
}

impl Roles {
    /// Names the roles of an installation; the usual prefix is `mcphub`.
    pub fn with_prefix(prefix: &str) -> Self {
        let role = |suffix: &str| format!("{prefix}_{suffix}");
        Self { migrator: role("migrator"), app: role("app"), worker: role("worker") }
    }
}

/// Holds the addresses that the hub's configuration needs. A login that existed before keeps its
/// password, which is then not in its address.
pub struct Prepared {
    /// For `database.url`.
    pub app: Url,
    /// For `database.worker_url`.
    pub worker: Url,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("app", &without_password(self.app.as_str()))
            .field("worker", &without_password(self.worker.as_str()))
            .finish()
    }
}

/// Makes the roles, the database and the schema, as far as they don't exist yet.
///
/// `admin_url` is the address of a login that may make roles and databases. It is used here and kept
/// nowhere.
pub async fn prepare(
    admin_url: &str,
    database: &str,
    roles: &Roles,
    entropy: &Entropy,
) -> Result<Prepared, StoreError> {
    let mut url =
        Url::parse(admin_url).map_err(|error| StoreError::Settings(format!("admin URL: {error}")))?;
    if url.query_pairs().any(|(name, _)| matches!(&*name, "user" | "password")) {
        // The addresses that come out of this one would keep them.
        return Err(StoreError::Settings(
            "admin URL: write login and password before the host, not into the query".to_owned(),
        ));
    }
    let admin = Db::postgres(admin_url, 1).await?;
    make_role(&admin, &roles.migrator, "NOLOGIN").await?;
    admin
        .administrate(fill(
            "GRANT {role} TO CURRENT_USER",
            &BTreeMap::from([("role", roles.migrator.clone())]),
        )?)
        .await?;
    let app = make_login(&admin, &roles.app, entropy).await?;
    let worker = make_login(&admin, &roles.worker, entropy).await?;
    make_database(&admin, database, roles).await?;
    admin.close().await;
    url.set_path(database);
    let migrator = Db::postgres_as(url.as_str(), &roles.migrator).await?;
    migrate(&migrator, Some(roles)).await?;
    migrator.close().await;
    Ok(Prepared {
        app: address(&url, &roles.app, app.as_deref())?,
        worker: address(&url, &roles.worker, worker.as_deref())?,
    })
}

async fn make_role(admin: &Db, role: &str, powers: &str) -> Result<bool, StoreError> {
    if exists(admin, "SELECT 1 FROM pg_roles WHERE rolname = $1", role).await? {
        return Ok(false);
    }
    let text = format!("CREATE ROLE {{role}} {powers} NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE");
    admin.administrate(fill(&text, &BTreeMap::from([("role", role.to_owned())]))?).await?;
    Ok(true)
}

async fn make_login(admin: &Db, role: &str, entropy: &Entropy) -> Result<Option<String>, StoreError> {
    let password = hex::encode(entropy.bytes::<24>());
    let made = make_role(admin, role, &format!("LOGIN PASSWORD '{password}'")).await?;
    Ok(made.then_some(password))
}

async fn make_database(admin: &Db, database: &str, roles: &Roles) -> Result<(), StoreError> {
    let names = BTreeMap::from([
        ("database", database.to_owned()),
        ("migrator", roles.migrator.clone()),
        ("app", roles.app.clone()),
        ("worker", roles.worker.clone()),
    ]);
    if !exists(admin, "SELECT 1 FROM pg_database WHERE datname = $1", database).await? {
        let text = "CREATE DATABASE {database} OWNER {migrator} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'";
        admin.administrate(fill(text, &names)?).await?;
    }
    admin.administrate(fill("REVOKE ALL ON DATABASE {database} FROM PUBLIC", &names)?).await?;
    admin.administrate(fill("GRANT CONNECT ON DATABASE {database} TO {app}, {worker}", &names)?).await
}

async fn exists(admin: &Db, sql: &'static str, name: &str) -> Result<bool, StoreError> {
    Ok(admin.read().await?.one(sql, values![name]).await?.is_some())
}

fn address(url: &Url, login: &str, password: Option<&str>) -> Result<Url, StoreError> {
    let mut address = url.clone();
    let set = address.set_username(login).and_then(|()| address.set_password(password));
    set.map_err(|()| StoreError::Settings("admin URL: expected postgres://login@host/".to_owned()))?;
    Ok(address)
}
