#![doc = include_str!("../README.md")]

mod chain;
mod export;
mod finding;
mod head;
mod key;
mod lines;
mod proof;
mod text;
mod tree;

use std::io::{self, Read};

use sha2::{Digest, Sha256};

pub use finding::{Finding, Kind, Summary, Verdict};
pub use key::{Expected, PublicKey};

use finding::Stop;
use head::Heads;
use lines::Lines;
use text::{First, Seal, canonical, unhex};

/// Checks a bundle. With an expected key, one that is signed by another fails.
pub fn check(input: impl Read, expected: Option<&Expected>) -> io::Result<Verdict> {
    let mut lines = Lines::new(input);
    let mut verdict = Verdict::default();
    match bundle(&mut lines, expected, &mut verdict) {
        Ok(()) => Ok(verdict),
        Err(Stop::Found(finding)) => {
            verdict.add(*finding);
            Ok(verdict)
        }
        Err(Stop::Unreadable(error)) => Err(error),
    }
}

/// Reads a bundle from its first line to its last.
fn bundle<R: Read>(
    lines: &mut Lines<R>,
    expected: Option<&Expected>,
    verdict: &mut Verdict,
) -> Result<(), Stop> {
    let first: First = canonical(lines.next()?).ok_or_else(|| lines.malformed("this is no bundle"))?;
    if first.bundle != "mcphub-audit" || first.v != 1 {
        return Err(lines.malformed("this is no bundle of version 1"));
    }
    let key = unhex(&first.key).map(PublicKey::new).ok_or_else(|| lines.malformed("the key is no key"))?;
    verdict.summary.begin(&first, &key, expected.is_some());
    if expected.is_some_and(|expected| !expected.is(&key)) {
        return Err(lines.found(Kind::WrongKey, "the bundle is signed by another key than expected"));
    }
    let heads = Heads::read(lines, &first, &key, verdict)?;
    match (first.kind.as_str(), first.steps) {
        ("export", None) => export::check(lines, &first, heads, verdict)?,
        ("proof", Some(steps)) => proof::check(lines, steps, &heads, verdict)?,
        _ => return Err(lines.malformed("this is neither an export nor a proof")),
    }
    seal(lines, &key)
}

/// Checks the seal over everything before it, and that nothing comes after it.
fn seal<R: Read>(lines: &mut Lines<R>, key: &PublicKey) -> Result<(), Stop> {
    let seal: Seal = canonical(lines.next()?).ok_or_else(|| lines.malformed("this is no seal"))?;
    let mut message = b"mcphub/bundle/v1\0".to_vec();
    message.extend_from_slice(&lines.digest());
    let signature = unhex(&seal.seal).ok_or_else(|| lines.malformed("this is no seal"))?;
    if !key.signed(&message, &signature) {
        return Err(lines.found(Kind::BadSeal, "the bundle isn't what was given out"));
    }
    lines.end()
}

/// Is a SHA-256 hash.
type Hash = [u8; 32];

/// Hashes some pieces as one text.
fn hash(pieces: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    hash.finalize().into()
}
