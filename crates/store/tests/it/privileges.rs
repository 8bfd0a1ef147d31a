//! What the PostgreSQL logins may do, and which logins the store refuses.

use mcphub_store::testing::TestDatabase;
use mcphub_store::{DatabaseUrls, Place, Process, StoreError};

use crate::build::note;
use crate::raw::Raw;

async fn refused(raw: &mut Raw, statement: &str) -> bool {
    match raw.run(statement).await {
        Ok(()) => false,
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains("permission denied") || text.contains("must be owner"),
                "{statement}: {text}"
            );
            true
        }
    }
}

#[tokio::test]
async fn the_app_can_neither_change_nor_remove_the_log() {
    let database = TestDatabase::postgres().await;
    let store = database.open(Process::Serve).await;
    store.audit().durable(note("kept")).await.unwrap();
    let mut app = Raw::app(&database).await;
    for statement in [
        "UPDATE audit_segments SET body = ''",
        "DELETE FROM audit_segments",
        "TRUNCATE audit_segments",
        "DELETE FROM audit_named",
        "UPDATE audit_named SET size = 0",
        "DROP TABLE audit_segments",
        "DROP TRIGGER audit_segments_keep ON audit_segments",
        "ALTER TABLE audit_segments DISABLE TRIGGER ALL",
        "ALTER TABLE credentials NO FORCE ROW LEVEL SECURITY",
        "DELETE FROM changes",
        "INSERT INTO schema_version VALUES (99)",
        "CREATE TABLE mine (x BIGINT)",
    ] {
        assert!(refused(&mut app, statement).await, "{statement}");
    }
    let roles = database.roles().unwrap();
    for role in [&roles.migrator, &roles.worker] {
        assert!(refused(&mut app, &format!("SET ROLE {role}")).await, "{role}");
    }
    assert!(store.verify(Vec::new()).await.unwrap().findings.is_empty());
}

#[tokio::test]
async fn the_worker_writes_neither_the_world_nor_the_log() {
    let database = TestDatabase::postgres().await;
    database.open(Process::Serve).await;
    let mut worker = Raw::worker(&database).await;
    for table in [
        "users",
        "paths",
        "groups",
        "memberships",
        "servers",
        "grants",
        "tools",
        "shared_values",
        "hub_keys",
        "credentials",
        "world",
        "install",
        "vault_secrets",
        "person_keys",
        "audit_segments",
        "audit_named",
    ] {
        assert!(refused(&mut worker, &format!("INSERT INTO {table} DEFAULT VALUES")).await, "{table}");
        assert!(refused(&mut worker, &format!("DELETE FROM {table}")).await, "{table}");
        assert!(refused(&mut worker, &format!("TRUNCATE {table}")).await, "{table}");
    }
}

#[tokio::test]
async fn what_is_answered_for_is_synced_whatever_the_database_does_by_default() {
    let database = TestDatabase::postgres().await;
    let (mut raw, (_, name)) = (Raw::open(&database).await, database.cluster().unwrap());
    raw.run(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await.unwrap();
    raw.run(
        "CREATE FUNCTION is_synced() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('synchronous_commit') <> 'on' THEN RAISE 'it is not synced'; END IF; RETURN NEW;
         END $$",
    )
    .await
    .unwrap();
    raw.run(
        "CREATE TRIGGER is_synced BEFORE INSERT ON audit_segments FOR EACH ROW EXECUTE FUNCTION is_synced()",
    )
    .await
    .unwrap();
    let store = database.open(Process::Serve).await;
    store.audit().durable(note("first, in a transaction")).await.unwrap();
    store.audit().durable(note("then alone")).await.unwrap();
}

#[tokio::test]
async fn the_logins_own_nothing_and_have_no_powers() {
    let database = TestDatabase::postgres().await;
    let mut raw = Raw::open(&database).await;
    let roles = database.roles().unwrap();
    for login in [&roles.app, &roles.worker] {
        let owned = format!(
            "SELECT relname::text FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = '{login}')"
        );
        assert_eq!(raw.texts(&owned).await, [""; 0]);
        let powers = format!(
            "SELECT COUNT(*) FROM pg_roles WHERE rolname = '{login}' AND rolcanlogin AND NOT
               (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)"
        );
        assert_eq!(raw.number(&powers).await, 1, "{login}");
        let memberships = format!(
            "SELECT COUNT(*) FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = '{login}')"
        );
        assert_eq!(raw.number(&memberships).await, 0, "{login}");
    }
    let migrator =
        format!("SELECT COUNT(*) FROM pg_roles WHERE rolname = '{}' AND rolcanlogin", roles.migrator);
    assert_eq!(raw.number(&migrator).await, 0, "nobody logs in as the owner of the tables");
}

/// Opens the store with other addresses and says which power it is refused for.
async fn power_of(database: &TestDatabase, app: &str, worker: &str) -> Option<&'static str> {
    let urls = DatabaseUrls::Postgres { app: app.to_owned(), worker: worker.to_owned() };
    let place = Place { data_dir: database.place().data_dir.clone(), database: urls };
    match database.try_open_at(&place, Process::Command).await {
        Ok(_) => None,
        Err(StoreError::TooPowerful { power, .. }) => Some(power),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_login_with_too_much_power_is_refused() {
    let database = TestDatabase::postgres().await;
    let DatabaseUrls::Postgres { app, worker } = &database.place().database else {
        panic!("PostgreSQL only")
    };
    let admin = database.admin_url().unwrap();
    assert_eq!(power_of(&database, app, worker).await, None);
    let superuser = Some("is a superuser or bypasses row security");
    assert_eq!(power_of(&database, admin, worker).await, superuser);
    assert_eq!(power_of(&database, app, admin).await, superuser);
    let mut raw = Raw::open(&database).await;
    let roles = database.roles().unwrap();
    let (app_role, migrator) = (&roles.app, &roles.migrator);
    let powers = [
        (format!("ALTER ROLE {app_role} BYPASSRLS"), format!("ALTER ROLE {app_role} NOBYPASSRLS"), superuser),
        (
            format!("ALTER ROLE {app_role} CREATEROLE"),
            format!("ALTER ROLE {app_role} NOCREATEROLE"),
            Some("may make other logins"),
        ),
        (
            format!("GRANT {migrator} TO {app_role}"),
            format!("REVOKE {migrator} FROM {app_role}"),
            Some("owns tables"),
        ),
        (
            format!("CREATE TABLE extra (x BIGINT); ALTER TABLE extra OWNER TO {app_role}"),
            "DROP TABLE extra".to_owned(),
            Some("owns tables"),
        ),
    ];
    for (give, take, power) in powers {
        raw.run(&give).await.unwrap();
        assert_eq!(power_of(&database, app, worker).await, power, "{give}");
        raw.run(&take).await.unwrap();
    }
    assert_eq!(power_of(&database, app, worker).await, None);
}
