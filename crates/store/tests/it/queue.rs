//! The queue: many records in few segments, nothing done that isn't recorded, nothing lost by a fault.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use mcphub_domain::audit::CallStatus;
use mcphub_domain::{Event, Record, Timestamp};
use mcphub_store::audit::Search;
use mcphub_store::audit::queue::Health;
use mcphub_store::testing::TestDatabase;
use mcphub_store::{Process, Store, StoreError};
use tokio::time::Instant;

use crate::build::{entry, intent, note, outcome, permit, request, user};
use crate::raw::Raw;

async fn log(store: &Store) -> Vec<Record> {
    let mut found = store.search(&Search { limit: 100_000, ..Search::default() }).await.unwrap();
    found.sort_by_key(|record| record.number);
    found
}

fn count(log: &[Record], name: &str) -> usize {
    log.iter()
        .filter(|record| matches!(&record.entry.event, Event::Read { method, .. } if method == name))
        .count()
}

/// Lists what the log says of the first request.
fn of_first_call(log: &[Record]) -> Vec<&Event> {
    let records = log.iter().filter(|record| record.entry.request == Some(request(1)));
    records.map(|record| &record.entry.event).collect()
}

/// Waits until the queue says what it is asked for; a test that waits in vain fails.
async fn wait(store: &Store, wanted: impl FnMut(&Health) -> bool) -> Health {
    let mut health = store.audit().health();
    let found = tokio::time::timeout(Duration::from_secs(60), health.wait_for(wanted)).await;
    found.unwrap().unwrap().clone()
}

fn is_failing(health: &Health) -> bool {
    matches!(health, Health::Failing { .. })
}

/// Closes what others left open, once they were silent long enough.
async fn recover(store: &Store) -> u64 {
    let mut closed = 0;
    for _ in 0..=10 {
        closed += store.recover().await.unwrap();
    }
    closed
}

/// Lets a commit of a record that says that it is slow take so many seconds on PostgreSQL.
async fn slow_down(database: &TestDatabase, seconds: u32) {
    let slow = format!(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF position('is slow'::bytea IN NEW.body) > 0 THEN PERFORM pg_sleep({seconds}); END IF;
             RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON audit_segments
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()"
    );
    Raw::open(database).await.run(&slow).await.unwrap();
}

/// Lists when the log was failing, by the records that say that it can be written again.
fn resumptions(log: &[Record]) -> Vec<(Timestamp, u64)> {
    log.iter()
        .filter_map(|record| match record.entry.event {
            Event::AuditResumed { failing_since, dropped } => Some((failing_since, dropped)),
            _ => None,
        })
        .collect()
}

/// Checks a queue whose log fails by `break_log`, and works again after `mend_log`.
async fn check_failure(
    database: &TestDatabase,
    break_log: impl AsyncFnOnce(&mut Raw),
    mend_log: impl AsyncFnOnce(&mut Raw),
) {
    let store = database.open(Process::Serve).await;
    store.audit().open(permit(), intent(request(1))).await.unwrap();
    let mut raw = Raw::open(database).await;
    break_log(&mut raw).await;
    let since = database.clock().now();
    let audit = store.audit();
    let (refused, appended) = futures_util::join!(
        audit.open(permit(), intent(request(2))),
        audit.append(outcome(request(1), CallStatus::Ok))
    );
    assert!(matches!(refused, Err(StoreError::AuditUnavailable { .. })), "{refused:?}");
    appended.unwrap();
    wait(&store, is_failing).await;
    database.clock().advance(Duration::from_secs(60));
    let refused = store.audit().durable(note("refused")).await;
    assert!(matches!(refused, Err(StoreError::AuditUnavailable { .. })), "{refused:?}");
    let Health::Failing { since: told, .. } = wait(&store, is_failing).await else { panic!("failing") };
    assert_eq!(told, since, "since the first failure");
    mend_log(&mut raw).await;
    wait(&store, |health| *health == Health::Writable).await;
    store.audit().open(permit(), intent(request(3))).await.unwrap();

    let log = log(&store).await;
    let with = |number| log.iter().filter(|record| record.entry.request == Some(request(number))).count();
    assert_eq!([with(1), with(2), with(3)], [2, 0, 1], "{log:?}");
    assert_eq!(count(&log, "refused"), 0);
    assert_eq!(resumptions(&log), [(since, 0)]);
    assert!(log.iter().map(|record| record.number).eq(0..log.len() as u64));
    assert_eq!(store.audit().dropped(), 0);
    assert!(store.verify(Vec::new()).await.unwrap().findings.is_empty());
}

both! {
    async fn a_thousand_at_once_are_numbered_without_a_gap(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let audit = store.audit();
        let calls = join_all((0..500).map(|number| audit.open(permit(), intent(request(number)))));
        let notes = join_all((0..500).map(|number| audit.durable(note(&number.to_string()))));
        let (calls, notes) = futures_util::join!(calls, notes);
        assert!(notes.iter().all(Result::is_ok));
        let recorded: BTreeSet<_> = calls.into_iter().map(|call| call.unwrap().request()).collect();
        assert_eq!(recorded.len(), 500);
        drop((store, audit));
        let store = database.open(Process::Serve).await;
        let log = log(&store).await;
        assert!(log.iter().map(|record| record.number).eq(0..1_001), "{} records", log.len());
        let intents: BTreeSet<_> = log
            .iter()
            .filter(|record| matches!(record.entry.event, Event::CallIntent { .. }))
            .filter_map(|record| record.entry.request)
            .collect();
        assert_eq!(intents, recorded);
        let segments = Raw::open(&database).await.number("SELECT COUNT(*) FROM audit_segments").await;
        assert!(segments <= 20, "{segments} segments");
        assert!(store.verify(Vec::new()).await.unwrap().findings.is_empty());
    }

    async fn who_comes_when_every_place_is_taken_waits_for_one(database: TestDatabase) {
        const MANY: usize = 18_000;
        let store = database.open(Process::Serve).await;
        let audit = store.audit();
        let notes = join_all((0..MANY).map(|_| audit.durable(note("one of many"))));
        let notes = tokio::time::timeout(Duration::from_secs(60), notes).await.unwrap();
        assert!(notes.iter().all(Result::is_ok));
        let found = store.search(&Search { limit: 2 * MANY, ..Search::default() }).await.unwrap();
        assert_eq!(count(&found, "one of many"), MANY);
    }

    async fn records_stand_in_the_order_in_which_they_came(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        for number in 0..50 {
            store.audit().append(note(&number.to_string())).await.unwrap();
        }
        store.audit().durable(note("last")).await.unwrap();
        let names: Vec<String> = log(&store)
            .await
            .into_iter()
            .filter_map(|record| match record.entry.event {
                Event::Read { method, .. } => Some(method),
                _ => None,
            })
            .collect();
        let expected: Vec<String> = (0..50).map(|number| number.to_string()).chain(["last".to_owned()]).collect();
        assert_eq!(names, expected);
    }

    async fn so_many_records_become_one_segment_and_the_rest_the_next_one(database: TestDatabase) {
        const MOST: usize = 2_048;
        let store = database.open(Process::Serve).await;
        let audit = store.audit();
        audit.durable(note("first")).await.unwrap();
        let mut raw = Raw::open(&database).await;
        let mut seen = raw.segments().await.len();
        let mut table = Vec::new();
        for (unawaited, awaited) in [(0, MOST), (0, 2 * MOST + 1), (MOST, 0), (MOST + 1, 0), (MOST + 1, 1)] {
            (0..unawaited).for_each(|_| audit.append_now(note("nobody waits")).unwrap());
            // All of them come before the writer's turn.
            let all = join_all((0..awaited).map(|_| audit.durable(note("somebody waits"))));
            assert!(all.await.iter().all(Result::is_ok));
            audit.settle().await;
            let segments = raw.segments().await;
            table.push(segments[seen..].iter().map(|segment| segment.count as usize).collect::<Vec<_>>());
            seen = segments.len();
        }
        let expected =
            [vec![MOST], vec![MOST, MOST, 1], vec![MOST], vec![MOST, 1], vec![MOST + 1, 1]];
        assert_eq!(table, expected);
    }

    async fn the_evidence_is_for_the_permit_that_was_given(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let recorded = store.audit().open(permit(), intent(request(1))).await.unwrap();
        assert_eq!((recorded.permit(), recorded.request()), (&permit(), request(1)));
        let Event::CallIntent { tool, definition, world, .. } = &log(&store).await[1].entry.event else {
            panic!("an intent")
        };
        let route = permit();
        assert_eq!((tool, definition, *world), (&route.route().tool, &route.route().digest, route.world()));
    }

    async fn who_leaves_before_her_intent_is_durable_has_an_end_if_it_becomes_so(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        store.audit().durable(note("first")).await.unwrap();
        let mut raw = Raw::open(&database).await;
        let left = async |number| {
            let audit = store.audit();
            let opening = audit.open(permit(), intent(request(number)));
            assert!(tokio::time::timeout(Duration::from_millis(100), opening).await.is_err());
        };
        raw.hold_log().await;
        left(1).await;
        raw.release_log().await;
        store.audit().durable(note("between")).await.unwrap();
        raw.hold_log().await;
        left(2).await;
        wait(&store, is_failing).await;
        raw.release_log().await;
        wait(&store, |health| !is_failing(health)).await;
        store.close().await.unwrap();
        drop(store);
        let records = log(&database.open(Process::Command).await).await;
        let kinds = |number| {
            let of = |record: &&Record| record.entry.request == Some(request(number));
            let kind = |record: &Record| match &record.entry.event {
                Event::CallOutcome { status, .. } => status.as_str(),
                _ => "intent",
            };
            records.iter().filter(of).map(kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(1), ["intent", "cancelled"]);
        // Its write was given up, and became what it became: both or none.
        assert!(matches!(kinds(2)[..], [] | ["intent", _]), "{:?}", kinds(2));
    }

    async fn who_never_waits_has_an_end_if_there_was_a_place_for_her_intent(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let audit = store.audit();
        drop(audit.open(permit(), intent(request(1))));
        audit.durable(note("between")).await.unwrap();
        let mut raw = Raw::open(&database).await;
        raw.hold_log().await;
        // More than there are places, and than the writer takes at once.
        let crowd: Vec<_> = (0..18_500).map(|_| audit.durable(note("one of many"))).collect();
        drop(audit.open(permit(), intent(request(2))));
        raw.release_log().await;
        drop(join_all(crowd).await);
        store.close().await.unwrap();
        drop((store, audit));
        let records = log(&database.open(Process::Command).await).await;
        let is_whole = matches!(
            of_first_call(&records)[..],
            [Event::CallIntent { .. }, Event::CallOutcome { status: CallStatus::Cancelled, .. }]
        );
        assert!(is_whole, "{:?}", of_first_call(&records));
        assert!(records.iter().all(|record| record.entry.request != Some(request(2))));
    }

    async fn who_leaves_while_the_hub_stops_has_an_end_too(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        store.audit().durable(note("first")).await.unwrap();
        let mut raw = Raw::open(&database).await;
        raw.hold_log().await;
        let audit = store.audit();
        let opening = audit.open(permit(), intent(request(1)));
        assert!(tokio::time::timeout(Duration::from_millis(100), opening).await.is_err());
        let (closed, ()) = tokio::join!(store.close(), raw.release_log());
        closed.unwrap();
        drop(store);
        let records = log(&database.open(Process::Command).await).await;
        let of = of_first_call(&records);
        let is_whole = matches!(
            of[..],
            [Event::CallIntent { .. }, Event::CallOutcome { status: CallStatus::Cancelled, .. }]
        );
        assert!(is_whole, "{of:?}");
    }

    async fn a_chain_whose_last_records_could_not_be_written_stays_open(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        store.audit().open(permit(), intent(request(1))).await.unwrap();
        Raw::open(&database).await.block_records_with("is refused").await;
        store.audit().append(note("is refused")).await.unwrap();
        wait(&store, is_failing).await;
        store.audit().append(outcome(request(1), CallStatus::Ok)).await.unwrap();
        let closed = store.close().await;
        assert!(matches!(closed, Err(StoreError::AuditUnavailable { .. })), "{closed:?}");
        drop(store);
        let store = database.open(Process::Serve).await;
        assert_eq!(recover(&store).await, 1);
    }

    async fn a_log_that_refuses_stops_everything_until_it_is_mended(database: TestDatabase) {
        check_failure(&database, Raw::block_log, Raw::unblock_log).await;
    }

    async fn a_log_that_hangs_stops_everything_until_it_goes_on(database: TestDatabase) {
        check_failure(&database, Raw::hold_log, Raw::release_log).await;
    }
}

#[tokio::test]
async fn a_right_that_is_taken_away_stops_everything_on_postgres() {
    let database = TestDatabase::postgres().await;
    let app = database.roles().unwrap().app.clone();
    let revoke = format!("REVOKE INSERT ON audit_segments FROM {app}");
    let give = format!("GRANT INSERT ON audit_segments TO {app}");
    check_failure(
        &database,
        async |raw: &mut Raw| raw.run(&revoke).await.unwrap(),
        async |raw: &mut Raw| raw.run(&give).await.unwrap(),
    )
    .await;
}

#[tokio::test]
async fn connections_that_are_cut_are_replaced_on_postgres() {
    let database = TestDatabase::postgres().await;
    let store = database.open(Process::Serve).await;
    let (mut raw, app) = (Raw::open(&database).await, database.roles().unwrap().app.clone());
    for number in 0..5 {
        store.audit().append(note(&format!("outcome {number}"))).await.unwrap();
        raw.run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{app}'"))
            .await
            .unwrap();
        wait(&store, |health| *health == Health::Writable).await;
    }
    for _ in 0..20 {
        if store.audit().durable(note("after")).await.is_ok() {
            break;
        }
    }
    let log = log(&store).await;
    assert_eq!(count(&log, "after"), 1);
    assert!((0..5).all(|number| count(&log, &format!("outcome {number}")) == 1), "{log:?}");
    assert!(store.verify(Vec::new()).await.unwrap().findings.is_empty());
}

/// The first write hangs and fails; a record that came meanwhile is told so at once, not after a write of its own.
#[tokio::test]
async fn who_waits_behind_a_write_that_fails_waits_for_no_other_on_postgres() {
    let database = TestDatabase::postgres().await;
    let store = database.open(Process::Serve).await;
    let mut raw = Raw::open(&database).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    PERFORM pg_sleep(20); RETURN NULL; END $$;
                CREATE TRIGGER slow AFTER INSERT ON audit_segments EXECUTE FUNCTION slow()";
    raw.run(slow).await.unwrap();
    let audit = store.audit();
    let behind = async {
        let hangs = "SELECT count(*) FROM pg_stat_activity
                     WHERE wait_event = 'PgSleep' AND datname = current_database()";
        while raw.number(hangs).await == 0 {}
        let begun = Instant::now();
        (audit.durable(note("behind")).await, begun.elapsed())
    };
    let (first, (behind, waited)) = futures_util::join!(audit.durable(note("first")), behind);
    for refused in [first, behind] {
        assert!(matches!(refused, Err(StoreError::AuditUnavailable { .. })), "{refused:?}");
    }
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

/// The commit takes longer than the queue waits, and succeeds after all: nothing may be written twice
/// for it, the queue must find the end of its chain again, and a call that was refused for it has an end.
#[tokio::test]
async fn a_commit_whose_fate_was_unknown_is_found_out_on_postgres() {
    let database = TestDatabase::postgres().await;
    let store = database.open(Process::Serve).await;
    store.audit().durable(note("before")).await.unwrap();
    slow_down(&database, 3).await;
    let audit = store.audit();
    let (waited, called, carried) = futures_util::join!(
        audit.durable(note("is slow")),
        audit.open(permit(), intent(request(1))),
        audit.append(note("nobody waits for it"))
    );
    assert!(matches!(waited, Err(StoreError::AuditUnavailable { .. })), "{waited:?}");
    assert!(matches!(called, Err(StoreError::AuditUnavailable { .. })), "it must not run");
    carried.unwrap();
    store.audit().append(note("comes meanwhile")).await.unwrap();
    wait(&store, |health| *health == Health::Writable).await;
    store.audit().durable(note("after")).await.unwrap();
    let log = log(&store).await;
    let names = ["before", "is slow", "nobody waits for it", "comes meanwhile", "after"];
    assert_eq!(names.map(|name| count(&log, name)), [1; 5], "{log:?}");
    let ends = |record: &&Record| {
        matches!(record.entry.event, Event::CallOutcome { status: CallStatus::Unknown, .. })
    };
    let begun = log.iter().find(|record| matches!(record.entry.event, Event::CallIntent { .. })).unwrap();
    let ended: Vec<_> = log.iter().filter(ends).map(|record| record.entry.request).collect();
    assert_eq!(ended, [begun.entry.request], "{log:?}");
    assert_eq!(resumptions(&log).len(), 1);
    assert!(store.verify(Vec::new()).await.unwrap().findings.is_empty());
}

/// The hub stops before it knows that the commit succeeded after all: the call that was refused for it has an end.
#[tokio::test]
async fn a_commit_whose_fate_is_unknown_at_a_stop_is_found_out_on_postgres() {
    let database = TestDatabase::postgres().await;
    let store = database.open(Process::Serve).await;
    store.audit().durable(note("before")).await.unwrap();
    slow_down(&database, 2).await;
    let audit = store.audit();
    let (waited, called) =
        futures_util::join!(audit.durable(note("is slow")), audit.open(permit(), intent(request(1))));
    assert!(matches!(waited, Err(StoreError::AuditUnavailable { .. })), "{waited:?}");
    assert!(matches!(called, Err(StoreError::AuditUnavailable { .. })), "it must not run");
    store.close().await.unwrap();
    drop((audit, store));
    let store = database.open(Process::Serve).await;
    assert_eq!(recover(&store).await, 0, "nothing is left open");
    let records = log(&store).await;
    let of_call = of_first_call(&records);
    let is_whole = matches!(
        of_call[..],
        [Event::CallIntent { .. }, Event::CallOutcome { status: CallStatus::Unknown, .. }]
    );
    assert!(is_whole, "{of_call:?}");
    assert!(store.verify(Vec::new()).await.unwrap().findings.is_empty());
}

/// The log's own thread hangs in a write that succeeds in the end: who waits for it, and who comes meanwhile, is told so in
/// time, and nothing is lost or written twice for it, though a change takes the turn after it.
#[tokio::test]
async fn a_write_that_hangs_keeps_nobody_waiting_on_sqlite() {
    let database = TestDatabase::sqlite();
    let store = database.open_real(Process::Serve).await;
    store.audit().durable(note("before")).await.unwrap();
    let slow = "CREATE TRIGGER slow AFTER INSERT ON audit_segments WHEN instr(CAST(NEW.body AS TEXT), 'call.intent') BEGIN
                    SELECT (WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 30000000)
                            SELECT COUNT(*) FROM c);
                END";
    let mut raw = Raw::open(&database).await;
    raw.run(slow).await.unwrap();
    let (audit, begun) = (store.audit(), Instant::now());
    let called = async {
        let called = audit.open(permit(), intent(request(1))).await;
        (called.map(|_| ()), begun.elapsed())
    };
    let meanwhile = async {
        wait(&store, is_failing).await;
        (audit.durable(note("comes meanwhile")).await, begun.elapsed())
    };
    let changed = async {
        wait(&store, is_failing).await;
        // It may wait too long; else it finds out first what became of that write, and goes on from there.
        let Ok(mut tx) = store.write().await else { return };
        tx.add_user(&user("alice")).await.unwrap();
        tx.commit(entry(Event::Answered {
            method: "a change".to_owned(),
            target: String::new(),
            status: 200,
        }))
        .await
        .unwrap();
    };
    let (called, carried, meanwhile, ()) =
        futures_util::join!(called, audit.append(note("nobody waits for it")), meanwhile, changed);
    carried.unwrap();
    for (refused, after) in [called, meanwhile] {
        assert!(after < Duration::from_secs(3), "{after:?}");
        let Err(StoreError::AuditUnavailable { reason }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("took longer"), "{reason}");
    }
    wait(&store, |health| *health == Health::Writable).await;
    raw.run("DROP TRIGGER slow").await.unwrap();
    audit.durable(note("after")).await.unwrap();
    let log = log(&store).await;
    let names = ["before", "nobody waits for it", "comes meanwhile", "after"];
    assert_eq!(names.map(|name| count(&log, name)), [1, 1, 0, 1], "{log:?}");
    let of_call = of_first_call(&log);
    let ended = |event: &Event| matches!(event, Event::CallOutcome { status: CallStatus::Unknown, .. });
    assert!(matches!(*of_call, [Event::CallIntent { .. }, end] if ended(end)), "{of_call:?}");
    assert_eq!(resumptions(&log).len(), 1);
    assert!(store.verify(Vec::new()).await.unwrap().findings.is_empty());
}

both! {
    #[expect(clippy::disallowed_methods, reason = "the callers of a test")]
    async fn a_crowd_that_the_logs_own_thread_serves_loses_nothing(database: TestDatabase) {
        let store = database.open_real(Process::Serve).await;
        let callers = (0..64).map(|caller| {
            let audit = store.audit();
            tokio::spawn(async move {
                for number in 0..10 {
                    let request = request(100 * caller + number);
                    audit.open(permit(), intent(request)).await.unwrap();
                    audit.append(outcome(request, CallStatus::Ok)).await.unwrap();
                }
            })
        });
        join_all(callers.collect::<Vec<_>>()).await.into_iter().for_each(|done| done.unwrap());
        store.close().await.unwrap();
        drop(store);
        let store = database.open_real(Process::Serve).await;
        let log = log(&store).await;
        let requests = |which: fn(&Event) -> bool| {
            let records = log.iter().filter(|record| which(&record.entry.event));
            records.filter_map(|record| record.entry.request).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(requests(|event| matches!(event, Event::CallIntent { .. })), 640);
        assert_eq!(requests(|event| matches!(event, Event::CallOutcome { .. })), 640);
        assert_eq!(store.verify(Vec::new()).await.unwrap().findings, []);
    }
}

#[tokio::test]
async fn sqlites_own_log_stays_short_while_it_is_written() {
    let database = TestDatabase::sqlite();
    let store = database.open_real(Process::Serve).await;
    let large = "x".repeat(40_000);
    for _ in 0..800 {
        store.audit().durable(note(&large)).await.unwrap();
    }
    let length = std::fs::metadata(database.place().data_dir.join("mcphub.db-wal")).unwrap().len();
    assert!(length < 24 << 20, "{length} bytes, of some 40 million that were written");
}
