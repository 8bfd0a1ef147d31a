//! What a check says.

use std::fmt;
use std::io;

use crate::key::PublicKey;
use crate::text::First;

/// Names what can be wrong, by the words of the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A record or segment isn't what was written.
    Altered,
    /// A record is gone.
    Removed,
    /// A record was put in.
    Inserted,
    /// Records have changed places.
    Reordered,
    /// A segment's time is before that of its records, or of the segment in front.
    ClockRegress,
    /// The end of a chain is gone.
    Truncated,
    /// A chain isn't the one that was witnessed.
    Rewritten,
    /// Two heads say different things of one chain.
    Forked,
    /// A head isn't signed by the key.
    BadSignature,
    /// A head isn't later than the one before.
    Replayed,
    /// The bundle isn't what was sealed.
    BadSeal,
    /// The bundle is signed by another key than expected.
    WrongKey,
    /// A line isn't what it must be.
    Malformed,
}

impl Kind {
    /// Spells the kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Removed => "removed",
            Self::Inserted => "inserted",
            Self::Reordered => "reordered",
            Self::ClockRegress => "clock-regress",
            Self::Truncated => "truncated",
            Self::Rewritten => "rewritten",
            Self::Forked => "forked",
            Self::BadSignature => "bad-signature",
            Self::Replayed => "replayed",
            Self::BadSeal => "bad-seal",
            Self::WrongKey => "wrong-key",
            Self::Malformed => "malformed",
        }
    }
}

/// Says what is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// The line of the bundle at which it was noticed, from 1.
    pub line: u64,
    /// The chain and the first record that is wrong, where that is what is wrong.
    pub place: Option<(String, u64)>,
    /// What is to be said of it.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: line {}", self.kind.as_str(), self.line)?;
        if let Some((chain, number)) = &self.place {
            write!(f, ": record {number} of chain {chain}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Is why reading a bundle ends early.
pub(crate) enum Stop {
    Found(Box<Finding>),
    Unreadable(io::Error),
}

/// Describes what was checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The installation that the bundle names.
    pub install: String,
    /// What the bundle is: `export` or `proof`.
    pub kind: String,
    /// The key that it names.
    pub key: Option<PublicKey>,
    /// Whether that key was compared with an expected one.
    pub is_expected: bool,
    /// The span of time that it shows, in microseconds since 1970.
    pub span: (Option<i64>, Option<i64>),
    /// How many heads are signed.
    pub heads: u64,
    /// The number and the time of the newest of them.
    pub newest: Option<(u64, i64)>,
    /// How many chains there are.
    pub chains: u64,
    /// How many records there are.
    pub records: u64,
    /// How many of them are shown.
    pub shown: u64,
    /// How many of them a head covers.
    pub covered: u64,
    /// The record that a proof proves.
    pub proved: Option<String>,
}

impl Summary {
    pub(crate) fn begin(&mut self, first: &First, key: &PublicKey, is_expected: bool) {
        self.install.clone_from(&first.install);
        self.kind.clone_from(&first.kind);
        self.span = (first.from, first.to);
        (self.key, self.is_expected) = (Some(*key), is_expected);
    }
}

/// The most findings that are kept.
const MOST: usize = 100;

/// Is the answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// What is wrong: the first thing in each chain, and what is wrong with the bundle.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
    /// What was checked.
    pub summary: Summary,
}

impl Verdict {
    /// Says whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        if self.findings.len() < MOST {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }
}
