//! Confinement of child processes: what a child may touch, and the steps from the supervisor to the
//! child's command.
//!
//! ```text
//! hub ── supervisor ── prepare (makes the namespaces, ends) ── confined (first process in them) ── command
//! ```
//!
//! The supervisor stays outside: it ends the tree, watches what it uses, and connects for it. All that
//! restricts is put on `confined`, which has one thread and holds nothing of the hub, so that the command
//! and everything that it starts inherit it. If the kernel can't make namespaces, Landlock and seccomp do
//! their part of the work; if it can't do that, nothing starts.

mod calls;
mod cgroup;
mod channel;
mod egress;
mod files;
mod limits;
mod mounts;
mod parent;
mod profile;
mod space;
mod stages;
mod usage;

use std::path::PathBuf;

use mcphub_domain::sandbox::{HostRule, Hosts};
use serde::{Deserialize, Serialize};

use crate::settings::Namespaces;

pub(crate) use cgroup::{Group, Place};
pub(crate) use egress::Egress;
pub(crate) use parent::Parent;
pub(crate) use profile::{Ground, confinement};
pub(crate) use space::let_go_of_streams;
pub(crate) use stages::{cannot_start, confined, exit_code, prepare, start};
pub(crate) use usage::Usage;

/// Says what a child may touch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// Its home, which it may change.
    pub(crate) home: PathBuf,
    /// What it may read and execute beside the system's own folders.
    pub(crate) read: Vec<PathBuf>,
    /// What it may change beside its home.
    pub(crate) write: Vec<PathBuf>,
    /// Where it may connect to.
    pub(crate) hosts: Hosts,
    /// Whether it gets namespaces.
    pub(crate) namespaces: Namespaces,
    /// How many bytes of memory its processes may use together.
    pub(crate) memory: u64,
    /// How many processes and threads they may be.
    pub(crate) processes: u64,
    /// The control group that it runs in, if one could be made.
    pub(crate) cgroup: Option<PathBuf>,
}

impl Confinement {
    /// Says whether the machine's loopback is granted in the place of its own.
    pub(crate) fn reaches_loopback(&self) -> bool {
        matches!(&self.hosts, Hosts::Listed(rules) if rules.iter().any(HostRule::is_loopback))
    }

    /// Says whether Landlock and seccomp alone keep it to its hosts: they know no addresses, only ports.
    pub(crate) fn is_kept_by_port(&self) -> bool {
        match &self.hosts {
            Hosts::Machine(_) => true,
            Hosts::Listed(rules) => rules.is_empty() || rules.iter().any(HostRule::is_every_public_host),
        }
    }

    /// Says whether it has a network of its own, with the proxy as the only way out.
    pub(crate) const fn is_cut_off(&self) -> bool {
        matches!(self.hosts, Hosts::Listed(_))
    }
}

/// Says how far the kernel goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Space {
    /// Namespaces of its own: it sees no process and no network but its own.
    Own,
    /// The machine's: Landlock and seccomp alone keep it apart.
    Shared,
}

impl Space {
    /// Writes it as a word of a command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
        }
    }

    /// Reads the word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Own, Self::Shared].into_iter().find(|space| space.word() == word)
    }
}
