//! Control groups (cgroup v2), where the system delegated its own to the hub, as systemd does with
//! `Delegate=yes`: the kernel itself then keeps a tree's memory and number of processes.
//!
//! A group with processes hands no controllers on, so that the hub moves into a group below its own first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Confinement;

/// Where the hub's own processes go.
const HUB: &str = "mcphub";
/// What the groups of children are called, before their supervisor's number.
const CHILD: &str = "mcphub-child-";
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// How often processes are looked for that are to be moved.
const ROUNDS: u32 = 3;
/// Says that a group was handed over to whoever runs in it (systemd's "CGroup Interfaces").
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// Is the control group of one child. Dropping it kills what is left in it.
pub(crate) struct Group {
    path: PathBuf,
}

/// Says where the groups of this machine are, and which this process is in.
pub(crate) struct Place<'a> {
    /// Where the hierarchy is mounted.
    pub(crate) root: &'a Path,
    /// What `/proc/self/cgroup` says.
    pub(crate) membership: &'a str,
    /// The supervisor's process.
    pub(crate) supervisor: u32,
}

impl Group {
    /// Makes a group with a confinement's limits, if the place was delegated and has a controller to give.
    pub(crate) fn make(place: &Place<'_>, confinement: &Confinement) -> io::Result<Option<Self>> {
        let Some(own) = place.membership.lines().find_map(|line| line.strip_prefix("0::/")) else {
            return Ok(None);
        };
        let own = place.root.join(own);
        let base = if own.ends_with(HUB) { own.parent().unwrap_or(&own) } else { &own };
        if !is_delegated(base) {
            return Ok(None);
        }
        let given = fs::read_to_string(base.join("cgroup.controllers"))?;
        let given = |name: &&str| given.split_ascii_whitespace().any(|given| given == *name);
        let controllers: Vec<&str> = CONTROLLERS.into_iter().filter(given).collect();
        if controllers.is_empty() {
            return Ok(None);
        }
        if base == own {
            move_down(base)?;
        }
        let wanted: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
        fs::write(base.join("cgroup.subtree_control"), wanted.join(" "))?;
        remove_leftovers(base)?;
        let group = Self { path: base.join(format!("{CHILD}{}", place.supervisor)) };
        make_folder(&group.path)?;
        group.limit(&controllers, confinement)?;
        Ok(Some(group))
    }

    /// Names its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn limit(&self, controllers: &[&str], confinement: &Confinement) -> io::Result<()> {
        if controllers.contains(&"memory") {
            fs::write(self.path.join("memory.max"), confinement.memory.to_string())?;
            fs::write(self.path.join("memory.oom.group"), "1")?;
            // A kernel without swap has no such file.
            let swap = self.path.join("memory.swap.max");
            if swap.exists() {
                fs::write(swap, "0")?;
            }
        }
        if controllers.contains(&"pids") {
            fs::write(self.path.join("pids.max"), confinement.processes.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let killed = fs::write(self.path.join("cgroup.kill"), "1");
        if let Err(error) = killed.and_then(|()| fs::remove_dir(&self.path)) {
            // What dies slowly is removed by the next supervisor.
            eprintln!("mcphub: the control group {} stays for now: {error}", self.path.display());
        }
    }
}

fn is_delegated(group: &Path) -> bool {
    DELEGATED.iter().any(|name| {
        let mut value = [0; 8];
        let length = rustix::fs::getxattr(group, *name, &mut value);
        length.is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

/// Moves everything that runs in a group into one below it. What is started meanwhile is in the next round.
fn move_down(base: &Path) -> io::Result<()> {
    let hub = base.join(HUB);
    make_folder(&hub)?;
    for _ in 0..ROUNDS {
        let processes = fs::read_to_string(base.join("cgroup.procs"))?;
        for process in processes.lines() {
            match fs::write(hub.join("cgroup.procs"), process) {
                Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                moved => moved?,
            }
        }
    }
    Ok(())
}

/// Removes the groups of supervisors that were killed; the kernel keeps those in which something runs.
fn remove_leftovers(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(CHILD)) {
            fs::remove_dir(entry.path()).unwrap_or(());
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Group, Place};
    use crate::confine::Confinement;

    /// Makes folders that look like a delegated group. Real ones need a machine whose controllers are v2's
    /// and that was started so; many that tests run on are not.
    fn machine(delegated: bool) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("system.slice/hub.service");
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        fs::write(base.join("cgroup.procs"), "10\n11\n").unwrap();
        if delegated {
            rustix::fs::setxattr(&base, "user.delegate", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        }
        root
    }

    fn make(root: &Path, membership: &str) -> Option<Group> {
        let confinement: Confinement = serde_json::from_str(
            r#"{"home":"/h","read":[],"write":[],"hosts":[],"namespaces":"off","memory":1048576,"processes":20,"cgroup":null}"#,
        )
        .unwrap();
        Group::make(&Place { root, membership, supervisor: 11 }, &confinement).unwrap()
    }

    #[test]
    fn a_delegated_group_gets_one_below_for_the_hub_and_one_for_the_child() {
        let root = machine(true);
        let base = root.path().join("system.slice/hub.service");
        let read = |name: &str| fs::read_to_string(base.join(name)).unwrap();
        let group = make(root.path(), "9:pids:/\n0::/system.slice/hub.service\n").unwrap();
        assert_eq!(read("mcphub/cgroup.procs"), "11", "the last of the two that were moved");
        assert_eq!(read("cgroup.subtree_control"), "+memory +pids");
        assert_eq!(group.path(), base.join("mcphub-child-11"));
        assert_eq!(read("mcphub-child-11/memory.max"), "1048576");
        assert_eq!(read("mcphub-child-11/memory.oom.group"), "1");
        assert_eq!(read("mcphub-child-11/pids.max"), "20");
        // The next supervisor starts in the hub's group already; an empty one that was left goes.
        fs::create_dir(base.join("mcphub-child-7")).unwrap();
        fs::remove_file(base.join("mcphub/cgroup.procs")).unwrap();
        make(root.path(), "0::/system.slice/hub.service/mcphub\n").unwrap();
        assert!(!base.join("mcphub/cgroup.procs").exists());
        assert!(!base.join("mcphub-child-7").exists());
    }

    #[test]
    fn a_group_that_was_not_delegated_is_left_alone() {
        let root = machine(false);
        assert!(make(root.path(), "0::/system.slice/hub.service\n").is_none());
        assert!(make(root.path(), "9:pids:/\n").is_none());
        assert!(!root.path().join("system.slice/hub.service/mcphub").exists());
    }
}
