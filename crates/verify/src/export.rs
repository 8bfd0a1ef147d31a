//! Exports: all segments of all chains.

use std::collections::HashSet;
use std::io::Read;

use crate::chain::{Chain, Shown};
use crate::finding::{Finding, Kind, Stop, Verdict};
use crate::head::{Heads, Source};
use crate::lines::Lines;
use crate::text::{First, Segment, Totals, canonical, hex, id};

/// The most records that a segment can show.
const LARGEST: u64 = 1 << 20;

/// Is an export up to where it has been read.
struct Export<'a> {
    verdict: &'a mut Verdict,
    heads: Heads,
    chain: Option<Chain>,
    walked: HashSet<[u8; 16]>,
    segments: u64,
}

/// Checks all segments up to the totals.
pub(crate) fn check<R: Read>(
    lines: &mut Lines<R>,
    first: &First,
    heads: Heads,
    verdict: &mut Verdict,
) -> Result<(), Stop> {
    let is_whole = first.from.is_none() && first.to.is_none();
    let mut export = Export { verdict, heads, chain: None, walked: HashSet::new(), segments: 0 };
    loop {
        let line = lines.next()?;
        let Some(segment) = canonical::<Segment>(line) else {
            let totals = canonical(line).ok_or_else(|| lines.malformed("this is no segment"))?;
            return export.end(lines, &totals);
        };
        if is_whole && !segment.shown {
            return Err(lines.malformed("a whole export shows all records"));
        }
        export.segment(lines, &segment)?;
    }
}

impl Export<'_> {
    fn segment<R: Read>(&mut self, lines: &mut Lines<R>, segment: &Segment) -> Result<(), Stop> {
        let must_show = segment.first == 0;
        if segment.lines > LARGEST || (!segment.shown && (segment.lines > 0 || must_show)) {
            return Err(lines.malformed("this segment can't have so many lines"));
        }
        if self.chain.as_ref().is_none_or(|chain| chain.name != segment.chain) {
            self.turn(lines, segment)?;
        }
        let line = lines.number();
        let mut shown = Vec::new();
        for _ in 0..segment.lines {
            shown.push(Shown::read(lines.next()?));
        }
        self.segments += 1;
        self.verdict.summary.records = self.verdict.summary.records.saturating_add(segment.count);
        self.verdict.summary.shown += segment.lines;
        let Some(chain) = &mut self.chain else { return Ok(()) };
        let found = chain.segment(segment, segment.shown.then_some(&shown), line);
        let is_sound = found.is_none();
        found.into_iter().for_each(|finding| self.verdict.add(finding));
        match shown.first() {
            Some(opening) if is_sound && segment.first == 0 => self.names(lines, opening),
            _ => Ok(()),
        }
    }

    /// Ends the chain before and begins another one.
    fn turn<R: Read>(&mut self, lines: &Lines<R>, segment: &Segment) -> Result<(), Stop> {
        self.end_chain(lines.number());
        let id = id(&segment.chain).ok_or_else(|| lines.malformed("the chain has no id"))?;
        if !self.walked.insert(id) {
            return Err(lines.malformed("the segments of this chain don't stand together"));
        }
        self.verdict.summary.chains += 1;
        self.chain = Some(Chain::new(segment.chain.clone(), id, self.heads.take(&id)));
        Ok(())
    }

    /// Takes in what a chain's first record says of others, which must be still to come.
    fn names<R: Read>(&mut self, lines: &Lines<R>, opening: &Shown) -> Result<(), Stop> {
        let Some(chain) = &self.chain else { return Ok(()) };
        for end in &opening.names {
            if id(&end.chain).is_some_and(|id| self.walked.contains(&id)) {
                return Err(lines.malformed("a chain stands before one that names it"));
            }
            if !self.heads.add(end, Source::Chain(chain.name.clone())) {
                return Err(lines.malformed("this record names what is no end of a chain, or too many"));
            }
        }
        Ok(())
    }

    fn end_chain(&mut self, line: u64) {
        let Some(mut chain) = self.chain.take() else { return };
        let found = chain.end(line);
        self.verdict.summary.covered += chain.sound_upto();
        found.into_iter().for_each(|finding| self.verdict.add(finding));
    }

    fn end<R: Read>(mut self, lines: &Lines<R>, totals: &Totals) -> Result<(), Stop> {
        let line = lines.number();
        self.end_chain(line);
        let summary = &self.verdict.summary;
        let counted = (summary.chains, summary.records, self.segments);
        if !totals.end || counted != (totals.chains, totals.records, totals.segments) {
            return Err(lines.malformed("there were more segments, or fewer"));
        }
        for (chain, ends) in self.heads.left() {
            let Some(((size, _), source)) = ends.last_key_value() else { continue };
            let place = Some((name(&chain), 0));
            let text = format!("the chain is gone, but {source} names {size} records");
            self.verdict.add(Finding { kind: Kind::Truncated, line, place, text });
        }
        Ok(())
    }
}

/// Writes an id.
fn name(id: &[u8; 16]) -> String {
    let mut digits = hex(id);
    [20, 16, 12, 8].into_iter().for_each(|place| digits.insert(place, '-'));
    digits
}
