//! What the wiring decides about upstream traffic.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Says where requests may go without TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlainHttp {
    /// To every allowed address.
    Allowed,
    /// To loopback addresses only: the production profile.
    LoopbackOnly,
}

/// Says whether processes of servers get namespaces of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespaces {
    /// Where the kernel refuses them, Landlock and seccomp confine alone.
    #[default]
    Preferred,
    /// Where the kernel refuses them, no process starts.
    Required,
    /// They get none.
    Off,
}

/// Holds what the wiring decides about upstream traffic.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that starts children: `<supervisor> __child supervise <pid> <confinement> command args…`.
    pub supervisor: PathBuf,
    /// Everything of the outside that children see; it includes `PATH`.
    pub child_environment: BTreeMap<String, String>,
    /// The directory that takes what children write to standard error.
    pub logs: PathBuf,
    /// The directory that holds a home directory for each child.
    pub scratch: PathBuf,
    /// The hub's own folders, which no child may see.
    pub private: Vec<PathBuf>,
    /// Whether children get namespaces of their own.
    pub namespaces: Namespaces,
    /// How long an unused connection or process is kept.
    pub idle: Duration,
    /// How many processes one person may have.
    pub processes_per_person: usize,
    /// How many processes there may be.
    pub processes: usize,
    /// The longest message that a server may send, in bytes.
    pub max_response: usize,
    /// Where requests may go without TLS.
    pub plain_http: PlainHttp,
    /// Certificates (DER) of authorities that are trusted beside the public ones.
    pub extra_roots: Vec<Vec<u8>>,
}

impl Settings {
    /// Fills in the defaults: 5 minutes idle, 16 processes per person, 256 in all, 8 MiB per message.
    pub fn new(
        supervisor: PathBuf,
        child_environment: BTreeMap<String, String>,
        logs: PathBuf,
        scratch: PathBuf,
    ) -> Self {
        Self {
            supervisor,
            child_environment,
            logs,
            scratch,
            private: Vec::new(),
            namespaces: Namespaces::Preferred,
            idle: Duration::from_mins(5),
            processes_per_person: 16,
            processes: 256,
            max_response: 8 * 1024 * 1024,
            plain_http: PlainHttp::Allowed,
            extra_roots: Vec::new(),
        }
    }
}
