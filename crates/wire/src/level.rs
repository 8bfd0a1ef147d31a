//! The levels of log messages (RFC 5424), from talkative to grave.

use crate::envelope::Notification;

/// Says how grave a log message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Tells what only its author needs to know.
    Debug,
    /// Tells what happens.
    Info,
    /// Tells of something normal that matters.
    Notice,
    /// Tells of something that may go wrong.
    Warning,
    /// Tells of something that went wrong.
    Error,
    /// Tells of a part that failed.
    Critical,
    /// Tells that somebody must act at once.
    Alert,
    /// Tells that nothing works.
    Emergency,
}

impl LogLevel {
    /// Lists all levels.
    pub const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// Returns the name as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }

    /// Reads the level of a log message; one that has none that is known counts as the gravest, for nobody
    /// should miss it.
    #[must_use]
    pub fn of(message: &Notification) -> Self {
        let level = message.params.as_ref().and_then(|params| params.text("level"));
        level.and_then(|level| Self::parse(&level)).unwrap_or(Self::Emergency)
    }
}

#[cfg(test)]
mod tests {
    use super::LogLevel;

    #[test]
    fn levels_are_read_and_ordered() {
        for level in LogLevel::ALL {
            assert_eq!(LogLevel::parse(level.as_str()), Some(level));
        }
        assert!(LogLevel::ALL.is_sorted() && LogLevel::parse("INFO").is_none());
    }
}
