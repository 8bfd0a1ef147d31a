//! Where things are kept when nobody says where, after the XDG base directory specification.

use std::path::{Component, Path, PathBuf};

use super::ConfigError;

/// Says whether one folder is, or lies in, another as the system sees them: links are followed, and
/// what isn't there yet is where it will be made.
pub(super) fn lies_in(inner: &Path, outer: &Path) -> bool {
    resolve(inner).starts_with(resolve(outer))
}

fn resolve(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in std::path::absolute(path).as_deref().unwrap_or(path).components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            part => {
                resolved.push(part);
                resolved = resolved.canonicalize().unwrap_or(resolved);
            }
        }
    }
    resolved
}

/// Finds the usual folders from the environment that the process was started with.
pub(super) struct Places<'e> {
    environment: &'e [(String, String)],
}

impl<'e> Places<'e> {
    pub(super) const fn new(environment: &'e [(String, String)]) -> Self {
        Self { environment }
    }

    /// Finds the folder of the data.
    pub(super) fn data(&self) -> Result<PathBuf, ConfigError> {
        self.find("XDG_DATA_HOME", ".local/share", "data_dir (or --data-dir)")
    }

    /// Finds the folder of the key file.
    pub(super) fn keys(&self) -> Result<PathBuf, ConfigError> {
        self.find("XDG_CONFIG_HOME", ".config", "key_dir in [vault] (or MCPHUB_VAULT__KEY_DIR)")
    }

    /// Finds the folder of the signed heads.
    pub(super) fn heads(&self) -> Result<PathBuf, ConfigError> {
        self.find("XDG_STATE_HOME", ".local/state", "heads_dir in [audit] (or MCPHUB_AUDIT__HEADS_DIR)")
    }

    /// Finds the file that PostgreSQL's clients take passwords from.
    pub(super) fn passwords(&self) -> Option<PathBuf> {
        let found = self.folder("PGPASSFILE").map(Path::to_owned);
        found.or_else(|| Some(self.folder("HOME")?.join(".pgpass")))
    }

    fn find(
        &self,
        variable: &'static str,
        below_home: &str,
        setting: &'static str,
    ) -> Result<PathBuf, ConfigError> {
        let found = self.folder(variable).map(Path::to_owned);
        let found = found.or_else(|| Some(self.folder("HOME")?.join(below_home)));
        found.map(|base| base.join("mcphub")).ok_or(ConfigError::NoPlace { variable, setting })
    }

    /// The specification says that a path that isn't absolute is to be ignored.
    fn folder(&self, variable: &str) -> Option<&'e Path> {
        let (_, text) = self.environment.iter().find(|(name, _)| name == variable)?;
        Some(Path::new(text)).filter(|path| path.is_absolute())
    }
}
