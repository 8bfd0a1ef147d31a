//! What the hub holds at one moment: as the kernel counts it, and as the hub itself does.

use std::collections::BTreeMap;
use std::fs;

use crate::{Failure, meter};

/// Says whether a server that runs as a process may be killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// It may be.
    Mortal,
    /// Nobody disturbs it.
    Spared,
}

impl Mark {
    const ALL: [Self; 2] = [Self::Mortal, Self::Spared];

    /// Writes the mark as it stands in the command line of the server, and of whatever the hub puts around it. Other
    /// soaks on the same machine have others.
    pub(super) fn text(self) -> String {
        let kind = if self == Self::Mortal { "mortal" } else { "spared" };
        format!("{kind}-of-{}", std::process::id())
    }
}

/// Is what the hub holds at one moment.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Held {
    /// Open descriptors.
    pub(super) descriptors: u64,
    /// Threads.
    pub(super) threads: u64,
    /// Tasks in all its runtimes.
    pub(super) tasks: u64,
    /// Processes below it, and servers that have lost their parent.
    pub(super) processes: u64,
    /// Those among them that have ended and that nobody has waited for.
    pub(super) zombies: u64,
    /// Resident memory in bytes.
    pub(super) memory: u64,
    /// Connections of clients, that of whoever asks among them.
    pub(super) connections: u64,
    /// Open streams and running calls.
    pub(super) leases: u64,
    /// Connections to servers.
    pub(super) upstreams: u64,
    /// Sessions of clients with something open.
    pub(super) sessions: u64,
}

/// Is a process as `/proc` shows it.
struct Process {
    parent: u32,
    dead: bool,
    mark: Option<Mark>,
}

impl Held {
    /// Reads what process `hub`, whose `/metrics` are given, holds.
    pub(super) fn read(hub: u32, metrics: &str) -> Result<Self, Failure> {
        let own = |name: &str| {
            let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|text| text.parse().ok()).ok_or_else(|| format!("no {name} in /metrics"))
        };
        let all = processes()?;
        let below =
            |id: u32| all.get(&id).is_some_and(|process| process.mark.is_some()) || descends(&all, id, hub);
        let mut held = Self {
            descriptors: fs::read_dir(format!("/proc/{hub}/fd"))?.count() as u64,
            threads: fs::read_dir(format!("/proc/{hub}/task"))?.count() as u64,
            tasks: own("mcphub_tasks")?,
            memory: meter::memory(hub)?,
            connections: own("mcphub_connections")?,
            leases: own("mcphub_leases")?,
            sessions: own("mcphub_open_sessions")?,
            upstreams: sum(metrics, "mcphub_upstream_connections"),
            ..Self::default()
        };
        for (_, process) in all.iter().filter(|(id, _)| below(**id)) {
            held.zombies += u64::from(process.dead);
            held.processes += u64::from(!process.dead);
        }
        Ok(held)
    }

    /// Says whether what a load leaves behind for a while is gone, and nothing but memory has changed since `before`.
    pub(super) const fn rests(&self, before: &Self) -> bool {
        self.processes == 0
            && self.leases == 0
            && self.sessions == 0
            && self.upstreams == 0
            && self.descriptors == before.descriptors
            && self.tasks == before.tasks
            && self.threads == before.threads
    }
}

/// Adds up a figure that each server has.
fn sum(metrics: &str, name: &str) -> u64 {
    let samples = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    samples.filter_map(|sample| sample.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// Lists the living processes below a process that may be killed.
pub(super) fn mortals_below(ancestor: u32) -> Result<Vec<u32>, Failure> {
    let all = processes()?;
    let mortal = |process: &Process| !process.dead && process.mark == Some(Mark::Mortal);
    let mortals = all.iter().filter(|(_, process)| mortal(process)).map(|(id, _)| *id);
    Ok(mortals.filter(|id| descends(&all, *id, ancestor)).collect())
}

fn descends(all: &BTreeMap<u32, Process>, id: u32, ancestor: u32) -> bool {
    let parents = std::iter::successors(all.get(&id), |process| all.get(&process.parent));
    parents.take(all.len()).any(|process| process.parent == ancestor)
}

fn processes() -> Result<BTreeMap<u32, Process>, Failure> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(id) = entry?.file_name().to_string_lossy().parse() else { continue };
        // Who ended meanwhile isn't there any more.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat"))
            && let Some(process) = process(id, &stat)
        {
            found.insert(id, process);
        }
    }
    Ok(found)
}

fn process(id: u32, stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let marked =
        |mark: &Mark| line.split(|byte| *byte == 0).any(|argument| argument == mark.text().as_bytes());
    Some(Process { parent, dead: state == "Z", mark: Mark::ALL.into_iter().find(marked) })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{Held, Mark, mortals_below};

    const METRICS: &str = "mcphub_tasks 4\nmcphub_connections 2\nmcphub_leases 1\nmcphub_open_sessions 5\n\
        mcphub_upstream_connections{server=\"a\"} 3\nmcphub_upstream_connections{server=\"b\"} 4\n";

    #[test]
    fn a_process_is_counted_while_it_lives_and_as_a_zombie_after() {
        let own = std::process::id();
        let held = || Held::read(own, METRICS).unwrap();
        let start = |mark: Mark| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "read line", &mark.text()]).stdin(Stdio::piped()).spawn().unwrap()
        };
        let (mut child, mut spared) = (start(Mark::Mortal), start(Mark::Spared));
        let id = child.id();
        assert!(mortals_below(own).unwrap().contains(&id) && held().processes >= 2);
        assert!(!mortals_below(own).unwrap().contains(&spared.id()));
        spared.kill().unwrap();
        spared.wait().unwrap();
        child.kill().unwrap();
        while mortals_below(own).unwrap().contains(&id) {
            std::thread::yield_now();
        }
        assert!(held().zombies >= 1);
        child.wait().unwrap();
        let held = held();
        assert_eq!((held.tasks, held.connections, held.leases), (4, 2, 1));
        assert_eq!((held.sessions, held.upstreams), (5, 7));
        assert!(held.descriptors > 2 && held.threads > 0 && held.memory > 1 << 20);
    }

    #[test]
    fn figures_that_the_hub_does_not_show_are_missed() {
        let refused = Held::read(std::process::id(), "mcphub_tasks 4\n").unwrap_err();
        assert!(refused.to_string().contains("mcphub_connections"));
    }
}
