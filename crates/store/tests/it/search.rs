//! Searching the log: what matches, all that matches, the newest first.

use std::time::Duration;

use mcphub_domain::audit::{CallStatus, Entry};
use mcphub_domain::{Event, Server, Timestamp, User};
use mcphub_store::audit::{Cursor, Notice, Search};
use mcphub_store::{Process, Store, StoreError};

use crate::build::{NOW, entry, intent, note_at, outcome, permit, request, server, user, write};
use crate::raw::Raw;

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

async fn check_filters(store: &Store, (alice, bob, github): (&User, &User, &Server)) {
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

#[test]
fn a_place_in_the_log_is_read_as_it_was_written() {
    for bad in ["", "1", "1.2.3", "1.01010101-0101-0101-0101-010101010101", "x.y.z"] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
    }
    let text = "1795000000000000.01010101-0101-0101-0101-010101010101.7";
    assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
}

both! {
    async fn each_filter_finds_its_records_with_the_index_and_without(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (alice, bob, github) = (user("alice"), user("bob"), server("github"));
        store.audit().open(permit(), intent(request(1))).await.unwrap();
        store.audit().durable(outcome(request(1), CallStatus::ToolError)).await.unwrap();
        store.audit().durable(note_at("list", NOW)).await.unwrap();
        let mut tx = store.write().await.unwrap();
        tx.add_user(&bob).await.unwrap();
        tx.commit(entry(Event::UserAdded { user: bob.id, role: bob.role })).await.unwrap();
        check_filters(&store, (&alice, &bob, &github)).await;
        let mut raw = Raw::open(&database).await;
        assert_eq!(raw.number("SELECT COUNT(*) FROM audit_index").await, 0, "a search writes nothing");
        store.index_audit().await.unwrap();
        assert!(raw.number("SELECT COUNT(*) FROM audit_index").await > 0);
        check_filters(&store, (&alice, &bob, &github)).await;
    }

    async fn pages_hold_each_record_once_though_many_are_of_one_instant(database: TestDatabase) {
        let (store, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        for number in 0..120 {
            let writer = if number % 2 == 0 { &other } else { &store };
            writer.audit().durable(note_at(&number.to_string(), NOW)).await.unwrap();
            if number % 10 == 0 {
                writer.audit().durable(note_at(&format!("earlier {number}"), at(-1))).await.unwrap();
            }
            if number == 60 {
                store.index_audit().await.unwrap();
            }
        }
        other.audit().durable(note_at("the last of one", NOW)).await.unwrap();
        store.audit().durable(note_at("the last of the other", NOW)).await.unwrap();
        let all = store.search(&read(1_000)).await.unwrap();
        assert_eq!(all.len(), 134);
        assert!(all.is_sorted_by(|one, next| Cursor::of(one) > Cursor::of(next)), "one order for all");
        for limit in [7, 50, 133] {
            let (mut paged, mut after) = (Vec::new(), None);
            while let page = store.search(&Search { after, ..read(limit) }).await.unwrap()
                && let Some(last) = page.last()
            {
                after = Some(Cursor::of(last).to_string().parse().unwrap());
                paged.extend(page);
            }
            assert_eq!(paged, all, "{limit} at a time");
        }
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

    async fn a_damaged_record_stops_neither_the_index_nor_searches_for_others(database: TestDatabase) {
        let (store, reader) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        store.audit().durable(note_at("damaged", NOW)).await.unwrap();
        store.audit().open(permit(), intent(request(1))).await.unwrap();
        let mut raw = Raw::open(&database).await;
        let mut segments = raw.segments().await;
        let lines: Vec<String> = segments[0].lines().iter().map(|line| line.replace("damaged", "\"")).collect();
        segments[0] = segments[0].with_lines(&lines);
        raw.replace_segments(&segments).await;
        reader.index_audit().await.unwrap();
        let hers = Search { person: Some(user("alice").id), limit: 9, ..Search::default() };
        assert_eq!(store.search(&hers).await.unwrap().len(), 1);
        let all = store.search(&Search { limit: 9, ..Search::default() }).await;
        assert!(matches!(all, Err(StoreError::Damaged { .. })), "what can't be read is not left out: {all:?}");
        store.audit().durable(note_at("later", NOW)).await.unwrap();
        reader.index_audit().await.unwrap();
        assert_eq!(raw.number("SELECT upto FROM audit_indexed").await, 4, "the index goes on");
    }

    async fn what_a_process_wrote_is_indexed_without_being_read_back(database: TestDatabase) {
        let (store, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        store.audit().durable(note_at("one", NOW)).await.unwrap();
        other.index_audit().await.unwrap();
        for name in ["two", "three"] {
            store.audit().durable(note_at(name, NOW)).await.unwrap();
        }
        let mut raw = Raw::open(&database).await;
        let mut segments = raw.segments().await;
        for segment in &mut segments[1..] {
            let lines: Vec<String> = segment.lines().iter().map(|_| "unreadable".to_owned()).collect();
            *segment = segment.with_lines(&lines);
        }
        raw.replace_segments(&segments).await;
        store.index_audit().await.unwrap();
        let reads = "SELECT COUNT(*) FROM audit_index WHERE outcome = 'read'";
        assert_eq!(raw.number(reads).await, 3);
        assert_eq!(other.reindex_audit().await.unwrap(), 1);
        assert_eq!(raw.number(reads).await, 1, "whoever didn't write them has only the segments");
    }

    async fn a_failed_change_is_not_found(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        write(&store, async |tx| tx.add_user(&user("alice")).await).await.unwrap();
        let failed = write(&store, async |_| Err(StoreError::Missing { what: "x".to_owned() })).await;
        assert!(failed.is_err());
        let changes = Search { outcome: Some("changed".to_owned()), limit: 9, ..Search::default() };
        assert_eq!(store.search(&changes).await.unwrap().len(), 2, "the chain's beginning and the change");
    }

    async fn a_garbled_index_is_no_evidence_and_is_made_anew(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let names: Vec<String> = (0..70).map(|number| format!("note {number}")).collect();
        for name in &names {
            store.audit().durable(note_at(name, NOW)).await.unwrap();
        }
        store.index_audit().await.unwrap();
        let whole = methods(&store, read(99)).await;
        assert_eq!(whole.len(), 70);
        let mut raw = Raw::open(&database).await;
        for garbling in [
            "DELETE FROM audit_index",
            "DELETE FROM audit_index WHERE first = 7",
            "UPDATE audit_index SET outcome = 'x' || outcome",
            "UPDATE audit_index SET at = at + 1",
            "UPDATE audit_indexed SET upto = 1000000",
            "INSERT INTO audit_index SELECT chain, first, 'somebody', server, tool, outcome, at FROM audit_index WHERE first = 9",
        ] {
            raw.run(garbling).await.unwrap();
            store.audit().durable(note_at("goes on", at(-1))).await.unwrap();
            let report = store.verify(Vec::new()).await.unwrap();
            assert_eq!(report.findings, [], "{garbling}");
            assert!(matches!(report.notices[..], [Notice::IndexDiffers { .. }]), "{garbling}: {:?}", report.notices);
            assert_eq!(store.reindex_audit().await.unwrap(), 1);
            let found = methods(&store, read(70)).await;
            assert_eq!(found, whole, "{garbling}");
            assert_eq!(store.verify(Vec::new()).await.unwrap().notices, [], "{garbling}");
        }
    }

    async fn the_index_is_made_anew_while_others_keep_it_and_the_log_grows(database: TestDatabase) {
        let (store, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        let mut raw = Raw::open(&database).await;
        for round in 0..5 {
            let audit = store.audit();
            let grow = async {
                for number in 0..40 {
                    audit.durable(note_at(&format!("note {round}.{number}"), NOW)).await.unwrap();
                }
            };
            let keep = async {
                for _ in 0..20 {
                    store.index_audit().await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let anew = async {
                for _ in 0..3 {
                    other.reindex_audit().await.unwrap();
                }
            };
            futures_util::join!(grow, keep, anew);
            store.index_audit().await.unwrap();
            assert_eq!(methods(&store, read(999)).await.len(), 40 * (round + 1));
            assert_eq!(store.verify(Vec::new()).await.unwrap().notices, []);
            let behind = "SELECT COUNT(*) FROM audit_segments s WHERE s.first >= COALESCE(
                (SELECT upto FROM audit_indexed i WHERE i.chain = s.chain), 0)";
            assert_eq!(raw.number(behind).await, 0);
        }
    }

    async fn the_index_ends_though_the_log_grows_whenever_it_does(database: TestDatabase) {
        let (store, other) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        store.audit().durable(note_at("one", NOW)).await.unwrap();
        let more = "INSERT INTO audit_segments (chain, first, count, body, leaves, previous, hash, root, at)
            SELECT chain, NEW.upto, 1, body, leaves, previous, hash, root, at FROM audit_segments
             WHERE chain = NEW.chain AND first = 0";
        let grow = match database.admin_url() {
            Some(_) => format!(
                "CREATE FUNCTION grow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
                 AS $$ BEGIN {more}; RETURN NULL; END $$;
                 CREATE TRIGGER grow AFTER UPDATE ON audit_indexed FOR EACH ROW
                 WHEN (NEW.upto < 50) EXECUTE FUNCTION grow()"
            ),
            None => format!(
                "CREATE TRIGGER grow AFTER UPDATE ON audit_indexed WHEN NEW.upto < 50 BEGIN {more}; END"
            ),
        };
        let mut raw = Raw::open(&database).await;
        raw.run(&grow).await.unwrap();
        for upto in [2, 3] {
            other.index_audit().await.unwrap();
            assert_eq!(raw.number("SELECT upto FROM audit_indexed").await, upto, "the rest has time");
        }
    }

    async fn who_keeps_the_index_while_it_is_made_anew_leaves_no_gap(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let mut raw = Raw::open(&database).await;
        for name in ["one", "two", "three"] {
            store.audit().durable(note_at(name, NOW)).await.unwrap();
        }
        store.index_audit().await.unwrap();
        store.audit().durable(note_at("four", NOW)).await.unwrap();
        let hold = match database.admin_url() {
            Some(_) => "BEGIN; LOCK TABLE audit_index IN EXCLUSIVE MODE",
            None => "BEGIN IMMEDIATE",
        };
        raw.run(hold).await.unwrap();
        let mut keeps = std::pin::pin!(store.index_audit());
        let waits = tokio::time::timeout(Duration::from_millis(300), &mut keeps).await;
        assert!(waits.is_err(), "it has read what the index lacks, and can't write yet");
        raw.run("UPDATE audit_indexed SET upto = 0; DELETE FROM audit_index; COMMIT").await.unwrap();
        keeps.await.unwrap();
        assert_eq!(methods(&store, read(9)).await.len(), 4);
        assert_eq!(store.verify(Vec::new()).await.unwrap().notices, []);
    }

    async fn a_gap_or_an_empty_segment_does_not_keep_the_index_from_ending(database: TestDatabase) {
        let (store, reader) = (database.open(Process::Serve).await, database.open(Process::Command).await);
        for name in ["one", "two", "three", "four"] {
            store.audit().durable(note_at(name, NOW)).await.unwrap();
        }
        let mut raw = Raw::open(&database).await;
        let mut rows = raw.segments().await;
        rows[3].count = 0;
        rows.remove(1);
        raw.replace_segments(&rows).await;
        reader.index_audit().await.unwrap();
        assert_eq!(store.reindex_audit().await.unwrap(), 1);
    }
}
