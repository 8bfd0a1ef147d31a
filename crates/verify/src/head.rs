//! Signed heads, and what is known of chains from them and from each other.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::Hash;
use crate::finding::{Finding, Kind, Stop, Verdict};
use crate::key::PublicKey;
use crate::lines::Lines;
use crate::text::{End, First, canonical, id, unhex};

/// The most ends of chains that are kept in memory.
const MOST: usize = 2_000_000;

/// Is a head as it was signed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    at: i64,
    chains: Vec<End>,
    install: String,
    number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    v: u8,
}

/// Says who names an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Head(u64),
    Chain(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(number) => write!(f, "head {number}"),
            Self::Chain(chain) => write!(f, "the first record of chain {chain}"),
        }
    }
}

/// Lists who names which root at which size.
pub(crate) type Ends = BTreeMap<(u64, Hash), Source>;

/// Is what is known of the ends of chains.
#[derive(Default)]
pub(crate) struct Heads {
    ends: HashMap<[u8; 16], Ends>,
    count: usize,
}

impl Heads {
    /// Reads the heads of a bundle.
    pub(crate) fn read<R: Read>(
        lines: &mut Lines<R>,
        first: &First,
        key: &PublicKey,
        verdict: &mut Verdict,
    ) -> Result<Self, Stop> {
        let mut heads = Self::default();
        for _ in 0..first.heads {
            let head = signed(lines.next()?, &first.install, key);
            let line = lines.number();
            let mut wrong = |kind, text: String| verdict.add(Finding { kind, line, place: None, text });
            let Some(head) = head else {
                wrong(Kind::BadSignature, "this head is not signed by the installation's key".to_owned());
                continue;
            };
            match verdict.summary.newest {
                Some((after, _)) if head.number <= after => {
                    let text = format!("head {} stands after head {after}", head.number);
                    verdict.add(Finding { kind: Kind::Replayed, line, place: None, text });
                }
                _ => verdict.summary.newest = Some((head.number, head.at)),
            }
            verdict.summary.heads += 1;
            for end in &head.chains {
                if !heads.add(end, Source::Head(head.number)) {
                    return Err(lines.malformed("this head names what is no end of a chain, or too many"));
                }
            }
        }
        Ok(heads)
    }

    /// Takes in who names an end; returns whether it is one, and there is room for it.
    pub(crate) fn add(&mut self, end: &End, source: Source) -> bool {
        let (Some(chain), Some(root)) = (id(&end.chain), unhex(&end.root)) else { return false };
        self.count += 1;
        let ends = self.ends.entry(chain).or_default();
        // What a head says weighs more: it is signed.
        let is_head = matches!(source, Source::Head(_));
        match ends.entry((end.size, root)) {
            std::collections::btree_map::Entry::Occupied(mut known) if is_head => {
                known.insert(source);
            }
            std::collections::btree_map::Entry::Occupied(_) => {}
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(source);
            }
        }
        self.count <= MOST
    }

    /// Says whether a head names this end.
    pub(crate) fn name(&self, end: &End) -> bool {
        let key = id(&end.chain).zip(unhex(&end.root));
        key.is_some_and(|(chain, root)| {
            self.ends.get(&chain).is_some_and(|ends| ends.contains_key(&(end.size, root)))
        })
    }

    /// Hands out what is known of a chain.
    pub(crate) fn take(&mut self, chain: &[u8; 16]) -> Ends {
        self.ends.remove(chain).unwrap_or_default()
    }

    /// Lists what is known of chains that nobody has asked for.
    pub(crate) fn left(self) -> impl Iterator<Item = ([u8; 16], Ends)> {
        self.ends.into_iter()
    }
}

/// Reads a head that the installation has signed.
fn signed(line: &[u8], install: &str, key: &PublicKey) -> Option<Head> {
    let mut head: Head = canonical(line)?;
    let signature = unhex(&head.signature.take()?)?;
    let message = serde_json::to_vec(&head).ok()?;
    (head.v == 1 && head.install == install && key.signed(&message, &signature)).then_some(head)
}
