//! cargo-deny and a dated snapshot of the RustSec advisories, so that the check needs no network.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{Tool, folder, make};
use crate::failure::Failure;
use crate::run;

const VERSION: &str = "0.20.2";

/// The snapshot in `xtask/advisories`; another one gets another name.
const SNAPSHOT: &str = "rustsec-advisory-db-20260821.tgz";

/// The day of the snapshot, 2026-08-21, in seconds since 1970: `deny.toml` limits its age.
const SNAPSHOT_TIME: u64 = 1_787_270_400;

/// The folder name that cargo-deny derives from the address of the advisory database.
const CLONE: &str = "advisory-db-3157b0e258782691";

/// Ensures cargo-deny and its advisories, and returns the program.
pub(crate) fn install(repository: &Path) -> Result<PathBuf, Failure> {
    install_advisories(repository)?;
    if is_pinned("cargo-deny") {
        return Ok(PathBuf::from("cargo-deny"));
    }
    let title = format!("cargo-deny {VERSION} (compiles for some minutes)");
    let tool = Tool { title: &title, folder: folder(repository).join("cargo-deny"), pin: VERSION };
    tool.ensure(|place| {
        let mut cargo = Command::new("cargo");
        // Without optimisation and network code it compiles twice as fast, and runs fast enough.
        cargo.args(["install", "--locked", "--debug", "--no-default-features", "--version", VERSION]);
        cargo.arg("--root").arg(place).arg("cargo-deny").env("CARGO_PROFILE_DEV_DEBUG", "0");
        run::silent("cargo install cargo-deny", &mut cargo).map(|_| ())
    })?;
    Ok(tool.folder.join("bin/cargo-deny"))
}

/// Checks licences, sources, bans and advisories of all dependencies by `deny.toml`.
pub(crate) fn check(repository: &Path, program: &Path) -> Result<(), Failure> {
    let mut fetch = Command::new("cargo");
    fetch.args(["fetch", "--locked"]).current_dir(repository);
    run::shown("dependencies: fetching those of other platforms too", &mut fetch)?;
    let mut check = Command::new(program);
    check.args(["--offline", "--locked", "check", "--hide-inclusion-graph"]).current_dir(repository);
    run::shown("dependencies: licences, sources, bans, advisories", &mut check)
}

/// Tells whether `program` is on the path in exactly the pinned version.
fn is_pinned(program: &str) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|output| output.stdout.trim_ascii() == format!("cargo-deny {VERSION}").as_bytes())
}

fn install_advisories(repository: &Path) -> Result<(), Failure> {
    let archive = repository.join("xtask/advisories").join(SNAPSHOT);
    let home = folder(repository).join("advisory-dbs");
    let tool = Tool { title: "RustSec advisories", folder: home, pin: SNAPSHOT };
    tool.ensure(|place| {
        let clone = place.join(CLONE);
        make(&clone)?;
        let mut unpack = Command::new("tar");
        unpack.arg("--extract").arg("--file").arg(&archive).args(["--gzip", "--strip-components=1"]);
        run::silent("unpacking the advisories", unpack.arg("--directory").arg(&clone))?;
        commit(&clone)?;
        date(&clone.join(".git/FETCH_HEAD"))
    })
}

/// Makes the folder look like a clone, which is what cargo-deny opens.
fn commit(clone: &Path) -> Result<(), Failure> {
    let author = ["-c", "user.name=xtask", "-c", "user.email=xtask@localhost"];
    let plain = ["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"];
    let steps: [&[&str]; 3] = [
        &["init", "--quiet", "--initial-branch=main"],
        &["add", "--all", "--force"],
        &["commit", "--quiet", "--message=Snapshot"],
    ];
    for step in steps {
        let mut git = Command::new("git");
        git.current_dir(clone).args(author).args(plain).args(step);
        run::silent("making a repository of the advisories", &mut git)?;
    }
    Ok(())
}

/// Dates the clone to the day of the snapshot, so that its age is told as it is.
fn date(fetched: &Path) -> Result<(), Failure> {
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(SNAPSHOT_TIME);
    let file = File::create(fetched).map_err(|cause| Failure::io("creating", fetched, cause))?;
    file.set_modified(day).map_err(|cause| Failure::io("dating", fetched, cause))
}
