//! What children of removed servers left behind: their logs and their home directories.

use std::collections::HashSet;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mcphub_domain::{ServerId, ServerName};
use rustix::fs::{Mode, OFlags};

use crate::settings::Settings;

/// How many folders are removed at a time; the others have time.
const BATCH: usize = 64;

/// Names the servers that there are.
#[derive(Default)]
pub struct Existing {
    /// Their ids: homes are called so.
    pub ids: HashSet<ServerId>,
    /// Their names: folders of logs are called so.
    pub names: HashSet<ServerName>,
}

/// Removes the folders of servers that don't exist, and returns how many. It waits for the disk.
///
/// `existing` is asked after the folders were listed: who is listed was a server then, and if it
/// isn't one now, it was removed. What is called otherwise than the hub would call it stays.
pub fn remove_leftovers(settings: &Settings, existing: impl FnOnce() -> Existing) -> io::Result<usize> {
    let (homes, logs) = (folders(&settings.scratch)?, folders(&settings.logs)?);
    let existing = existing();
    let homes = homes.into_iter().filter(|(name, _)| is_left(name, &existing.ids));
    let logs = logs.into_iter().filter(|(name, _)| is_left(name, &existing.names));
    let mut removed = 0;
    for (_, folder) in homes.chain(logs).take(BATCH) {
        remove(&folder)?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes a folder with everything in it. Whoever filled it chose how deep it is, so nothing here grows with that:
/// folders are moved up before they are emptied.
fn remove(folder: &Path) -> io::Result<()> {
    let top = Opened::open(folder)?;
    let (mut left, mut moved) = (top.empty()?, 0_u64);
    while let Some(path) = left.pop() {
        let inner = Opened::open(&path)?;
        for below in inner.empty()? {
            // What is moved has to let itself be changed.
            Opened::open(&below)?;
            let place = top.free_place(&mut moved);
            std::fs::rename(&below, &place)?;
            left.push(place);
        }
        std::fs::remove_dir(path)?;
    }
    std::fs::remove_dir(folder)
}

/// Is a folder that stays the same one, whatever is put in its place meanwhile.
struct Opened(OwnedFd);

impl Opened {
    /// Opens a folder, no link, and takes away what keeps its owner from its contents.
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = Self(rustix::fs::open(path, flags, Mode::empty())?);
        std::fs::set_permissions(opened.path(), Permissions::from_mode(0o700))?;
        Ok(opened)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Removes what is no folder, and lists what is left.
    fn empty(&self) -> io::Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        for entry in std::fs::read_dir(self.path())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(left)
    }

    fn free_place(&self, tried: &mut u64) -> PathBuf {
        loop {
            let place = self.path().join(tried.to_string());
            *tried += 1;
            if place.symlink_metadata().is_err() {
                return place;
            }
        }
    }
}

fn is_left<T: std::str::FromStr + std::hash::Hash + Eq>(name: &str, existing: &HashSet<T>) -> bool {
    name.parse().is_ok_and(|name| !existing.contains(&name))
}

/// Lists the folders in a folder, with their names; what a link points to is none of them.
fn folders(parent: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::{
        Existing, Opened, Permissions, PermissionsExt, ServerId, Settings, remove, remove_leftovers,
    };

    #[test]
    fn what_removed_servers_left_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let settings = Settings::new(place("program"), BTreeMap::new(), place("logs"), place("homes"));
        assert_eq!(remove_leftovers(&settings, Existing::default).unwrap(), 0, "there is nothing yet");
        let [kept, gone] = [1, 2].map(|byte| ServerId::from_bytes([byte; 16]));
        let mine = place("homes").join("Not a server");
        for (home, log) in [(kept.to_string(), "kept"), (gone.to_string(), "gone")] {
            std::fs::create_dir_all(place("homes").join(home).join("shared/cache")).unwrap();
            std::fs::create_dir_all(place("logs").join(log)).unwrap();
            std::fs::write(place("logs").join(log).join("shared.log"), "text").unwrap();
        }
        std::fs::create_dir_all(&mine).unwrap();
        let link = place("homes").join(ServerId::from_bytes([3; 16]).to_string());
        std::os::unix::fs::symlink(&mine, &link).unwrap();
        let existing = || Existing { ids: [kept].into(), names: ["kept".parse().unwrap()].into() };
        assert_eq!(remove_leftovers(&settings, existing).unwrap(), 2);
        let names = |parent: &Path| {
            let entries = std::fs::read_dir(parent).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&place("logs")), ["kept"]);
        let linked = link.file_name().unwrap().to_str().unwrap();
        assert_eq!(names(&place("homes")), [&kept.to_string(), linked, "Not a server"]);
    }

    #[test]
    fn a_folder_goes_however_deep_wide_and_closed_it_is_and_nothing_that_it_links_to() {
        const DEEP: usize = 2_000;
        let folder = tempfile::tempdir().unwrap();
        let (kept, gone) = (folder.path().join("kept"), folder.path().join("gone"));
        for path in [&kept, &gone, &gone.join("0"), &gone.join("1/2"), &gone.join("closed/0/0")] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::fs::write(kept.join("file"), "text").unwrap();
        std::os::unix::fs::symlink(&kept, gone.join("1/link")).unwrap();
        std::fs::set_permissions(gone.join("closed"), Permissions::from_mode(0o0)).unwrap();
        let mut deepest = Opened::open(&gone).unwrap();
        for _ in 0..DEEP {
            std::fs::create_dir(deepest.path().join("x")).unwrap();
            deepest = Opened::open(&deepest.path().join("x")).unwrap();
        }
        std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(move || remove(&gone).unwrap())
            .unwrap()
            .join()
            .unwrap();
        assert!(kept.join("file").exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
