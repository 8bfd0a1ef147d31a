//! Random logs, tampered with at random: it is always found, as what it is, at the first record.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use mcphub_domain::audit::ChainHead;
use mcphub_domain::{ChainId, Entropy};
use mcphub_store::audit::{Source, Witness};
use mcphub_store::testing::TestDatabase;
use mcphub_store::{Process, Store};
use serde_json::Value;

use crate::build::{NOW, note_at};
use crate::forge::consistent;
use crate::raw::{Raw, SegmentRow};

/// How many logs are made on each database, and how often each is tampered with.
const LOGS: u64 = 4;
const TAMPERINGS: usize = 48;

/// Throws numbers that are the same in each run.
struct Dice(Entropy);

impl Dice {
    fn below(&self, end: usize) -> usize {
        u64::from_be_bytes(self.0.bytes()) as usize % end
    }

    /// Throws two different numbers, the smaller one first.
    fn pair_below(&self, end: usize) -> (usize, usize) {
        let one = self.below(end);
        let other = (one + 1 + self.below(end - 1)) % end;
        (one.min(other), one.max(other))
    }
}

/// Is a log of one to three chains, and what heads saw of it while it grew.
struct Log {
    stores: Vec<Store>,
    raw: Raw,
    rows: Vec<SegmentRow>,
    heads: Vec<Witness>,
}

/// Is what a tampering must be found to be.
#[derive(PartialEq, Eq, Debug)]
struct Expected {
    kind: &'static str,
    number: u64,
}

/// Is one chain of a log, and at which sizes it was seen.
struct Chain {
    id: ChainId,
    rows: Vec<SegmentRow>,
    seen: BTreeSet<u64>,
}

impl Log {
    async fn grow(database: &TestDatabase, dice: &Dice) -> Self {
        let mut stores = vec![database.open(Process::Serve).await];
        for _ in 0..dice.below(3) {
            stores.push(database.open(Process::Command).await);
        }
        let (mut heads, mut number) = (Vec::new(), 0);
        for step in 0..6 + dice.below(6) {
            let audit = stores[dice.below(stores.len())].audit();
            let at = NOW.plus(Duration::from_secs(dice.below(20) as u64));
            let notes: Vec<_> = (0..=dice.below(4)).map(|at| format!("note {step}.{at}")).collect();
            join_all(notes.iter().map(|name| audit.durable(note_at(name, at)))).await;
            if dice.below(2) == 0 {
                number += 1;
                heads.extend(head(&stores[0], number).await);
            }
        }
        heads.extend(head(&stores[0], number + 1).await);
        let mut raw = Raw::open(database).await;
        let rows = raw.segments().await;
        Self { stores, raw, rows, heads }
    }

    /// Takes one chain out of the log; a chain is seen by heads and by the first records of others.
    fn chain(&self, dice: &Dice) -> (Chain, Vec<SegmentRow>) {
        let names: BTreeSet<&String> = self.rows.iter().map(|row| &row.chain).collect();
        let name = names.iter().nth(dice.below(names.len())).unwrap().to_string();
        let (rows, others): (Vec<_>, Vec<_>) = self.rows.iter().cloned().partition(|row| row.chain == name);
        let id = name.parse().unwrap();
        let of_heads =
            self.heads.iter().filter(|witness| witness.head.chain == id).map(|seen| seen.head.size);
        let of_others = others.iter().filter(|row| row.first == 0).flat_map(|row| named(row, &name));
        let seen = of_heads.chain(of_others).collect();
        (Chain { id, rows, seen }, others)
    }

    async fn found(&self, more: &[Witness]) -> Vec<(String, Expected, Option<ChainId>)> {
        let witnesses = self.heads.iter().chain(more).cloned().collect();
        let findings = self.stores[0].verify(witnesses).await.unwrap().findings;
        let named = findings.iter().map(|finding| {
            let place = finding.place();
            let number = place.map_or(0, |(_, number)| number);
            (finding.to_string(), Expected { kind: finding.kind(), number }, place.map(|(chain, _)| chain))
        });
        named.collect()
    }
}

async fn head(store: &Store, number: u64) -> Vec<Witness> {
    let tips = store.audit_tips().await.unwrap().into_iter();
    tips.map(|head| Witness { head, source: Source::Head(number) }).collect()
}

/// Lists the sizes of a chain that another chain's first record names.
fn named(first: &SegmentRow, chain: &str) -> Vec<u64> {
    let opened: Value = serde_json::from_str(&first.lines()[0]).unwrap();
    let others = opened["event"]["others"].as_array().unwrap().iter();
    others.filter(|other| other["chain"] == chain).map(|other| other["size"].as_u64().unwrap()).collect()
}

impl Chain {
    fn size(&self) -> u64 {
        self.rows.iter().map(|row| row.count as u64).sum()
    }

    fn last_seen_upto(&self, number: u64) -> u64 {
        self.seen.iter().copied().filter(|size| *size <= number).max().unwrap_or(0)
    }

    /// Picks a record: its row, its place there, its number.
    fn record(&self, dice: &Dice) -> (usize, usize, u64) {
        let row = dice.below(self.rows.len());
        let place = dice.below(self.rows[row].count as usize);
        (row, place, self.rows[row].first as u64 + place as u64)
    }

    fn lines(&mut self, row: usize, change: impl FnOnce(&mut Vec<String>)) {
        let mut lines = self.rows[row].lines();
        change(&mut lines);
        self.rows[row] = self.rows[row].with_lines(&lines);
    }

    fn edit(&mut self, (row, place, _): (usize, usize, u64)) {
        self.lines(row, |lines| lines[place] = other(&lines[place]));
    }

    fn make_consistent(&mut self) {
        self.rows.retain(|row| !row.body.is_empty());
        self.rows = consistent(&self.rows);
    }
}

/// Changes what a record says, and nothing of its form.
fn other(line: &str) -> String {
    line.replace("note", "vote").replace("\"process\":\"", "\"process\":\"not ")
}

/// Tampers with a chain in one of many ways and says what that is; `None` where it has no place for it.
fn tamper(chain: &mut Chain, dice: &Dice, way: usize) -> Option<Expected> {
    let (row, place, number) = chain.record(dice);
    let first = chain.rows[row].first as u64;
    let is_last = row + 1 == chain.rows.len();
    let expected = |kind, number| Some(Expected { kind, number });
    match way {
        0 => {
            chain.edit((row, place, number));
            expected("altered", number)
        }
        1 => {
            chain.lines(row, |lines| drop(lines.remove(place)));
            expected("removed", number)
        }
        2 => {
            chain.rows.remove(row);
            expected(if is_last { "truncated" } else { "removed" }, first)
        }
        3 => {
            chain.lines(row, |lines| lines.insert(place, other(&lines[place])));
            expected("inserted", number)
        }
        4 if chain.rows[row].count > 1 => {
            let (one, two) = dice.pair_below(chain.rows[row].count as usize);
            chain.lines(row, |lines| lines.swap(one, two));
            expected("reordered", first + one as u64)
        }
        5 if chain.rows.len() > 1 => Some(swap_across(chain, dice)),
        6 if chain.rows.len() > 1 => {
            let (one, two) = dice.pair_below(chain.rows.len());
            let (early, late) = (chain.rows[one].first, chain.rows[two].first);
            (chain.rows[one].first, chain.rows[two].first) = (late, early);
            expected("reordered", early as u64)
        }
        7 => {
            chain.rows.truncate(row);
            expected("truncated", first)
        }
        8 => {
            chain.edit((row, place, number));
            chain.make_consistent();
            expected("rewritten", chain.last_seen_upto(number))
        }
        9 => {
            let kind = if number + 1 == chain.size() { "truncated" } else { "removed" };
            chain.lines(row, |lines| drop(lines.remove(place)));
            chain.make_consistent();
            expected(kind, number)
        }
        10 => {
            let (again, end) = (chain.rows[row].clone(), chain.size());
            chain.rows.push(again);
            chain.make_consistent();
            expected("inserted", end)
        }
        11 => {
            let row = &mut chain.rows[row];
            let columns = [&mut row.hash, &mut row.previous, &mut row.root];
            columns.into_iter().nth(dice.below(3)).unwrap()[dice.below(32)] ^= 1 << dice.below(8);
            expected("altered", first)
        }
        12 => {
            chain.rows[row].at -= 1 + dice.below(1_000_000) as i64;
            expected("clock-regress", first)
        }
        _ => None,
    }
}

/// Swaps two records of different segments.
fn swap_across(chain: &mut Chain, dice: &Dice) -> Expected {
    let (one, two) = dice.pair_below(chain.rows.len());
    let place = dice.below(chain.rows[one].count as usize);
    let early = chain.rows[one].lines()[place].clone();
    let mut late = String::new();
    chain.lines(two, |lines| late = std::mem::replace(&mut lines[0], early));
    chain.lines(one, |lines| lines[place] = late);
    Expected { kind: "reordered", number: chain.rows[one].first as u64 + place as u64 }
}

/// Rewrites the last records that nobody but the last head has seen, and has that signed.
fn fork(log: &Log, chain: &mut Chain) -> Option<(Expected, Witness)> {
    let end = chain.size();
    let is_last = |seen: &&Witness| seen.head.chain == chain.id && seen.head.size == end;
    log.heads.iter().find(is_last)?;
    let from = chain.last_seen_upto(end - 1);
    let row = chain.rows.len() - 1;
    let place = chain.rows[row].count as usize - 1;
    chain.edit((row, place, end - 1));
    chain.make_consistent();
    let root = hex::encode(&chain.rows[row].root);
    let head = ChainHead { chain: chain.id, size: end, root };
    Some((Expected { kind: "forked", number: from }, Witness { head, source: Source::Head(1_000) }))
}

async fn scenario(database: TestDatabase, seed: u64) {
    let dice = Dice(Entropy::fixed(seed));
    let mut log = Log::grow(&database, &dice).await;
    assert_eq!(log.found(&[]).await, [], "log {seed} as it was");
    let mut ways = BTreeSet::new();
    for round in 0..TAMPERINGS {
        let (mut chain, others) = log.chain(&dice);
        let way = round % 14;
        let (expected, more) = match way {
            13 => fork(&log, &mut chain)
                .map_or((None, Vec::new()), |(expected, head)| (Some(expected), vec![head])),
            way => (tamper(&mut chain, &dice, way), Vec::new()),
        };
        let Some(expected) = expected else { continue };
        ways.insert(way);
        let rows: Vec<SegmentRow> = others.into_iter().chain(chain.rows).collect();
        log.raw.replace_segments(&rows).await;
        let found = log.found(&more).await;
        let what = format!("log {seed}, round {round}, way {way}: {found:?}");
        let [(_, first, place)] = &found[..] else { panic!("{what}, expected {expected:?}") };
        assert_eq!((first, place), (&expected, &Some(chain.id)), "{what}");
    }
    assert!(ways.len() > 10, "hardly anything was tried: {ways:?}");
    log.raw.replace_segments(&log.rows.clone()).await;
    assert_eq!(log.found(&[]).await, [], "log {seed} again");
}

#[tokio::test]
async fn whatever_is_done_on_sqlite_is_found() {
    for seed in 0..LOGS {
        scenario(TestDatabase::sqlite(), seed).await;
    }
}

#[tokio::test]
async fn whatever_is_done_on_postgres_is_found() {
    for seed in LOGS..2 * LOGS {
        scenario(TestDatabase::postgres().await, seed).await;
    }
}
