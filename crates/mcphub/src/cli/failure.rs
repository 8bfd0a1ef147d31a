//! How a command says that it could not do its work.

use std::process::ExitCode;

use mcphub_hub::HubError;
use serde_json::json;

use crate::config::ConfigError;

/// Says what went wrong and what to do, in one sentence.
#[derive(Debug)]
pub(crate) struct Failure {
    code: &'static str,
    message: String,
    exit: u8,
}

/// The exit code of a command that failed.
pub(crate) const FAILED: u8 = 1;
/// The exit code of a command that was written wrongly.
pub(crate) const USAGE: u8 = 2;

impl Failure {
    /// Describes work that could not be done.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), exit: FAILED }
    }

    /// Describes a command that was written wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: "usage", message: message.into(), exit: USAGE }
    }

    /// Describes a thing that the operating system refused.
    pub(crate) fn io(what: &str, error: &std::io::Error) -> Self {
        Self::new("io", format!("{what}: {error}"))
    }

    /// Prints it to standard error and names the exit code.
    pub(crate) fn print(&self, json: bool) -> ExitCode {
        let sentence = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        if json {
            eprintln!("{}", json!({ "error": { "code": self.code, "message": sentence } }));
        } else {
            eprintln!("error: {sentence}");
        }
        ExitCode::from(self.exit)
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        let code = match &error {
            HubError::Unauthenticated(_) => "unauthenticated",
            HubError::Denied(_) => "denied",
            HubError::Revoked => "revoked",
            HubError::RateLimited { .. } => "rate_limited",
            HubError::MissingCredential(_) => "credential_missing",
            HubError::Sealed => "sealed",
            HubError::Unavailable { .. } => "unavailable",
            HubError::NotFound { .. } => "not_found",
            HubError::Invalid(_) | HubError::HeaderMismatch(_) => "invalid",
            HubError::Conflict(_) => "conflict",
            HubError::Stale(_) => "stale",
            HubError::Upstream(_) => "upstream",
            HubError::Renewed { .. } | HubError::NotRenewed { .. } | HubError::Account { .. } => "account",
            HubError::Internal(_) => "internal",
        };
        Self::new(code, error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { code: "config", message: error.to_string(), exit: USAGE }
    }
}
