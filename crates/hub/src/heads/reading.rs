//! Reading signed heads: whose they are, what they say of the log, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use mcphub_domain::{ChainId, InstallId, Timestamp};
use mcphub_store::audit::{Finding, Source, Witness};
use mcphub_vault::signed_by;
use serde::Deserialize;

use super::Head;

/// Is a copy of the heads that was kept elsewhere: heads, or what the hub logged, line by line.
pub struct HeadsCopy {
    /// How to name it when something is wrong with it.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// Says which heads to trust: those of this installation, by this key.
pub(super) struct Reader {
    pub(super) install: InstallId,
    pub(super) public: [u8; 32],
}

/// Is what signed heads say.
#[derive(Default)]
pub(crate) struct Reading {
    witnesses: BTreeMap<(ChainId, u64, String), Witness>,
    /// What is wrong with the heads themselves.
    pub(crate) findings: Vec<Finding>,
    /// The numbers and times of the heads that are signed; one may stand in the file and in its copies.
    heads: BTreeSet<(u64, Timestamp)>,
    /// The number and time of the newest head of the installation's own file.
    pub(crate) newest: Option<(u64, Timestamp)>,
}

/// Is a line of the hub's own log.
#[derive(Deserialize)]
struct Logged {
    target: String,
    fields: Message,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

impl Reading {
    /// Hands on what the heads say of the log.
    pub(crate) fn into_witnesses(self) -> (Vec<Witness>, Vec<Finding>) {
        (self.witnesses.into_values().collect(), self.findings)
    }

    /// Counts the heads that are signed, each once.
    pub(crate) fn heads(&self) -> u64 {
        self.heads.len() as u64
    }

    /// Takes in the installation's own file, whose heads stand in their order. What a power cut left of
    /// a last line isn't one.
    pub(super) fn own_file(&mut self, reader: &Reader, name: &str, text: &str) {
        for (line, number) in whole_lines(text).zip(1..) {
            let place = format!("line {number} of {name}");
            let Some(head) = reader.read(line) else {
                self.findings.push(Finding::BadSignature { place });
                continue;
            };
            match self.newest {
                Some((after, _)) if head.number <= after => {
                    self.findings.push(Finding::Replayed { place, number: head.number, after });
                }
                _ => self.newest = Some((head.number, head.at)),
            }
            self.take_in(head);
        }
    }

    /// Takes in a copy, and says whether it holds any head. What else the hub logged is left aside.
    pub(super) fn copy(&mut self, reader: &Reader, copy: &HeadsCopy) -> bool {
        let mut is_one = false;
        for (line, number) in copy.text.lines().zip(1..) {
            let logged = serde_json::from_str::<Logged>(line);
            let logged = logged.ok().filter(|line| line.target == "mcphub::head");
            let line = logged.as_ref().map_or(line, |line| line.fields.message.as_str());
            if serde_json::from_str::<Head>(line).is_err() {
                continue;
            }
            is_one = true;
            match reader.read(line) {
                Some(head) => self.take_in(head),
                None => {
                    let place = format!("line {number} of {}", copy.name);
                    self.findings.push(Finding::BadSignature { place });
                }
            }
        }
        is_one
    }

    fn take_in(&mut self, head: Head) {
        self.heads.insert((head.number, head.at));
        for chain in head.chains {
            let key = (chain.chain, chain.size, chain.root.clone());
            self.witnesses.insert(key, Witness { head: chain, source: Source::Head(head.number) });
        }
    }
}

impl Reader {
    /// Reads a head if it is one of the installation's, byte for byte as it was signed.
    fn read(&self, line: &str) -> Option<Head> {
        let mut head: Head = serde_json::from_str(line).ok()?;
        if serde_json_canonicalizer::to_vec(&head).ok()? != line.as_bytes() {
            return None;
        }
        let signature: [u8; 64] = hex::decode(std::mem::take(&mut head.signature)).ok()?.try_into().ok()?;
        let message = serde_json_canonicalizer::to_vec(&head).ok()?;
        (head.install == self.install && signed_by(&self.public, &message, &signature)).then_some(head)
    }
}

/// Finds the line of a head.
pub(crate) fn line_of(text: &str, number: u64) -> Option<&str> {
    whole_lines(text)
        .filter(|line| serde_json::from_str::<Head>(line).is_ok_and(|head| head.number == number))
        .last()
}

/// Lists the lines that have an end.
pub(crate) fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}
