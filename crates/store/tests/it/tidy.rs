//! Tidying up: what nobody needs goes, in bounded steps; what somebody may still need stays.

use std::time::Duration;

use mcphub_domain::{KeyId, User};
use mcphub_store::sessions::Session;
use mcphub_store::{Process, Store, StoreError};

use crate::build::{key, note, server, user, write};
use crate::raw::Raw;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn add_session(
    store: &Store,
    number: u8,
    (owner, key): (&User, KeyId),
    clock: &mcphub_store::testing::TestClock,
) -> Session {
    let session = Session {
        id_hash: [number; 32],
        owner: owner.id,
        key,
        endpoint: "/mcp".to_owned(),
        version: "2025-06-18".to_owned(),
        capabilities: "{}".to_owned(),
        log_level: None,
        created_at: clock.now(),
        seen_at: clock.now(),
        ended_at: None,
    };
    store.add_session(&session).await.unwrap();
    session
}

both! {
    async fn sessions_that_ended_or_that_nobody_uses_go(database: TestDatabase) {
        let (store, clock) = (database.open(Process::Serve).await, database.clock());
        let alice = user("alice");
        let laptop = key("laptop", &alice);
        write(&store, async |tx| {
            tx.add_user(&alice).await?;
            tx.act_for(alice.id).await?;
            tx.add_key(&laptop).await
        })
        .await
        .unwrap();
        let mut sessions = Vec::new();
        for number in 1..=4 {
            sessions.push(add_session(&store, number, (&alice, laptop.id), clock).await);
        }
        store.end_session(alice.id, &sessions[0].id_hash).await.unwrap();
        clock.advance(6 * DAY);
        store.touch_session(&sessions[1], clock.now()).await.unwrap();
        assert_eq!(store.tidy().await.unwrap(), 1, "the one that ended");
        clock.advance(DAY + HOUR);
        assert_eq!(store.tidy().await.unwrap(), 2, "those that nobody used");
        let left = store.session(alice.id, &sessions[1].id_hash).await.unwrap().unwrap();
        assert_eq!((left.created_at, left.seen_at), (sessions[1].created_at, sessions[1].created_at.plus(6 * DAY)));
        let gone = store.touch_session(&sessions[2], clock.now()).await;
        assert!(matches!(gone, Err(StoreError::Missing { .. })), "{gone:?}");
    }

    async fn of_many_sessions_many_go_at_once_and_the_rest_later(database: TestDatabase) {
        let (store, clock) = (database.open(Process::Serve).await, database.clock());
        let alice = user("alice");
        let laptop = key("laptop", &alice);
        write(&store, async |tx| {
            tx.add_user(&alice).await?;
            tx.act_for(alice.id).await?;
            tx.add_key(&laptop).await
        })
        .await
        .unwrap();
        add_session(&store, 1, (&alice, laptop.id), clock).await;
        // Text is a key as well as bytes are, on either database.
        let many = "INSERT INTO sessions (id_hash, owner_id, key_id, endpoint, version, capabilities, created_at, seen_at)
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10700)
            SELECT CAST(CAST(n.i AS TEXT) AS BYTEA), owner_id, key_id, endpoint, version, capabilities, created_at, seen_at
              FROM sessions, n";
        let mut raw = Raw::open(&database).await;
        let many = if matches!(raw, Raw::Sqlite(_)) { many.replace("BYTEA", "BLOB") } else { many.to_owned() };
        raw.run(&many).await.unwrap();
        clock.advance(8 * DAY);
        assert_eq!(store.tidy().await.unwrap(), 10_000);
        assert_eq!(store.tidy().await.unwrap(), 701);
    }

    async fn changes_go_that_every_node_has_and_a_late_one_loads_everything(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        write(&store, async |tx| tx.add_server(&server("github")).await).await.unwrap();
        let late = store.load().await.unwrap().world.unwrap();
        let mut raw = Raw::open(&database).await;
        let id = server("github").id;
        raw.run(&format!(
            "INSERT INTO changes (revision, kind, id)
             WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 11999)
             SELECT i, 'server', '{id}' FROM n"
        ))
        .await
        .unwrap();
        raw.run("UPDATE world SET revision = 11999").await.unwrap();
        let before = store.load().await.unwrap().world.unwrap();
        write(&store, async |tx| tx.add_user(&user("alice")).await).await.unwrap();
        assert_eq!(store.tidy().await.unwrap(), 2_000);
        assert_eq!(raw.number("SELECT MIN(revision) FROM changes").await, 2_001);
        assert_eq!(store.tidy().await.unwrap(), 0);
        let taken_up = store.refresh(&before).await.unwrap();
        assert!(!taken_up.whole && taken_up.world.unwrap().users().count() == 1);
        let whole = store.refresh(&late).await.unwrap();
        assert!(whole.whole && whole.world.unwrap().users().count() == 1);
    }

    async fn processes_that_ended_are_forgotten_after_a_day_and_their_log_stays(database: TestDatabase) {
        let (store, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        store.audit().durable(note("stays")).await.unwrap();
        other.audit().durable(note("ends")).await.unwrap();
        other.close().await.unwrap();
        database.clock().advance(DAY - HOUR);
        assert_eq!(store.tidy().await.unwrap(), 0);
        database.clock().advance(2 * HOUR);
        assert_eq!(store.tidy().await.unwrap(), 1);
        let mut raw = Raw::open(&database).await;
        assert_eq!(raw.number("SELECT COUNT(*) FROM nodes WHERE state = 'open'").await, 1);
        let report = store.verify(Vec::new()).await.unwrap();
        assert_eq!((report.chains, report.records, report.findings.len()), (2, 5, 0));
    }
}
