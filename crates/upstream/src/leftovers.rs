//! What children of removed servers left behind: their logs and their home directories.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use mcphub_domain::{ServerId, ServerName};

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
        std::fs::remove_dir_all(folder)?;
        removed += 1;
    }
    Ok(removed)
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

    use super::{Existing, ServerId, Settings, remove_leftovers};

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
}
