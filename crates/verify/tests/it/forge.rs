//! Logs that somebody makes who holds the key: everything is signed, and not everything fits.

use ed25519_dalek::{Signer, SigningKey};
use mcphub_verify::{Kind, check};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Hash = [u8; 32];

const INSTALL: &str = "6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e";

/// Is a chain: its id, and its records in segments.
#[derive(Clone)]
struct Chain {
    id: String,
    segments: Vec<Vec<Value>>,
}

/// Is a bundle in the making.
struct Forge {
    key: SigningKey,
    heads: Vec<Value>,
    chains: Vec<Chain>,
}

fn sha256(pieces: &[&[u8]]) -> Hash {
    pieces.iter().fold(Sha256::new(), |hash, piece| hash.chain_update(piece)).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha256(&[&[1], &root(left), &root(right)])
        }
    }
}

impl Chain {
    /// Makes a chain of two segments with two records each, which names others.
    fn new(digit: char, others: &Value) -> Self {
        let id = INSTALL.replace(|c: char| c.is_ascii_hexdigit(), &digit.to_string());
        let record = |number: u64, event: Value| json!({ "actor": { "kind": "hub" }, "at": 100 + number, "chain": id, "event": event, "number": number, "v": 1 });
        let note = |number| record(number, json!({ "items": 1, "method": "x", "type": "read" }));
        let opened = record(0, json!({ "others": others, "type": "chain.opened" }));
        let closed = record(3, json!({ "type": "chain.closed" }));
        Self { segments: vec![vec![opened, note(1)], vec![note(2), closed]], id }
    }

    fn leaves(&self) -> Vec<Hash> {
        let records = self.segments.iter().flatten();
        records.map(|record| sha256(&[&[0], record.to_string().as_bytes()])).collect()
    }

    /// Names the chain's end at a size.
    fn end(&self, size: usize) -> Value {
        json!({ "chain": self.id, "root": hex(&root(&self.leaves()[..size])), "size": size })
    }

    fn lines(&self) -> Vec<String> {
        let (all, mut first, mut previous, mut lines) = (self.leaves(), 0, [0; 32], Vec::new());
        let raw: Vec<u8> = (0..16)
            .map(|at| u8::from_str_radix(&self.id.replace('-', "")[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        for records in &self.segments {
            let count = records.len();
            let leaves = all[first..first + count].concat();
            let (place, many) = ((first as u64).to_be_bytes(), (count as u64).to_be_bytes());
            let hash = sha256(&[b"mcphub/segment/v1\0", &raw, &place, &many, &previous, &leaves]);
            let at = records.iter().map(|record| record["at"].as_i64().unwrap()).max();
            lines.push(
                json!({
                    "at": at, "chain": self.id, "count": count, "first": first, "hash": hex(&hash),
                    "leaves": hex(&leaves), "lines": count, "previous": hex(&previous),
                    "root": hex(&root(&all[..first + count])), "shown": true,
                })
                .to_string(),
            );
            lines.extend(records.iter().map(Value::to_string));
            (first, previous) = (first + count, hash);
        }
        lines
    }
}

impl Forge {
    fn new(chains: Vec<Chain>) -> Self {
        Self { key: SigningKey::from_bytes(&[7; 32]), heads: Vec::new(), chains }
    }

    /// Signs a head.
    fn head(mut self, number: u64, ends: &[&Value]) -> Self {
        let mut head = json!({ "at": 200, "chains": ends, "install": INSTALL, "number": number, "v": 1 });
        head["signature"] = hex(&self.key.sign(head.to_string().as_bytes()).to_bytes()).into();
        self.heads.push(head);
        self
    }

    /// Says what is found in the sealed bundle, after a change of its lines.
    fn found(&self, change: impl FnOnce(&mut Vec<String>)) -> Vec<(Kind, Option<u64>)> {
        let key = hex(self.key.verifying_key().as_bytes());
        let first = json!({ "bundle": "mcphub-audit", "heads": self.heads.len(), "install": INSTALL, "key": key, "kind": "export", "v": 1 });
        let mut lines = vec![first.to_string()];
        lines.extend(self.heads.iter().map(Value::to_string));
        lines.extend(self.chains.iter().flat_map(Chain::lines));
        let records: usize = self.chains.iter().map(|chain| chain.leaves().len()).sum();
        let segments: usize = self.chains.iter().map(|chain| chain.segments.len()).sum();
        let chains = self.chains.len();
        lines.push(
            json!({ "chains": chains, "end": true, "records": records, "segments": segments }).to_string(),
        );
        change(&mut lines);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let message = [b"mcphub/bundle/v1\0".as_slice(), &sha256(&[text.as_bytes()])].concat();
        let seal = json!({ "seal": hex(&self.key.sign(&message).to_bytes()) });
        let findings = check(format!("{text}{seal}\n").as_bytes(), None).unwrap().findings.into_iter();
        findings.map(|finding| (finding.kind, finding.place.map(|(_, number)| number))).collect()
    }
}

fn none() -> Value {
    json!([])
}

/// Makes a chain that another one names, and a head that names that.
fn two() -> (Chain, Chain) {
    let old = Chain::new('a', &none());
    let new = Chain::new('b', &json!([old.end(4)]));
    (old, new)
}

#[test]
fn what_fits_is_whole() {
    let (old, new) = two();
    let end = new.end(4);
    assert_eq!(Forge::new(vec![new, old]).head(1, &[&end]).found(|_| {}), []);
}

#[test]
fn a_chain_that_is_not_what_was_seen_is_rewritten() {
    let (old, new) = two();
    let (middle, end) = (new.end(2), new.end(4));
    let mut forged = new.clone();
    forged.segments[1][0]["event"]["method"] = "y".into();
    let bundle = |chain: &Chain| Forge::new(vec![chain.clone(), old.clone()]).head(1, &[&middle]);
    assert_eq!(bundle(&forged).head(2, &[&end]).found(|_| {}), [(Kind::Rewritten, Some(2))]);
    let signed = bundle(&forged).head(2, &[&end]).head(3, &[&forged.end(4)]);
    assert_eq!(signed.found(|_| {}), [(Kind::Forked, Some(2))]);
    let mut other = old.clone();
    other.segments[0][1]["event"]["method"] = "y".into();
    let named = Forge::new(vec![new.clone(), other]).head(2, &[&end]);
    assert_eq!(named.found(|_| {}), [(Kind::Rewritten, Some(0))], "the other chain's first record names it");
}

#[test]
fn what_was_seen_and_is_not_there_is_truncated() {
    let (old, new) = two();
    let end = new.end(4);
    let gone = Forge::new(vec![new.clone()]).head(1, &[&end]);
    assert_eq!(gone.found(|_| {}), [(Kind::Truncated, Some(0))]);
    let mut short = new.clone();
    short.segments.pop();
    let short = Forge::new(vec![short, old]).head(1, &[&end]);
    assert_eq!(short.found(|_| {}), [(Kind::Truncated, Some(2))]);
}

#[test]
fn records_that_are_consistently_elsewhere_are_found() {
    let changed = |change: &dyn Fn(&mut Vec<Vec<Value>>)| {
        let mut chain = Chain::new('a', &none());
        change(&mut chain.segments);
        let end = chain.end(chain.leaves().len());
        Forge::new(vec![chain]).head(1, &[&end]).found(|_| {})
    };
    assert_eq!(changed(&|_| {}), []);
    assert_eq!(changed(&|all| drop(all[0].remove(1))), [(Kind::Removed, Some(1))]);
    let again = |all: &mut Vec<Vec<Value>>| {
        let record = all[0][1].clone();
        all[0].push(record);
    };
    assert_eq!(changed(&again), [(Kind::Inserted, Some(2))]);
    let after_the_end = |all: &mut Vec<Vec<Value>>| {
        let mut record = all[1][0].clone();
        record["number"] = 4.into();
        all[1].push(record);
    };
    assert_eq!(changed(&after_the_end), [(Kind::Inserted, Some(4))]);
    let swap = |all: &mut Vec<Vec<Value>>| {
        let (early, late) = (all[0][1].clone(), all[1][0].clone());
        (all[0][1], all[1][0]) = (late, early);
    };
    assert_eq!(changed(&swap), [(Kind::Reordered, Some(1))]);
    assert_eq!(changed(&|all| all[1][0]["chain"] = INSTALL.into()), [(Kind::Inserted, Some(2))]);
}

#[test]
fn what_joins_the_segments_is_checked() {
    let (old, new) = two();
    let end = new.end(4);
    let bundle = Forge::new(vec![new, old]).head(1, &[&end]);
    let changed = |line: usize, member: &str, value: Value| {
        bundle.found(|lines| {
            let mut segment: Value = serde_json::from_str(&lines[line]).unwrap();
            assert_ne!(segment[member], value, "{member}");
            segment[member] = value;
            lines[line] = segment.to_string();
        })
    };
    // The second segment of the first chain stands on the sixth line.
    assert_eq!(changed(5, "at", json!(102)), [(Kind::ClockRegress, Some(2))]);
    assert_eq!(changed(5, "at", json!(104)), [(Kind::Altered, Some(2))]);
    for member in ["hash", "previous", "root"] {
        assert_eq!(changed(5, member, json!("0".repeat(64))), [(Kind::Altered, Some(2))], "{member}");
    }
    assert_eq!(changed(5, "first", json!(3))[0], (Kind::Removed, Some(2)));
    assert_eq!(changed(5, "first", json!(1))[0], (Kind::Inserted, Some(1)));
    assert_eq!(changed(5, "count", json!(1))[0], (Kind::Altered, Some(2)));
}

#[test]
fn chains_stand_together_and_after_those_that_name_them() {
    let (old, new) = two();
    let end = new.end(4);
    let wrong = Forge::new(vec![old.clone(), new.clone()]).head(1, &[&end]);
    assert_eq!(wrong.found(|_| {}), [(Kind::Malformed, None)]);
    let bundle = Forge::new(vec![new, old]).head(1, &[&end]);
    assert_eq!(bundle.found(|lines| lines.swap(5, 8)).last(), Some(&(Kind::Malformed, None)));
    let fewer = bundle.found(|lines| {
        *lines.last_mut().unwrap() =
            json!({ "chains": 2, "end": true, "records": 8, "segments": 3 }).to_string()
    });
    assert_eq!(fewer, [(Kind::Malformed, None)]);
}

#[test]
fn heads_are_those_of_the_installation_in_their_order() {
    let (old, new) = two();
    let (middle, end) = (new.end(2), new.end(4));
    let bundle = |numbers: [u64; 2]| {
        let forge = Forge::new(vec![new.clone(), old.clone()]);
        forge.head(numbers[0], &[&middle]).head(numbers[1], &[&end])
    };
    assert_eq!(bundle([1, 2]).found(|_| {}), []);
    assert_eq!(bundle([2, 2]).found(|_| {}), [(Kind::Replayed, None)]);
    let mut foreign = bundle([1, 2]);
    let key = SigningKey::from_bytes(&[8; 32]);
    let mut head = foreign.heads[1].clone();
    head.as_object_mut().unwrap().remove("signature");
    head["signature"] = hex(&key.sign(head.to_string().as_bytes()).to_bytes()).into();
    foreign.heads[1] = head;
    assert_eq!(foreign.found(|_| {}), [(Kind::BadSignature, None)]);
}
