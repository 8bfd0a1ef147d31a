//! Searching the log: what matches, all that matches, the newest first.

use std::time::Duration;

use mcphub_domain::audit::{CallStatus, Entry};
use mcphub_domain::{Event, Timestamp};
use mcphub_store::audit::Search;
use mcphub_store::{Process, Store, StoreError};

use crate::build::{NOW, entry, intent, note_at, outcome, permit, request, server, user, write};

fn at(offset: i64) -> Timestamp {
    Timestamp::from_micros(NOW.as_micros() + offset)
}

/// Lists the methods of the notes that a search finds.
async fn methods(store: &Store, search: Search) -> Vec<String> {
    let found = store.search(&search).await.unwrap();
    found
        .into_iter()
        .filter_map(|record| match record.entry.event {
            Event::Read { method, .. } => Some(method),
            _ => None,
        })
        .collect()
}

fn read(limit: usize) -> Search {
    Search { outcome: Some("read".to_owned()), limit, ..Search::default() }
}

both! {
    async fn each_filter_finds_its_records(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (alice, bob, github) = (user("alice"), user("bob"), server("github"));
        store.audit().open(permit(), intent(request(1))).await.unwrap();
        store.audit().durable(outcome(request(1), CallStatus::ToolError)).await.unwrap();
        store.audit().durable(note_at("list", NOW)).await.unwrap();
        let mut tx = store.write().await.unwrap();
        tx.add_user(&bob).await.unwrap();
        tx.commit(entry(Event::UserAdded { user: bob.id, role: bob.role })).await.unwrap();
        let count = async |search: Search| store.search(&Search { limit: 99, ..search }).await.unwrap().len();
        let look = Some("look".parse().unwrap());
        assert_eq!(count(Search::default()).await, 5);
        assert_eq!(count(Search { person: Some(alice.id), ..Search::default() }).await, 2);
        assert_eq!(count(Search { person: Some(bob.id), ..Search::default() }).await, 1, "as the subject");
        assert_eq!(count(Search { server: Some(github.id), ..Search::default() }).await, 2);
        assert_eq!(count(Search { server: Some(server("other").id), ..Search::default() }).await, 0);
        assert_eq!(count(Search { tool: look.clone(), ..Search::default() }).await, 2);
        for (outcome, expected) in [("intent", 1), ("tool-error", 1), ("read", 1), ("changed", 2), ("ok", 0)] {
            let search = Search { outcome: Some(outcome.to_owned()), ..Search::default() };
            assert_eq!(count(search).await, expected, "{outcome}");
        }
        let both = Search { tool: look, outcome: Some("intent".to_owned()), ..Search::default() };
        assert_eq!(count(Search { person: Some(alice.id), ..both.clone() }).await, 1);
        assert_eq!(count(Search { person: Some(bob.id), ..both }).await, 0);
        assert!(store.search(&Search::default()).await.unwrap().is_empty(), "a limit of nothing");
    }

    async fn the_newest_come_first_and_no_more_than_wanted(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        for number in 0..150 {
            database.clock().advance(Duration::from_micros(1));
            store.audit().durable(note_at(&number.to_string(), at(number + 1))).await.unwrap();
        }
        let all: Vec<String> = (0..150).rev().map(|number| number.to_string()).collect();
        assert_eq!(methods(&store, read(1_000)).await, all);
        assert_eq!(methods(&store, read(70)).await, all[..70]);
        assert_eq!(methods(&store, read(1)).await, all[..1]);
        let window = Search { from: Some(at(11)), before: Some(at(21)), ..read(1_000) };
        let expected: Vec<String> = (10..20).rev().map(|number| number.to_string()).collect();
        assert_eq!(methods(&store, window.clone()).await, expected);
        assert_eq!(methods(&store, Search { limit: 3, ..window }).await, expected[..3]);
    }

    async fn segments_of_the_same_instant_are_all_found(database: TestDatabase) {
        let (store, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        for number in 0..100 {
            let writer = if number % 3 == 0 { &other } else { &store };
            writer.audit().durable(note_at(&number.to_string(), NOW)).await.unwrap();
        }
        assert_eq!(methods(&store, read(1_000)).await.len(), 100);
    }

    async fn a_record_is_found_by_its_own_time_however_late_it_was_written(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        database.clock().set(at(1_000));
        store.audit().durable(note_at("late", at(5))).await.unwrap();
        for number in 0..80 {
            database.clock().set(at(900 - number));
            store.audit().durable(note_at(&format!("early {number}"), at(900 - number))).await.unwrap();
        }
        let window = Search { from: Some(at(0)), before: Some(at(10)), ..read(9) };
        assert_eq!(methods(&store, window).await, ["late"]);
        assert_eq!(methods(&store, read(2)).await, ["early 0", "early 1"]);
        assert_eq!(methods(&store, read(1_000)).await.last().unwrap(), "late");
    }

    async fn old_records_that_were_written_late_are_not_the_newest(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        store.audit().durable(note_at("newest", at(900))).await.unwrap();
        database.clock().set(at(1_000));
        for _ in 0..70 {
            store.audit().durable(note_at("late", at(5))).await.unwrap();
        }
        assert_eq!(methods(&store, read(1)).await, ["newest"]);
    }

    async fn a_clock_that_steps_back_hides_nothing(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        database.clock().set(at(-1_000));
        store.audit().durable(note_at("from the future", at(500))).await.unwrap();
        assert_eq!(methods(&store, Search { from: Some(at(400)), ..read(9) }).await, ["from the future"]);
        assert_eq!(methods(&store, Search { before: Some(at(500)), ..read(9) }).await, [""; 0]);
    }

    async fn nothing_durable_is_missing_though_the_index_is_behind(database: TestDatabase) {
        let (store, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        store.audit().durable(note_at("indexed", NOW)).await.unwrap();
        store.index_audit().await.unwrap();
        let entries: Vec<Entry> = (0..600).map(|number| note_at(&number.to_string(), NOW)).collect();
        for entry in entries {
            store.audit().durable(entry).await.unwrap();
        }
        other.audit().durable(note_at("another chain", NOW)).await.unwrap();
        assert_eq!(methods(&other, read(10_000)).await.len(), 602);
    }

    async fn a_failed_change_is_not_found(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        write(&store, async |tx| tx.add_user(&user("alice")).await).await.unwrap();
        let failed = write(&store, async |_| Err(StoreError::Missing { what: "x".to_owned() })).await;
        assert!(failed.is_err());
        let changes = Search { outcome: Some("changed".to_owned()), limit: 9, ..Search::default() };
        assert_eq!(store.search(&changes).await.unwrap().len(), 2, "the chain's beginning and the change");
    }
}
