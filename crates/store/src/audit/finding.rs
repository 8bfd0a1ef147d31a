//! What a check of the log can find, and who says what the log was.

use std::fmt;
use std::time::Duration;

use mcphub_domain::ChainId;
use mcphub_domain::audit::ChainHead;

/// Says that a chain had this root at this size, according to somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// The chain, its size and root.
    pub head: ChainHead,
    /// Who says so.
    pub source: Source,
}

/// Names who says what a chain was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The signed head with this number.
    Head(u64),
    /// The first record of another chain.
    Chain(ChainId),
    /// The manifest of a backup.
    Manifest,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(number) => write!(f, "head {number}"),
            Self::Chain(chain) => write!(f, "the first record of chain {chain}"),
            Self::Manifest => f.write_str("the manifest"),
        }
    }
}

/// Is what a check found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// How many chains there are.
    pub chains: u64,
    /// How many records were read.
    pub records: u64,
    /// How many records, at the ends of sound chains, nobody has witnessed yet.
    pub unwitnessed: u64,
    /// The first thing that is wrong in each chain.
    pub findings: Vec<Finding>,
    /// What is worth knowing and doesn't make the log less whole.
    pub notices: Vec<Notice>,
}

/// Says what is wrong with the log, and where first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A record's text isn't what was written.
    Altered {
        /// The chain.
        chain: ChainId,
        /// The record's place.
        number: u64,
    },
    /// A record is gone.
    Removed {
        /// The chain.
        chain: ChainId,
        /// The place where it was.
        number: u64,
    },
    /// A record has been put in.
    Inserted {
        /// The chain.
        chain: ChainId,
        /// Its place.
        number: u64,
    },
    /// Records have changed places.
    Reordered {
        /// The chain.
        chain: ChainId,
        /// The first place that holds another record.
        number: u64,
    },
    /// The end of a chain is gone.
    Truncated {
        /// The chain.
        chain: ChainId,
        /// How many records there are.
        found: u64,
        /// How many there were, and who says so.
        witness: Witness,
    },
    /// The chain is consistent in itself but isn't the one that was witnessed.
    Rewritten {
        /// The chain.
        chain: ChainId,
        /// Records before this place were witnessed as they are.
        from: u64,
        /// Who says otherwise.
        witness: Witness,
    },
    /// Two signed heads say different things of one chain at one size.
    Forked {
        /// The chain.
        chain: ChainId,
        /// Records before this place were witnessed as they are.
        from: u64,
        /// What one head says.
        one: Box<Witness>,
        /// What the other says.
        other: Box<Witness>,
    },
    /// A segment says that it was written before what it holds, or before the one in front of it.
    ClockRegress {
        /// The chain.
        chain: ChainId,
        /// The segment's first record.
        number: u64,
    },
    /// The table of named ends says that a chain names another's end, and it doesn't: no head would
    /// cover that end.
    Misnamed {
        /// The chain whose end would not be covered.
        chain: ChainId,
        /// How many records it had there.
        size: u64,
        /// The chain that is said to name it.
        by: ChainId,
    },
    /// A line among the heads isn't signed by the installation.
    BadSignature {
        /// Where it stands.
        place: String,
    },
    /// A signed head stands after one that was signed later.
    Replayed {
        /// Where it stands.
        place: String,
        /// Its number.
        number: u64,
        /// The number of the head before it.
        after: u64,
    },
}

impl Finding {
    /// Names the kind, for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Altered { .. } => "altered",
            Self::Removed { .. } => "removed",
            Self::Inserted { .. } => "inserted",
            Self::Reordered { .. } => "reordered",
            Self::Truncated { .. } => "truncated",
            Self::Rewritten { .. } => "rewritten",
            Self::Forked { .. } => "forked",
            Self::ClockRegress { .. } => "clock-regress",
            Self::Misnamed { .. } => "misnamed",
            Self::BadSignature { .. } => "bad-signature",
            Self::Replayed { .. } => "replayed",
        }
    }

    /// Names the chain and the first record that is wrong; heads are in no chain.
    pub const fn place(&self) -> Option<(ChainId, u64)> {
        match self {
            Self::Altered { chain, number }
            | Self::Removed { chain, number }
            | Self::Inserted { chain, number }
            | Self::Reordered { chain, number }
            | Self::ClockRegress { chain, number } => Some((*chain, *number)),
            Self::Truncated { chain, found, .. } => Some((*chain, *found)),
            Self::Rewritten { chain, from, .. } | Self::Forked { chain, from, .. } => Some((*chain, *from)),
            Self::Misnamed { by, .. } => Some((*by, 0)),
            Self::BadSignature { .. } | Self::Replayed { .. } => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind())?;
        match self {
            Self::Altered { chain, number }
            | Self::Removed { chain, number }
            | Self::Inserted { chain, number }
            | Self::Reordered { chain, number } => write!(f, "record {number} of chain {chain}"),
            Self::Truncated { chain, found, witness } => write!(
                f,
                "chain {chain} ends before record {found}, but {} saw {} records",
                witness.source, witness.head.size
            ),
            Self::Rewritten { chain, from, witness } => write!(
                f,
                "chain {chain} is not what {} saw; the first changed record is one of {from} to {}",
                witness.source,
                witness.head.size.saturating_sub(1)
            ),
            Self::Forked { chain, from, one, other } => write!(
                f,
                "{} and {} saw different chains {chain}; they part at one of the records {from} to {}",
                one.source,
                other.source,
                one.head.size.saturating_sub(1)
            ),
            Self::ClockRegress { chain, number } => {
                write!(f, "the segment from record {number} of chain {chain} has a time before its records'")
            }
            Self::Misnamed { chain, size, by } => write!(
                f,
                "chain {by} does not name the end of chain {chain} at {size} records, as a table has it"
            ),
            Self::BadSignature { place } => {
                write!(f, "{place} is not signed by this installation: somebody changed the signed heads")
            }
            Self::Replayed { place, number, after } => {
                write!(f, "{place} is head {number}, which stands after head {after}")
            }
        }
    }
}

/// Says what is worth knowing of a log that may be whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The machine's clock was set back while a chain was written.
    ClockSetBack {
        /// The chain.
        chain: ChainId,
        /// The first record after it.
        number: u64,
        /// By how much.
        by: Duration,
    },
    /// The search index doesn't say what the segments say. It is no evidence.
    IndexDiffers {
        /// The chain.
        chain: ChainId,
        /// The first record of the first segment of which it says something else.
        number: u64,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockSetBack { chain, number, by } => write!(
                f,
                "the clock was set back by {} s before record {number} of chain {chain}",
                by.as_secs()
            ),
            Self::IndexDiffers { chain, number } => write!(
                f,
                "the search index differs from the log at record {number} of chain {chain}: it is no \
                 evidence, and `mcphub audit reindex` makes it anew"
            ),
        }
    }
}
