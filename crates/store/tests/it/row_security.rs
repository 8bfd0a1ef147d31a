//! PostgreSQL shows people's own rows to their owner alone, whatever the query.

use mcphub_domain::{CredentialId, Membership};
use mcphub_store::sessions::Session;
use mcphub_store::testing::TestDatabase;
use mcphub_store::{DatabaseUrls, Process, Store, StoreError};

use crate::build::{group, key, membership, sealed, server, user, write};
use crate::raw::Raw;

const TABLES: [&str; 4] = ["credentials", "hub_keys", "sessions", "person_keys"];

/// Opens a store in which alice and bob have one row in each table of their own.
async fn start(database: &TestDatabase) -> Store {
    let store = database.open(Process::Serve).await;
    let github = server("github");
    write(&store, async |tx| tx.add_server(&github).await).await.unwrap();
    for (number, name) in ["alice", "bob"].into_iter().enumerate() {
        let (owner, laptop) = (user(name), key(&format!("{name}-laptop"), &user(name)));
        let mut token = sealed("TOKEN", Some(&owner), &github);
        token.id = CredentialId::from_bytes([number as u8; 16]);
        write(&store, async |tx| {
            tx.add_user(&owner).await?;
            tx.act_for(owner.id).await?;
            tx.add_key(&laptop).await?;
            tx.put_credential(owner.id, &token).await
        })
        .await
        .unwrap();
        store.person_key(owner.id, b"sealed").await.unwrap();
        let session = Session {
            id_hash: [number as u8; 32],
            owner: owner.id,
            key: laptop.id,
            endpoint: "/mcp".to_owned(),
            version: "2025-06-18".to_owned(),
            capabilities: "{}".to_owned(),
            log_level: None,
            created_at: owner.created_at,
            seen_at: owner.created_at,
            ended_at: None,
        };
        store.add_session(&session).await.unwrap();
    }
    store
}

async fn count(raw: &mut Raw, table: &str) -> i64 {
    raw.number(&format!("SELECT COUNT(*) FROM {table}")).await
}

/// Begins a transaction in the context of a person.
async fn act_for(raw: &mut Raw, name: &str) {
    let id = user(name).id;
    raw.run(&format!("BEGIN; SELECT set_config('mcphub.principal', '{id}', true)")).await.unwrap();
}

#[tokio::test]
async fn without_a_person_there_is_no_row() {
    let database = TestDatabase::postgres().await;
    let _store = start(&database).await;
    let mut app = Raw::app(&database).await;
    for table in TABLES {
        assert_eq!(count(&mut app, table).await, 0, "{table}");
    }
    app.run("DELETE FROM credentials").await.unwrap();
    let mut owner = Raw::open(&database).await;
    for table in TABLES {
        assert_eq!(count(&mut owner, table).await, 2, "{table}: nothing was removed either");
    }
}

#[tokio::test]
async fn a_person_has_her_own_rows_and_no_other() {
    let database = TestDatabase::postgres().await;
    let _store = start(&database).await;
    let mut app = Raw::app(&database).await;
    let (alice, bob) = (user("alice").id, user("bob").id);
    for table in TABLES {
        act_for(&mut app, "alice").await;
        let owners = app.texts(&format!("SELECT owner_id FROM {table}")).await;
        assert_eq!(owners, [alice.to_string()], "{table}");
        app.run("COMMIT").await.unwrap();
        assert_eq!(count(&mut app, table).await, 0, "{table}: the context ended with its transaction");
    }
    act_for(&mut app, "alice").await;
    let steal = format!("UPDATE credentials SET sealed = '' WHERE owner_id = '{bob}' RETURNING id");
    assert_eq!(app.texts(&steal).await, [""; 0]);
    let all = app.texts("UPDATE hub_keys SET name = 'mine' RETURNING owner_id").await;
    assert_eq!(all, [alice.to_string()]);
    app.run("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn nobody_gives_a_row_to_another_person() {
    let database = TestDatabase::postgres().await;
    let _store = start(&database).await;
    let mut app = Raw::app(&database).await;
    let (bob, github) = (user("bob").id, server("github").id);
    let key = key("alice-laptop", &user("alice")).id;
    let attempts = [
        format!("INSERT INTO credentials VALUES ('x', '{bob}', '{github}', 'OTHER', '', '', 1, 1)"),
        format!("INSERT INTO hub_keys VALUES ('x', '{bob}', 'x', '', 1, 1, NULL, NULL, 1)"),
        format!("INSERT INTO sessions VALUES ('x', '{bob}', '{key}', '/mcp', '', '{{}}', NULL, 1, 1, NULL)"),
        format!("INSERT INTO person_keys VALUES ('{bob}', '', 1)"),
        format!("UPDATE credentials SET owner_id = '{bob}'"),
        format!("UPDATE hub_keys SET owner_id = '{bob}'"),
        format!("UPDATE sessions SET owner_id = '{bob}'"),
        format!("UPDATE person_keys SET owner_id = '{bob}'"),
    ];
    for attempt in attempts {
        act_for(&mut app, "alice").await;
        let error = app.run(&attempt).await.unwrap_err().to_string();
        assert!(error.contains("row-level security"), "{attempt}: {error}");
        app.run("ROLLBACK").await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_goes_back_to_the_pool_keeps_no_context() {
    let database = TestDatabase::postgres().await;
    let store = start(&database).await;
    let (alice, staff, github) = (user("alice"), group("staff"), server("github").id);
    write(&store, async |tx| tx.add_group(&staff).await).await.unwrap();
    let token = store.credentials(alice.id, github).await.unwrap().remove(0);
    for revision in [0].into_iter().chain(2..21) {
        assert_eq!(store.credentials(alice.id, github).await.unwrap().len(), 1);
        let mut tx = store.write().await.unwrap();
        tx.act_for(alice.id).await.unwrap();
        tx.put_shared_value(&sealed("SITE", None, &server("github"))).await.unwrap();
        drop(tx);
        let changed = write(&store, async |tx| {
            tx.act_for(alice.id).await?;
            tx.put_membership(&Membership { revision, ..membership(&staff, &alice) }).await
        });
        changed.await.unwrap();
        let without = write(&store, async |tx| tx.remove_credential(alice.id, &token).await).await;
        assert!(matches!(without, Err(StoreError::Stale { .. })), "{without:?}");
    }
    let DatabaseUrls::Postgres { app, .. } = &database.place().database else { panic!("PostgreSQL") };
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(app).await.unwrap();
    let mut one = pool.begin().await.unwrap();
    let id = alice.id.to_string();
    sqlx::query("SELECT set_config('mcphub.principal', $1, true)").bind(id).execute(&mut *one).await.unwrap();
    one.commit().await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM credentials").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 0);
    let context: String = sqlx::query_scalar("SELECT current_setting('mcphub.principal', true)")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(context, "", "what a setting is after its transaction; it equals no id");
}

#[tokio::test]
async fn every_table_of_peoples_own_data_has_forced_row_security() {
    let database = TestDatabase::postgres().await;
    let mut raw = Raw::open(&database).await;
    let of_people = "FROM pg_class c WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
                       AND (relname = 'users' OR EXISTS (SELECT 1 FROM pg_attribute a
                            WHERE a.attrelid = c.oid AND a.attname IN ('owner_id', 'user_id') AND NOT attisdropped))
                       AND relname <> 'memberships'";
    let mut tables = raw.texts(&format!("SELECT relname::text {of_people} ORDER BY 1")).await;
    let open = raw
        .texts(&format!("SELECT relname::text {of_people} AND NOT (relrowsecurity AND relforcerowsecurity)"))
        .await;
    assert_eq!(open, [""; 0], "tables without forced row security");
    tables.retain(|table| table != "users");
    let mut expected = TABLES.map(str::to_owned);
    expected.sort();
    assert_eq!(tables, expected, "a new table of people's own data belongs into the tests above");
    let views = raw
        .texts(
            "SELECT relname::text FROM pg_class WHERE relkind IN ('v', 'm') AND relnamespace = 'public'::regnamespace
                AND NOT COALESCE('security_invoker=true' = ANY (reloptions), false)",
        )
        .await;
    assert_eq!(views, [""; 0], "views that show what their owner may see");
}

#[tokio::test]
async fn the_worker_reads_what_it_needs_and_changes_none_of_it() {
    let database = TestDatabase::postgres().await;
    let _store = start(&database).await;
    let mut worker = Raw::worker(&database).await;
    for table in TABLES {
        assert_eq!(count(&mut worker, table).await, 2, "{table}");
    }
    for table in ["users", "credentials", "hub_keys", "person_keys"] {
        let error = worker.run(&format!("UPDATE {table} SET created_at = 0")).await.unwrap_err().to_string();
        assert!(error.contains("permission denied") || error.contains("does not exist"), "{table}: {error}");
    }
}
