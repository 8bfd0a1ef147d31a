//! Proofs: a way from a signed head down to one record.

use std::io::Read;

use crate::finding::{Finding, Kind, Stop, Verdict};
use crate::head::Heads;
use crate::lines::Lines;
use crate::text::{End, Record, Step, canonical, unhex};
use crate::tree::{leaf, root_by_path};
use crate::{Hash, text};

/// The longest audit path that a tree can have.
const DEEPEST: usize = 64;

/// Checks the steps of a proof.
pub(crate) fn check<R: Read>(
    lines: &mut Lines<R>,
    steps: u64,
    heads: &Heads,
    verdict: &mut Verdict,
) -> Result<(), Stop> {
    if steps == 0 {
        return Err(lines.malformed("this proves nothing"));
    }
    let mut named: Option<Vec<End>> = None;
    for taken in 1..=steps {
        let step: Step = canonical(lines.next()?).ok_or_else(|| lines.malformed("this is no step"))?;
        let end = End { chain: step.chain.clone(), root: step.root.clone(), size: step.size };
        let is_named = match &named {
            None => heads.name(&end),
            Some(named) => named.iter().any(|known| same(known, &end)),
        };
        if !is_named {
            return Err(wrong(lines, &step, Kind::Rewritten, "nobody before this step names its end"));
        }
        let line = lines.next()?;
        let (found, record, leads) = (leaf(line), Record::read(line), line.to_vec());
        if root(&step, found) != unhex(&step.root) {
            return Err(wrong(lines, &step, Kind::Altered, "its path doesn't lead to the root"));
        }
        let record = record.filter(|record| record.chain == step.chain && record.number == step.number);
        let record = record.ok_or_else(|| wrong(lines, &step, Kind::Altered, "it is another record"))?;
        if taken == steps {
            verdict.summary.proved = Some(String::from_utf8_lossy(&leads).into_owned());
            (verdict.summary.records, verdict.summary.shown, verdict.summary.covered) = (1, 1, 1);
        }
        let names = record.names(&leads);
        named = Some(names.ok_or_else(|| wrong(lines, &step, Kind::Altered, "it names what is no end"))?);
    }
    Ok(())
}

fn same(one: &End, other: &End) -> bool {
    text::id(&one.chain).is_some()
        && (&one.chain, &one.root, one.size) == (&other.chain, &other.root, other.size)
}

/// Computes the root that a step's path leads to.
fn root(step: &Step, leaf: Hash) -> Option<Hash> {
    if step.path.len() > DEEPEST {
        return None;
    }
    let path: Vec<Hash> = step.path.iter().map(|hash| unhex(hash)).collect::<Option<_>>()?;
    root_by_path(leaf, step.number, step.size, &path)
}

fn wrong<R: Read>(lines: &Lines<R>, step: &Step, kind: Kind, text: &str) -> Stop {
    let place = Some((step.chain.clone(), step.number));
    Stop::Found(Box::new(Finding { kind, line: lines.number(), place, text: text.to_owned() }))
}
