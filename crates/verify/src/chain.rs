//! The walk along one chain.

use crate::Hash;
use crate::finding::{Finding, Kind};
use crate::hash;
use crate::head::{Ends, Source};
use crate::text::{End, Record, Segment, bytes, unhex};
use crate::tree::{Tree, leaf};

/// Is a chain up to where it has been read.
pub(crate) struct Chain {
    pub(crate) name: String,
    id: [u8; 16],
    tree: Tree,
    previous: Hash,
    at: i64,
    ends: Ends,
    /// Up to where somebody has witnessed it.
    pub(crate) covered: u64,
    is_closed: bool,
    state: State,
}

/// Says whether anything was wrong so far.
enum State {
    Sound,
    /// Another record stands where this one should, which may come later.
    Missing {
        number: u64,
        line: u64,
    },
    Broken,
}

/// Is a shown record of a segment: its hash, and what it says of itself.
pub(crate) struct Shown {
    leaf: Hash,
    record: Option<Record>,
    /// What it names, if it is a chain's first.
    pub(crate) names: Vec<End>,
}

impl Shown {
    pub(crate) fn read(line: &[u8]) -> Self {
        let record = Record::read(line);
        let names = record.as_ref().map(|record| record.names(line));
        match names {
            Some(None) => Self { leaf: leaf(line), record: None, names: Vec::new() },
            names => Self { leaf: leaf(line), record, names: names.flatten().unwrap_or_default() },
        }
    }
}

/// Is what is wrong with a record of the chain.
type Wrong = (Kind, u64, String);

impl Chain {
    pub(crate) fn new(name: String, id: [u8; 16], ends: Ends) -> Self {
        Self {
            name,
            id,
            tree: Tree::default(),
            previous: [0; 32],
            at: i64::MIN,
            ends,
            covered: 0,
            is_closed: false,
            state: State::Sound,
        }
    }

    /// Takes in the next segment, with its records if they are shown. Only the first thing that is
    /// wrong with a chain is told.
    pub(crate) fn segment(
        &mut self,
        segment: &Segment,
        shown: Option<&[Shown]>,
        line: u64,
    ) -> Option<Finding> {
        if let State::Missing { number, line } = self.state {
            let is_it = |shown: &Shown| shown.record.as_ref().is_some_and(|record| record.number == number);
            if shown.is_some_and(|shown| shown.iter().any(is_it)) {
                self.state = State::Broken;
                return Some(
                    self.finding((Kind::Reordered, number, "it stands further on".to_owned()), line),
                );
            }
        }
        if !matches!(self.state, State::Sound) {
            return None;
        }
        match self.sound(segment, shown) {
            Ok(()) => None,
            Err((Kind::Removed, number, _)) if shown.is_some() && segment.first == self.tree.size() => {
                self.state = State::Missing { number, line };
                let is_it =
                    |shown: &Shown| shown.record.as_ref().is_some_and(|record| record.number == number);
                shown.is_some_and(|shown| shown.iter().any(is_it)).then(|| {
                    self.state = State::Broken;
                    self.finding((Kind::Reordered, number, "it stands further on".to_owned()), line)
                })
            }
            Err(wrong) => {
                self.state = State::Broken;
                Some(self.finding(wrong, line))
            }
        }
    }

    /// Says what is missing when the chain has ended.
    pub(crate) fn end(&mut self, line: u64) -> Option<Finding> {
        match self.state {
            State::Broken => None,
            State::Missing { number, line } => {
                self.state = State::Broken;
                Some(self.finding((Kind::Removed, number, "it is gone".to_owned()), line))
            }
            State::Sound => {
                let ((size, _), source) = self.ends.pop_last()?;
                self.state = State::Broken;
                let text = format!("the chain ends before it, but {source} names {size} records");
                Some(self.finding((Kind::Truncated, self.tree.size(), text), line))
            }
        }
    }

    /// Tells how many records of a sound chain have been witnessed.
    pub(crate) const fn sound_upto(&self) -> u64 {
        match self.state {
            State::Sound => self.covered,
            State::Missing { .. } | State::Broken => 0,
        }
    }

    fn finding(&self, (kind, number, text): Wrong, line: u64) -> Finding {
        Finding { kind, line, place: Some((self.name.clone(), number)), text }
    }

    fn sound(&mut self, segment: &Segment, shown: Option<&[Shown]>) -> Result<(), Wrong> {
        let first = self.tree.size();
        if segment.first > first {
            return Err((Kind::Removed, first, "records are missing before this segment".to_owned()));
        }
        if segment.first < first {
            return Err((
                Kind::Inserted,
                segment.first,
                "this segment begins within the one before".to_owned(),
            ));
        }
        let altered = |text: &str| (Kind::Altered, first, text.to_owned());
        let leaves = bytes(&segment.leaves).ok_or_else(|| altered("the leaves are no hashes"))?;
        let leaves: Vec<Hash> = leaves.chunks(32).filter_map(|leaf| leaf.try_into().ok()).collect();
        if leaves.len() as u64 != segment.count || segment.leaves.len() as u64 / 64 != segment.count {
            return Err(altered("the segment doesn't have as many leaves as it says"));
        }
        let mut at = self.at;
        if let Some(shown) = shown {
            compare(shown, &leaves, first)?;
            at = self.records(shown, first)?;
        }
        self.link(segment, &leaves, first)?;
        if segment.at < at {
            return Err((Kind::ClockRegress, first, "the segment's time is too early".to_owned()));
        }
        if shown.is_some() && segment.at > at {
            return Err(altered("the segment's time is later than its records"));
        }
        self.at = segment.at;
        Ok(())
    }

    /// Checks what records say of themselves, and returns the time that their segment must have.
    fn records(&mut self, shown: &[Shown], first: u64) -> Result<i64, Wrong> {
        let mut at = self.at;
        for (shown, number) in shown.iter().zip(first..) {
            let Some(record) = &shown.record else {
                return Err((Kind::Altered, number, "it is no record".to_owned()));
            };
            if record.chain != self.name || record.number < number {
                return Err((Kind::Inserted, number, "it belongs elsewhere".to_owned()));
            }
            if record.number > number {
                return Err((Kind::Removed, number, "another one stands there".to_owned()));
            }
            if self.is_closed {
                return Err((Kind::Inserted, number, "the chain had ended".to_owned()));
            }
            self.is_closed = record.event.kind == "chain.closed";
            at = at.max(record.at);
        }
        Ok(at)
    }

    fn link(&mut self, segment: &Segment, leaves: &[Hash], first: u64) -> Result<(), Wrong> {
        for leaf in leaves {
            self.tree.push(*leaf);
            self.compare_ends()?;
        }
        let previous = unhex(&segment.previous);
        let joined = hash(&[
            b"mcphub/segment/v1\0",
            &self.id,
            &segment.first.to_be_bytes(),
            &segment.count.to_be_bytes(),
            &self.previous,
            &leaves.concat(),
        ]);
        let is_sound = previous == Some(self.previous)
            && unhex(&segment.hash) == Some(joined)
            && unhex(&segment.root) == Some(self.tree.root());
        self.previous = joined;
        match is_sound {
            true => Ok(()),
            false => Err((Kind::Altered, first, "the segment isn't joined to the one before".to_owned())),
        }
    }

    /// Compares the root with what is said of it at this size.
    fn compare_ends(&mut self) -> Result<(), Wrong> {
        let size = self.tree.size();
        let mut said: Vec<(Hash, Source)> = Vec::new();
        while let Some(entry) = self.ends.first_entry() {
            if entry.key().0 > size {
                break;
            }
            let ((_, root), source) = entry.remove_entry();
            said.push((root, source));
        }
        if said.is_empty() {
            return Ok(());
        }
        let from = self.covered;
        let mut heads = said.iter().filter(|(_, source)| matches!(source, Source::Head(_)));
        if let (Some((_, one)), Some((_, other))) = (heads.next(), heads.next()) {
            let text = format!("{one} and {other} saw different chains of {size} records");
            return Err((Kind::Forked, from, text));
        }
        let root = self.tree.root();
        if let Some((_, source)) = said.iter().find(|(said, _)| *said != root) {
            let text = format!("it, or one up to record {}, is not what {source} saw", size - 1);
            return Err((Kind::Rewritten, from, text));
        }
        self.covered = size;
        Ok(())
    }
}

/// Compares shown records with the leaves of their segment.
fn compare(shown: &[Shown], leaves: &[Hash], first: u64) -> Result<(), Wrong> {
    let found: Vec<Hash> = shown.iter().map(|shown| shown.leaf).collect();
    let is_wrong = |place: &usize| found.get(*place) != leaves.get(*place);
    let Some(place) = (0..found.len().max(leaves.len())).find(is_wrong) else { return Ok(()) };
    let comes_later = |hash: Option<&Hash>, among: &[Hash]| {
        hash.is_none_or(|hash| among.iter().skip(place + 1).any(|later| later == hash))
    };
    let sorted = |hashes: &[Hash]| {
        let mut hashes = hashes.to_vec();
        hashes.sort_unstable();
        hashes
    };
    let kind = if sorted(&found) == sorted(leaves) {
        Kind::Reordered
    } else if found.len() < leaves.len() && comes_later(found.get(place), leaves) {
        Kind::Removed
    } else if found.len() > leaves.len() && comes_later(leaves.get(place), &found) {
        Kind::Inserted
    } else {
        Kind::Altered
    };
    Err((kind, first + place as u64, "it doesn't have its leaf hash".to_owned()))
}
