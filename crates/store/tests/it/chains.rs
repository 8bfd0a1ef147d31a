//! Chains: one for each process, begun, ended, and closed by others after a kill.

use std::time::Duration;

use mcphub_domain::audit::{CallStatus, ChainHead};
use mcphub_domain::{Event, Record, Timestamp};
use mcphub_store::audit::Search;
use mcphub_store::testing::TestDatabase;
use mcphub_store::{Process, Store};

use crate::build::{ask_outcome, ask_permit, intent, note, outcome, permit, question, request, user, write};

/// Lists all records, the oldest first.
async fn log(store: &Store) -> Vec<Record> {
    let mut found = store.search(&Search { limit: 100_000, ..Search::default() }).await.unwrap();
    found.sort_by_key(|record| (record.entry.at, record.chain, record.number));
    found
}

async fn unknown(store: &Store) -> Vec<Record> {
    let search = Search { outcome: Some("unknown".to_owned()), limit: 99, ..Search::default() };
    store.search(&search).await.unwrap()
}

/// Leaves two calls open and one finished, and dies.
async fn die_with_open_calls(database: &TestDatabase) {
    let store = database.open(Process::Serve).await;
    for number in 1..=3 {
        store.audit().open(permit(), intent(request(number))).await.unwrap();
    }
    store.audit().durable(outcome(request(2), CallStatus::Ok)).await.unwrap();
}

both! {
    async fn each_process_has_a_chain_and_names_the_ends_of_the_others(database: TestDatabase) {
        let (one, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        one.audit().durable(note("first")).await.unwrap();
        let tips: Vec<ChainHead> = one.audit_tips().await.unwrap();
        assert_eq!(tips.iter().map(|tip| tip.size).collect::<Vec<_>>(), [2]);
        other.audit().durable(note("second")).await.unwrap();
        let records = log(&one).await;
        let openings: Vec<_> = records
            .iter()
            .filter_map(|record| match &record.entry.event {
                Event::ChainOpened { process, others, .. } => Some((process.as_str(), others.clone())),
                _ => None,
            })
            .collect();
        assert_eq!(openings.len(), 2);
        assert!(openings.contains(&("serve", Vec::new())));
        assert!(openings.contains(&("command", tips.clone())), "{openings:?}");
        let ends = one.audit_tips().await.unwrap();
        assert_eq!(ends.len(), 1, "the first chain's end stands in the second");
        assert_ne!(ends[0].chain, tips[0].chain);
        one.audit().durable(note("third")).await.unwrap();
        let grown = one.audit_tips().await.unwrap();
        assert_eq!(grown.len(), 2, "now it has grown beyond that");
        assert_eq!(one.audit_tips_since(&ends), grown, "its own end is known from memory");
        other.audit().durable(note("fourth")).await.unwrap();
        assert_eq!(one.audit_tips_since(&grown), grown, "those of others are as they were read");
        let report = one.verify(Vec::new()).await.unwrap();
        assert_eq!((report.chains, report.records, report.findings.len()), (2, 6, 0));
    }

    async fn a_clean_end_is_written_and_is_the_end(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        store.audit().append(note("waits for nobody")).await.unwrap();
        store.close().await.unwrap();
        assert!(store.audit().durable(note("too late")).await.is_err());
        assert!(store.write().await.is_err());
        drop(store);
        let store = database.open(Process::Serve).await;
        let events: Vec<Event> = log(&store).await.into_iter().map(|record| record.entry.event).collect();
        assert_eq!(events.len(), 3);
        assert!(matches!(&events[1], Event::Read { method, .. } if method == "waits for nobody"));
        assert_eq!(events[2], Event::ChainClosed);
    }

    async fn a_process_that_wrote_nothing_has_no_chain(database: TestDatabase) {
        let store = database.open(Process::Command).await;
        store.beat().await.unwrap();
        store.close().await.unwrap();
        drop(store);
        let store = database.open(Process::Command).await;
        assert!(log(&store).await.is_empty());
        assert_eq!(store.verify(Vec::new()).await.unwrap().chains, 0);
    }

    async fn the_open_calls_of_a_killed_process_are_closed_once(database: TestDatabase) {
        die_with_open_calls(&database).await;
        let store = database.open(Process::Serve).await;
        database.clock().advance(Duration::from_secs(11));
        look(&store).await;
        assert_eq!(store.recover().await.unwrap(), 2);
        let closed = unknown(&store).await;
        let mut requests: Vec<_> = closed.iter().filter_map(|record| record.entry.request).collect();
        requests.sort();
        let mut expected = vec![request(1), request(3)];
        expected.sort();
        assert_eq!(requests, expected);
        assert!(closed.iter().all(|record| matches!(
            record.entry.event,
            Event::CallOutcome { status: CallStatus::Unknown, micros: 11_000_000, .. }
        )));
        assert_eq!(store.recover().await.unwrap(), 0);
        drop(store);
        database.clock().advance(Duration::from_secs(11));
        let store = database.open(Process::Serve).await;
        look(&store).await;
        assert_eq!(store.recover().await.unwrap(), 0);
        assert_eq!(unknown(&store).await.len(), 2);
        assert!(store.verify(Vec::new()).await.unwrap().findings.is_empty());
    }

    async fn two_that_recover_at_once_close_each_call_once(database: TestDatabase) {
        die_with_open_calls(&database).await;
        database.clock().advance(Duration::from_secs(11));
        let (one, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        look(&one).await;
        look(&other).await;
        let (first, second) = futures_util::join!(one.recover(), other.recover());
        assert_eq!(first.unwrap() + second.unwrap(), 2);
        assert_eq!(unknown(&one).await.len(), 2);
    }

    async fn each_of_the_questions_of_one_request_is_closed_for_itself(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let ask = async |method| store.audit().open_ask(ask_permit(), question(method), intent(request(1))).await;
        for method in ["prompts/list", "prompts/get", "resources/read", "resources/read"] {
            ask(method).await.unwrap();
        }
        for method in ["prompts/list", "resources/read"] {
            store.audit().durable(ask_outcome(request(1), method)).await.unwrap();
        }
        drop(store);
        database.clock().advance(Duration::from_secs(11));
        let store = database.open(Process::Serve).await;
        look(&store).await;
        assert_eq!(store.recover().await.unwrap(), 2);
        let mut closed: Vec<String> = unknown(&store)
            .await
            .into_iter()
            .filter_map(|record| match record.entry.event {
                Event::AskOutcome { method, .. } => Some(method),
                _ => None,
            })
            .collect();
        closed.sort();
        assert_eq!(closed, ["prompts/get", "resources/read"]);
    }

    async fn a_long_chain_of_the_dead_is_read_in_pages_without_a_turn(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        for number in 1..=40 {
            store.audit().open(permit(), intent(request(number))).await.unwrap();
            if number % 4 != 0 {
                store.audit().durable(outcome(request(number), CallStatus::Ok)).await.unwrap();
            }
        }
        drop(store);
        database.clock().advance(Duration::from_secs(11));
        let store = database.open(Process::Serve).await;
        look(&store).await;
        let change = store.write().await.unwrap();
        let recovered = async {
            let waits = tokio::time::timeout(Duration::from_millis(300), store.recover()).await;
            assert!(waits.is_err(), "the outcomes wait for their turn");
            drop(change);
            store.recover().await.unwrap()
        };
        assert_eq!(recovered.await, 10);
        assert_eq!(unknown(&store).await.len(), 10);
    }

    async fn nobody_closes_the_calls_of_the_living_or_her_own(database: TestDatabase) {
        let alive = database.open(Process::Serve).await;
        alive.audit().open(permit(), intent(request(1))).await.unwrap();
        look(&alive).await;
        assert_eq!(alive.recover().await.unwrap(), 0, "its own chain");
        let other = database.open(Process::Command).await;
        for hours in [1, -2] {
            let other = database.open(Process::Command).await;
            look(&other).await;
            let clock = database.clock();
            clock.set(Timestamp::from_micros(clock.now().as_micros() + hours * 3_600_000_000));
            alive.beat().await.unwrap();
            assert_eq!(other.recover().await.unwrap(), 0, "it just said that it lives");
        }
        alive.close().await.unwrap();
        look(&other).await;
        assert_eq!(other.recover().await.unwrap(), 0, "it ended in order");
    }

    async fn who_writes_lives_though_she_does_not_tell(database: TestDatabase) {
        let (writes, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        writes.audit().open(permit(), intent(request(1))).await.unwrap();
        for number in 0..3 {
            look(&other).await;
            writes.audit().durable(note(&number.to_string())).await.unwrap();
        }
        look(&other).await;
        assert_eq!(other.recover().await.unwrap(), 1, "now she is silent");
    }

    async fn who_was_taken_for_dead_and_dies_later_has_each_call_closed_once(database: TestDatabase) {
        let (slow, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        slow.audit().open(permit(), intent(request(1))).await.unwrap();
        for wakes in [request(2), request(3)] {
            look(&other).await;
            assert_eq!(other.recover().await.unwrap(), 1);
            database.clock().advance(Duration::from_secs(1));
            slow.beat().await.unwrap();
            look(&other).await;
            assert_eq!(other.recover().await.unwrap(), 0, "all that was open is closed");
            slow.beat().await.unwrap();
            slow.audit().open(permit(), intent(wakes)).await.unwrap();
        }
        look(&other).await;
        assert_eq!(other.recover().await.unwrap(), 1);
        let closed: Vec<_> = unknown(&other).await.iter().filter_map(|record| record.entry.request).collect();
        let of = |number| closed.iter().filter(|closed| **closed == request(number)).count();
        assert_eq!([of(1), of(2), of(3)], [1; 3], "{closed:?}");
    }

    async fn who_wakes_and_dies_before_she_tells_leaves_no_call_open(database: TestDatabase) {
        let (slow, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        for number in 1..=3 {
            slow.audit().open(permit(), intent(request(number))).await.unwrap();
            look(&other).await;
            assert_eq!(other.recover().await.unwrap(), 1, "request {number}");
            look(&other).await;
        }
        assert_eq!(unknown(&other).await.len(), 3);
    }

    async fn a_change_goes_into_the_chain_of_its_process(database: TestDatabase) {
        let (one, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        for name in ["a", "b", "c"] {
            write(&one, async |tx| tx.add_user(&user(name)).await).await.unwrap();
            one.audit().durable(note(name)).await.unwrap();
            write(&other, async |tx| tx.add_user(&user(&format!("{name}2"))).await).await.unwrap();
        }
        let report = other.verify(Vec::new()).await.unwrap();
        assert_eq!((report.chains, report.records, report.findings.len()), (2, 2 + 6 + 3, 0));
    }
}

/// Looks as often as nobody is taken for dead yet.
async fn look(store: &Store) {
    for _ in 0..10 {
        assert_eq!(store.recover().await.unwrap(), 0, "it may be alive still");
    }
}

/// On SQLite nobody can tell that she lives while another has the file to herself.
#[tokio::test]
async fn a_process_that_lives_after_all_is_left_alone_on_postgres() {
    let database = TestDatabase::postgres().await;
    let (slow, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
    slow.audit().open(permit(), intent(request(1))).await.unwrap();
    let tells = async {
        database.clock().advance(Duration::from_secs(1));
        slow.beat().await.unwrap();
    };
    let writes = async { slow.audit().durable(note("she lives")).await.unwrap() };
    meanwhile(&other, tells).await;
    meanwhile(&other, writes).await;
    assert!(unknown(&other).await.is_empty());
}

/// Lets a process do something that shows that it lives, after another has read what it left.
async fn meanwhile(other: &Store, shows: impl Future<Output = ()>) {
    look(other).await;
    let change = other.write().await.unwrap();
    let mut recovery = std::pin::pin!(other.recover());
    let waits = tokio::time::timeout(Duration::from_millis(500), &mut recovery).await;
    assert!(waits.is_err(), "the outcomes wait for their turn");
    shows.await;
    drop(change);
    assert_eq!(recovery.await.unwrap(), 0, "it lives");
}
