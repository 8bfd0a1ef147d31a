//! The protocol revisions that the hub speaks.

use std::fmt;

/// Names one revision of the Model Context Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Names the revision with the HTTP+SSE transport.
    V2024_11_05,
    /// Names the revision that brought Streamable HTTP, and the only one with batches.
    V2025_03_26,
    /// Names the revision that removed batches and brought the version header.
    V2025_06_18,
    /// Names the last revision with sessions.
    V2025_11_25,
    /// Names the first revision without sessions: every request carries its metadata.
    V2026_07_28,
}

impl Version {
    /// Lists the revisions that begin with `initialize`, newest first.
    pub const LEGACY: [Self; 4] =
        [Self::V2025_11_25, Self::V2025_06_18, Self::V2025_03_26, Self::V2024_11_05];

    /// Lists the revisions without sessions, newest first.
    pub const MODERN: [Self; 1] = [Self::V2026_07_28];

    /// Finds the revision with exactly this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::MODERN.into_iter().chain(Self::LEGACY).find(|version| version.as_str() == text)
    }

    /// Returns the name as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Tells whether requests carry their own metadata instead of belonging to a session.
    #[must_use]
    pub const fn is_modern(self) -> bool {
        matches!(self, Self::V2026_07_28)
    }

    /// Tells whether a body may be an array of messages.
    #[must_use]
    pub const fn allows_batch(self) -> bool {
        matches!(self, Self::V2025_03_26)
    }

    /// Chooses the version that answers an `initialize`: the requested one, or the last with sessions.
    #[must_use]
    pub fn negotiate(requested: &str) -> Self {
        Self::LEGACY.into_iter().find(|version| version.as_str() == requested).unwrap_or(Self::V2025_11_25)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn every_version_reads_back_what_it_writes() {
        for version in Version::MODERN.into_iter().chain(Version::LEGACY) {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        assert_eq!(Version::parse("2025-11-25 "), None);
    }

    #[test]
    fn initialize_never_negotiates_a_modern_version() {
        assert_eq!(Version::negotiate("2025-03-26"), Version::V2025_03_26);
        assert_eq!(Version::negotiate("2024-11-05"), Version::V2024_11_05);
        for unknown in ["2026-07-28", "2099-01-01", "1999-01-01", "", "latest"] {
            assert_eq!(Version::negotiate(unknown), Version::V2025_11_25);
        }
    }

    #[test]
    fn legacy_versions_stand_newest_first() {
        assert!(Version::LEGACY.is_sorted_by(|newer, older| newer > older));
        assert!(Version::LEGACY.iter().all(|version| !version.is_modern()));
    }
}
