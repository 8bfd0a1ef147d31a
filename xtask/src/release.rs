//! `cargo xtask release`: the programs as they are meant to run, built twice.
//!
//! The first build counts which ways are taken while a hub works; the second one lays them close together. Nothing else
//! makes a call as much cheaper (`docs/performance.md`).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::PACKAGES;
use crate::failure::Failure;
use crate::postgres::Cluster;
use crate::run;
use crate::tools::{apt, llvm, postgres, remove};

/// The work that is counted: every kind of client, server and answer, then each measurement of the bench for a moment.
const SOAK: [&str; 3] = ["--minutes=0.25", "--sessions=40", "--database=both"];
const BENCH: [&str; 6] = [
    "--seconds=2",
    "--rounds=1",
    "--connections=1,16,64,256",
    "--sessions=100",
    "--people=100",
    "--servers=20",
];

/// Builds the programs and says where they are.
pub(crate) fn run(repository: &Path) -> Result<(), Failure> {
    let programs = build(repository)?;
    println!("== {}", programs.join("mcphub").display());
    Ok(())
}

/// Builds the programs and returns their folder.
pub(crate) fn build(repository: &Path) -> Result<PathBuf, Failure> {
    apt::c_compiler()?;
    let profdata = llvm::profdata()?;
    let home = repository.join("target/guided");
    let counts = home.join("counts");
    let counting =
        compile(repository, "release: building what counts", "counting", with_path("generate", &counts))?;
    remove(&counts)?;
    work(repository, &counting)?;
    let profile = home.join("profile");
    let mut merge = Command::new(profdata);
    // What a process left behind that was killed while it wrote doesn't count.
    merge.args(["merge", "--failure-mode=all", "--output"]).arg(&profile).args(files(&counts)?);
    run::silent("release: putting the counts together", &mut merge)?;
    // Cargo doesn't notice that the profile of libraries has changed.
    remove(&home.join("release"))?;
    let built = compile(repository, "release: building", "release", with_path("use", &profile))?;
    for program in ["mcphub", "bench"] {
        // Whole or not at all, even if the old one runs.
        let (from, new) = (built.join(program), home.join(format!("{program}.new")));
        let copied = fs::copy(&from, &new).and_then(|_| fs::rename(&new, home.join(program)));
        copied.map_err(|cause| Failure::io("copying", &from, cause))?;
    }
    Ok(home)
}

/// Compiles both programs with a flag of the compiler, beside those that the environment or the platform's part of cargo's
/// configuration sets, and returns their folder. That the
/// platform is named keeps the flag from what only runs while it compiles.
fn compile(repository: &Path, title: &str, place: &str, flag: String) -> Result<PathBuf, Failure> {
    let (host, target) = (llvm::host()?, repository.join("target/guided").join(place));
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked"]).args(PACKAGES).args(["--target", &host, "--target-dir"]);
    cargo.arg(&target).current_dir(repository);
    match flags() {
        // The environment counts instead of what files say.
        Some(own) => cargo.env("CARGO_ENCODED_RUSTFLAGS", own + SEPARATOR + &flag),
        None => cargo.arg("--config").arg(format!("target.{host}.rustflags = [{flag:?}]")),
    };
    run::shown(title, &mut cargo)?;
    Ok(target.join(host).join("release"))
}

/// What stands between flags that are one text.
const SEPARATOR: &str = "\u{1f}";

/// Returns the flags that the environment sets.
#[expect(clippy::disallowed_methods, reason = "what cargo reads from it")]
fn flags() -> Option<String> {
    let plain = || Some(env::var("RUSTFLAGS").ok()?.split_whitespace().collect::<Vec<_>>().join(SEPARATOR));
    env::var("CARGO_ENCODED_RUSTFLAGS").ok().or_else(plain).filter(|flags| !flags.is_empty())
}

/// Lets the programs work for a minute.
fn work(repository: &Path, programs: &Path) -> Result<(), Failure> {
    let cluster = Cluster::start(&postgres::install(repository)?)?;
    let part = |name: &str| {
        let mut command = Command::new(programs.join("bench"));
        // It would lead the counts elsewhere.
        command.env_remove("LLVM_PROFILE_FILE");
        command.arg(name).arg("--mcphub").arg(programs.join("mcphub")).args(["--postgres", cluster.url()]);
        command
    };
    run::shown("release: counting while servers die", part("soak").args(SOAK))?;
    run::shown("release: counting while it is measured", part("run").args(BENCH))
}

fn with_path(what: &str, path: &Path) -> String {
    format!("-Cprofile-{what}={}", path.display())
}

/// Lists the files of a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |cause| Failure::io("reading", folder, cause);
    let entries = fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}
