//! What a child's processes use together, as `/proc` tells.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

use crate::supervisor::descendants;

/// Is what processes use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    /// Their memory that is no file's, in bytes.
    pub(crate) memory: u64,
    /// How many threads they have.
    pub(crate) threads: u64,
}

impl Usage {
    /// Adds up what the descendants of a process use.
    pub(crate) fn below(root: Pid) -> Self {
        tree(root).into_iter().filter_map(Self::of).fold(Self::default(), |sum, one| Self {
            memory: sum.memory.saturating_add(one.memory),
            threads: sum.threads.saturating_add(one.threads),
        })
    }

    fn of(process: Pid) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).ok()?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let pages = field("RssAnon").unwrap_or(0).saturating_add(field("RssShmem").unwrap_or(0));
        Some(Self { memory: pages.saturating_mul(1_024), threads: field("Threads").unwrap_or(1) })
    }
}

/// Lists the descendants of a process, by the children that each thread of it has. Where the kernel doesn't
/// list those, all processes of the machine are read.
fn tree(root: Pid) -> Vec<Pid> {
    if !Path::new("/proc/thread-self/children").exists() {
        return descendants(root);
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(children(parent));
        at += 1;
    }
    found.remove(0);
    found
}

fn children(parent: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero()));
    let lists = threads.into_iter().flatten().flatten().map(|thread| thread.path().join("children"));
    let lists = lists.filter_map(|path| fs::read_to_string(path).ok());
    let pids = lists.flat_map(|list| {
        list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect::<Vec<_>>()
    });
    pids.collect()
}
