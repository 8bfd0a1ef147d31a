//! Whatever is done to the log behind the store's back, `verify` finds, names and places.

use std::time::Duration;

use futures_util::future::join_all;
use mcphub_domain::audit::ChainHead;
use mcphub_domain::{ChainId, Entropy};
use mcphub_store::audit::{Finding, Notice, Source, Witness};
use mcphub_store::testing::TestDatabase;
use mcphub_store::{Process, Store};

use crate::build::{NOW, note, note_at};
use crate::forge::{consistent, hash};
use crate::raw::{Raw, SegmentRow};

/// Is a log of ten records in four segments (0-1, 2-6, 7, 8-9), seen after the second and at the end.
struct Log {
    store: Store,
    raw: Raw,
    chain: ChainId,
    segments: Vec<SegmentRow>,
    middle: Witness,
    end: Witness,
}

impl Log {
    async fn start(database: &TestDatabase) -> Self {
        let store = database.open(Process::Serve).await;
        let mut witnesses = Vec::new();
        let mut number = 0;
        for count in [1, 5, 1, 2] {
            let audit = store.audit();
            let names: Vec<String> = (0..count).map(|at| format!("note {}", number + at)).collect();
            join_all(names.iter().map(|name| audit.durable(note(name)))).await;
            number += count;
            let head = store.audit_tips().await.unwrap().remove(0);
            witnesses.push(Witness { source: Source::Head(head.size), head });
        }
        let mut raw = Raw::open(database).await;
        let segments = raw.segments().await;
        assert_eq!(
            segments.iter().map(|row| (row.first, row.count)).collect::<Vec<_>>(),
            [(0, 2), (2, 5), (7, 1), (8, 2)]
        );
        let (end, middle) = (witnesses.remove(3), witnesses.remove(1));
        Self { store, raw, chain: end.head.chain, segments, middle, end }
    }

    /// Verifies with both witnesses.
    async fn verify(&self) -> Vec<Finding> {
        self.store.verify(vec![self.middle.clone(), self.end.clone()]).await.unwrap().findings
    }

    /// Puts other segments in the place of the log and says what that is found to be.
    async fn tamper(&mut self, change: impl FnOnce(&mut Vec<SegmentRow>)) -> Vec<Finding> {
        let mut segments = self.segments.clone();
        change(&mut segments);
        assert_ne!(segments, self.segments, "the tampering changed nothing");
        self.raw.replace_segments(&segments).await;
        let findings = self.verify().await;
        self.raw.replace_segments(&self.segments).await;
        assert_eq!(self.verify().await, [], "the log as it was");
        findings
    }

    /// Changes the lines of the records 2 to 6 and nothing else.
    async fn tamper_lines(&mut self, change: impl FnOnce(&mut Vec<String>)) -> Vec<Finding> {
        self.tamper(|segments| {
            let mut lines = segments[1].lines();
            change(&mut lines);
            segments[1] = segments[1].with_lines(&lines);
        })
        .await
    }
}

/// Changes the text of one record.
fn edit(segment: &mut SegmentRow, place: usize) {
    let mut lines = segment.lines();
    lines[place] = lines[place].replace("note", "vote");
    *segment = segment.with_lines(&lines);
}

fn altered(log: &Log, number: u64) -> [Finding; 1] {
    [Finding::Altered { chain: log.chain, number }]
}

fn removed(log: &Log, number: u64) -> [Finding; 1] {
    [Finding::Removed { chain: log.chain, number }]
}

fn inserted(log: &Log, number: u64) -> [Finding; 1] {
    [Finding::Inserted { chain: log.chain, number }]
}

fn reordered(log: &Log, number: u64) -> [Finding; 1] {
    [Finding::Reordered { chain: log.chain, number }]
}

fn truncated(log: &Log, found: u64) -> [Finding; 1] {
    [Finding::Truncated { chain: log.chain, found, witness: log.end.clone() }]
}

fn rewritten(log: &Log, from: u64, witness: &Witness) -> [Finding; 1] {
    [Finding::Rewritten { chain: log.chain, from, witness: witness.clone() }]
}

both! {
    async fn an_untouched_log_is_whole(database: TestDatabase) {
        let log = Log::start(&database).await;
        let report = log.store.verify(vec![log.middle.clone(), log.end.clone()]).await.unwrap();
        assert_eq!((report.chains, report.records, report.findings), (1, 10, Vec::new()));
        assert_eq!(consistent(&log.segments), log.segments, "the format is what it was");
    }

    async fn an_altered_record_is_found(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        assert_eq!(log.tamper(|rows| edit(&mut rows[1], 2)).await, altered(&log, 4));
        assert_eq!(log.tamper(|rows| edit(&mut rows[3], 1)).await, altered(&log, 9));
        assert_eq!(log.tamper_lines(|lines| lines[0] = "not JSON".to_owned()).await, altered(&log, 2));
        let first = log.tamper(|rows| rows[0].body = b"{}\n".to_vec()).await;
        assert_eq!(first.len(), 1);
    }

    async fn removed_records_are_found(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        assert_eq!(log.tamper_lines(|lines| drop(lines.remove(2))).await, removed(&log, 4));
        assert_eq!(log.tamper_lines(|lines| drop(lines.pop())).await, removed(&log, 6));
        assert_eq!(log.tamper_lines(Vec::clear).await, removed(&log, 2));
        assert_eq!(log.tamper(|rows| drop(rows.remove(0))).await, removed(&log, 0));
        assert_eq!(log.tamper(|rows| drop(rows.remove(1))).await, removed(&log, 2));
        assert_eq!(log.tamper(|rows| drop(rows.remove(2))).await, removed(&log, 7));
    }

    async fn inserted_records_are_found(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        let forged = log.segments[1].lines()[0].replace("note", "vote");
        assert_eq!(log.tamper_lines(|lines| lines.insert(2, forged.clone())).await, inserted(&log, 4));
        assert_eq!(log.tamper_lines(|lines| lines.push(forged.clone())).await, inserted(&log, 7));
        let row = SegmentRow { first: 5, ..log.segments[1].with_lines(&[forged]) };
        assert_eq!(log.tamper(|rows| rows.push(row)).await, inserted(&log, 5));
    }

    async fn reordered_records_are_found(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        assert_eq!(log.tamper_lines(|lines| lines.swap(1, 3)).await, reordered(&log, 3));
        let with_leaves = log.tamper(|rows| {
            let mut lines = rows[1].lines();
            lines.swap(1, 3);
            rows[1] = rows[1].with_lines(&lines);
            rows[1].leaves = consistent(&[rows[1].clone()]).remove(0).leaves;
        });
        assert_eq!(with_leaves.await, reordered(&log, 3));
        let segments = log.tamper(|rows| (rows[3].first, rows[2].first) = (7, 9));
        assert_eq!(segments.await, reordered(&log, 7));
        let bodies = log.tamper(|rows| {
            let body = std::mem::take(&mut rows[2].body);
            rows[2].body = std::mem::replace(&mut rows[0].body, body);
        });
        assert_eq!(bodies.await.len(), 1);
        let consistently = log.tamper(|rows| {
            rows.swap(1, 2);
            *rows = consistent(rows);
        });
        assert_eq!(consistently.await, reordered(&log, 2));
    }

    async fn a_cut_tail_is_found(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        assert_eq!(log.tamper(|rows| drop(rows.pop())).await, truncated(&log, 8));
        assert_eq!(log.tamper(|rows| rows.truncate(1)).await, truncated(&log, 2));
        assert_eq!(log.tamper(Vec::clear).await, truncated(&log, 0));
        let inside = log.tamper(|rows| {
            let mut lines = rows[3].lines();
            lines.pop();
            rows[3] = rows[3].with_lines(&lines);
            *rows = consistent(rows);
        });
        assert_eq!(inside.await, truncated(&log, 9));
    }

    async fn a_consistently_rewritten_chain_is_found(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        let (middle, end) = (log.middle.clone(), log.end.clone());
        let before = log.tamper(|rows| {
            edit(&mut rows[1], 2);
            *rows = consistent(rows);
        });
        assert_eq!(before.await, rewritten(&log, 0, &middle));
        let after = log.tamper(|rows| {
            edit(&mut rows[3], 0);
            *rows = consistent(rows);
        });
        assert_eq!(after.await, rewritten(&log, 7, &end));
        let leaf_only = log.tamper(|rows| {
            edit(&mut rows[3], 0);
            rows[3].leaves = consistent(rows).remove(3).leaves;
        });
        assert_eq!(leaf_only.await, rewritten(&log, 7, &end));
    }

    async fn what_joins_the_segments_is_checked_too(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        assert_eq!(log.tamper(|rows| rows[1].root[0] ^= 1).await, altered(&log, 2));
        assert_eq!(log.tamper(|rows| rows[1].hash[31] ^= 1).await, altered(&log, 2));
        assert_eq!(log.tamper(|rows| rows[2].previous[5] ^= 1).await, altered(&log, 7));
        let unlinked = log.tamper(|rows| {
            rows[2].previous = vec![0; 32];
            rows[2].hash = hash(&rows[2]);
        });
        assert_eq!(unlinked.await, altered(&log, 7));
        assert_eq!(log.tamper(|rows| rows[1].count = 4).await, altered(&log, 2));
        assert_eq!(log.tamper(|rows| rows[0].hash.truncate(31)).await, altered(&log, 0));
        assert_eq!(log.tamper(|rows| rows[3].leaves.truncate(63)).await, inserted(&log, 9));
        assert_eq!(log.tamper(|rows| rows[2].count = -1).await, altered(&log, 7));
    }

    async fn every_changed_bit_is_found(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        let random = Entropy::fixed(99);
        for _ in 0..40 {
            let [segment, column, low, high, bit] = random.bytes::<5>();
            let findings = log.tamper(|rows| {
                let row = &mut rows[usize::from(segment % 4)];
                let columns = [&mut row.body, &mut row.leaves, &mut row.previous, &mut row.hash, &mut row.root];
                let bytes = columns.into_iter().nth(usize::from(column % 5)).unwrap();
                let place = usize::from(u16::from_be_bytes([high, low])) % bytes.len();
                bytes[place] ^= 1 << (bit % 8);
            });
            assert_eq!(findings.await.len(), 1, "segment {}, column {}, bit {bit}", segment % 4, column % 5);
        }
    }

    async fn without_a_witness_another_chain_is_one(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        let other = database.open(Process::Command).await;
        other.audit().durable(note("another process")).await.unwrap();
        let report = log.store.verify(Vec::new()).await.unwrap();
        assert_eq!((report.chains, report.records, report.findings.len()), (2, 12, 0));
        let whole = log.raw.segments().await;
        let is_first = |row: &SegmentRow| row.chain == log.segments[0].chain;
        let without_tail: Vec<_> = whole.iter().filter(|row| !is_first(row) || row.first < 8).cloned().collect();
        log.raw.replace_segments(&without_tail).await;
        let findings = log.store.verify(Vec::new()).await.unwrap().findings;
        let [Finding::Truncated { chain, found: 8, witness }] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((*chain, &witness.head), (log.chain, &log.end.head));
        assert!(matches!(witness.source, Source::Chain(_)), "{}", witness.source);
        let without_chain: Vec<_> = whole.iter().filter(|row| !is_first(row)).cloned().collect();
        log.raw.replace_segments(&without_chain).await;
        let findings = log.store.verify(Vec::new()).await.unwrap().findings;
        assert!(matches!(&findings[..], [Finding::Truncated { found: 0, .. }]), "{findings:?}");
    }

    async fn nothing_comes_after_the_end_of_a_chain(database: TestDatabase) {
        let log = Log::start(&database).await;
        let (mut raw, chain) = (log.raw, log.chain);
        log.store.close().await.unwrap();
        drop(log.store);
        let mut segments = raw.segments().await;
        let last = segments.last().unwrap().clone();
        let forged = log.segments[3].lines()[0].replace("\"number\":8", "\"number\":11");
        segments.push(last.with_lines(&[forged]));
        raw.replace_segments(&consistent(&segments)).await;
        let store = database.open(Process::Command).await;
        let findings = store.verify(Vec::new()).await.unwrap().findings;
        assert_eq!(findings, [Finding::Inserted { chain, number: 11 }]);
    }

    async fn the_log_can_only_grow(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        database.open(Process::Command).await.audit().durable(note("names the other chain")).await.unwrap();
        let mut attempts = vec![
            "UPDATE audit_segments SET body = leaves",
            "DELETE FROM audit_segments WHERE first = 8",
            "UPDATE audit_named SET size = 0",
            "DELETE FROM audit_named",
        ];
        match database.admin_url() {
            Some(_) => attempts.extend(["TRUNCATE audit_segments", "TRUNCATE audit_named"]),
            None => attempts.push("INSERT OR REPLACE INTO audit_segments SELECT chain, first, count, leaves, leaves, previous, hash, root, at FROM audit_segments"),
        }
        for attempt in attempts {
            let error = log.raw.run(attempt).await.unwrap_err().to_string();
            assert!(error.contains("append-only"), "{attempt}: {error}");
        }
        assert_eq!(log.verify().await, []);
    }

    async fn a_chain_that_two_heads_tell_differently_is_forked(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        let mut rows = log.segments.clone();
        edit(&mut rows[3], 0);
        let forged = consistent(&rows);
        log.raw.replace_segments(&forged).await;
        let signed_later = Witness {
            head: ChainHead { root: hex::encode(&forged[3].root), ..log.end.head.clone() },
            source: Source::Head(99),
        };
        let witnesses = vec![log.middle.clone(), log.end.clone(), signed_later.clone()];
        let findings = log.store.verify(witnesses.clone()).await.unwrap().findings;
        let [Finding::Forked { chain, from: 7, one, other }] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!(*chain, log.chain);
        assert!([&log.end, &signed_later].iter().all(|head| [&**one, &**other].contains(head)));
        log.raw.replace_segments(&log.segments).await;
        let findings = log.store.verify(witnesses).await.unwrap().findings;
        assert!(matches!(&findings[..], [Finding::Forked { from: 7, .. }]), "the old chain is there again");
    }

    async fn a_changed_time_is_found(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        let clock_regress = [Finding::ClockRegress { chain: log.chain, number: 7 }];
        assert_eq!(log.tamper(|rows| rows[2].at -= 1).await, clock_regress);
        assert_eq!(log.tamper(|rows| rows[2].at = 0).await, clock_regress);
        assert_eq!(log.tamper(|rows| rows[2].at += 1).await, altered(&log, 7));
    }

    async fn a_clock_that_was_set_back_is_a_notice(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let hour = Duration::from_secs(3600);
        for at in [NOW.plus(hour), NOW.plus(hour), NOW, NOW.plus(hour + hour)] {
            store.audit().durable(note_at("a note", at)).await.unwrap();
        }
        let report = store.verify(Vec::new()).await.unwrap();
        let chain = store.audit_tips().await.unwrap()[0].chain;
        assert_eq!(report.findings, []);
        assert_eq!(report.notices, [Notice::ClockSetBack { chain, number: 3, by: hour }]);
        let times: Vec<i64> = Raw::open(&database).await.segments().await.iter().map(|row| row.at).collect();
        assert!(times.is_sorted(), "the segments' own times never go back: {times:?}");
    }

    async fn an_end_that_only_a_table_says_is_named_is_found(database: TestDatabase) {
        let mut log = Log::start(&database).await;
        let by = ChainId::from_bytes([7; 16]);
        let forged = format!("INSERT INTO audit_named VALUES ('{}', 10, '{by}')", log.chain);
        log.raw.run(&forged).await.unwrap();
        assert_eq!(log.store.audit_tips().await.unwrap(), [], "no head would cover the chain any more");
        assert_eq!(log.verify().await, [Finding::Misnamed { chain: log.chain, size: 10, by }]);
    }

    async fn what_nobody_has_witnessed_is_counted(database: TestDatabase) {
        let log = Log::start(&database).await;
        let unwitnessed = async |witnesses| log.store.verify(witnesses).await.unwrap().unwitnessed;
        assert_eq!(unwitnessed(vec![log.end.clone()]).await, 0);
        assert_eq!(unwitnessed(vec![log.middle.clone()]).await, 3);
        assert_eq!(unwitnessed(Vec::new()).await, 10);
    }
}
