//! Everything that the tests use and that isn't Rust, each pinned and installed at most once.
//!
//! A tool lies in a folder of its own beside a stamp that says what was installed. The stamp is
//! written last, so a folder without the wanted stamp is thrown away and made again.

pub(crate) mod apt;
pub(crate) mod deny;
pub(crate) mod fuzz;
pub(crate) mod llvm;
pub(crate) mod nginx;
pub(crate) mod node;
pub(crate) mod postgres;
pub(crate) mod python;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::run;

/// Returns the folder for tools inside the repository, which git ignores.
pub(crate) fn folder(repository: &Path) -> PathBuf {
    repository.join(".tools")
}

/// A tool in its own folder.
pub(crate) struct Tool<'a> {
    /// The name and version, as people say it.
    pub(crate) title: &'a str,
    /// The folder that holds the tool and nothing else.
    pub(crate) folder: PathBuf,
    /// What determines the content: another text means another installation.
    pub(crate) pin: &'a str,
}

impl Tool<'_> {
    /// Installs the tool by `install`, unless it is there as pinned.
    pub(crate) fn ensure(&self, install: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
        let lock = self.lock()?;
        if self.is_installed()? {
            return Ok(());
        }
        run::timed(&format!("{}: installing", self.title), || self.replace(install))?;
        drop(lock);
        Ok(())
    }

    fn replace(&self, install: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
        remove(&self.folder)?;
        make(&self.folder)?;
        install(&self.folder)?;
        let stamp = self.beside("stamp");
        fs::write(&stamp, self.pin).map_err(|cause| Failure::io("writing", &stamp, cause))
    }

    /// Keeps a second command from installing the same tool at the same time.
    fn lock(&self) -> Result<File, Failure> {
        let path = self.beside("lock");
        make(path.parent().unwrap_or(&self.folder))?;
        let file = File::create(&path).map_err(|cause| Failure::io("creating", &path, cause))?;
        file.lock().map_err(|cause| Failure::io("locking", &path, cause))?;
        Ok(file)
    }

    fn is_installed(&self) -> Result<bool, Failure> {
        let stamp = self.beside("stamp");
        match fs::read_to_string(&stamp) {
            Ok(pin) => Ok(pin == self.pin && self.folder.is_dir()),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(Failure::io("reading", &stamp, cause)),
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.folder.clone().into_os_string();
        path.push(".");
        path.push(ending);
        path.into()
    }
}

/// Makes a folder with all above it.
pub(crate) fn make(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|cause| Failure::io("creating", folder, cause))
}

/// Removes a folder with all in it; one that isn't there is fine.
pub(crate) fn remove(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(Failure::io("removing", folder, cause)),
        _ => Ok(()),
    }
}

/// Reads a text file of the repository.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|cause| Failure::io("reading", path, cause))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
        remove(&folder).unwrap();
        folder
    }

    #[test]
    fn a_tool_is_installed_once_per_pin() {
        let folder = scratch("once");
        let runs = Cell::new(0);
        for pin in ["1", "1", "2", "2"] {
            let tool = Tool { title: "tool", folder: folder.join("tool"), pin };
            tool.ensure(|_| {
                runs.set(runs.get() + 1);
                Ok(())
            })
            .unwrap();
        }
        remove(&folder).unwrap();
        assert_eq!(runs.get(), 2);
    }

    #[test]
    fn a_failed_installation_is_tried_again_from_an_empty_folder() {
        let folder = scratch("again");
        let tool = Tool { title: "tool", folder: folder.join("tool"), pin: "1" };
        let failed = tool.ensure(|place| {
            fs::write(place.join("half"), "").unwrap();
            Err(Failure::missing("tool", "get it"))
        });
        let repeated = tool.ensure(|place| {
            assert!(!place.join("half").exists());
            Ok(())
        });
        remove(&folder).unwrap();
        assert!(failed.is_err());
        assert!(repeated.is_ok());
    }
}
