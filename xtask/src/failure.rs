//! What can go wrong, sorted by what the reader does next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tells why a command stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line isn't understood: read the text and type again.
    Usage(String),
    /// Something needed is missing and can't be installed from here: install it by hand.
    Missing { tool: String, remedy: String },
    /// A program that was run ended badly: its own output, above or inside, says why.
    Step { step: String, cause: String },
    /// The file system refused.
    Io { doing: &'static str, path: PathBuf, cause: io::Error },
}

impl Failure {
    /// Wraps what the file system said, with what was being done to which path.
    pub(crate) fn io(doing: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { doing, path: path.to_path_buf(), cause }
    }

    /// Names a tool that is missing, and the way to get it.
    pub(crate) fn missing(tool: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Missing { tool: tool.into(), remedy: remedy.into() }
    }

    /// Names a step that failed, and the cause.
    pub(crate) fn step(step: impl Into<String>, cause: impl Into<String>) -> Self {
        Self::Step { step: step.into(), cause: cause.into() }
    }

    /// Returns 2 for a wrong command line, else 1.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Missing { .. } | Self::Step { .. } | Self::Io { .. } => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => out.write_str(text),
            Self::Missing { tool, remedy } => write!(out, "{tool} is missing: {remedy}"),
            Self::Step { step, cause } => write!(out, "FAILED: {step}: {cause}"),
            Self::Io { doing, path, cause } => write!(out, "{doing} {}: {cause}", path.display()),
        }
    }
}
