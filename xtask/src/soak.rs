//! `cargo xtask soak`: builds the release binaries, loads the hub for a long time while servers die, and
//! fails if anything grew.

use std::path::Path;
use std::process::Command;

use crate::bench::Build;
use crate::failure::Failure;
use crate::postgres::Cluster;
use crate::run;
use crate::tools::postgres;

/// How long the shortest form is, and how many sessions it has: everything is tried once.
const SHORT: [&str; 3] = ["--minutes=0.25", "--sessions=40", "--database=sqlite"];

/// Soaks the hub; the arguments go to the bench.
pub(crate) fn run(repository: &Path, arguments: &[String]) -> Result<(), Failure> {
    soak(repository, Build::Release, arguments)
}

/// Runs the shortest form with unoptimised programs, on SQLite.
pub(crate) fn trial(repository: &Path) -> Result<(), Failure> {
    soak(repository, Build::Trial, &SHORT.map(str::to_owned))
}

fn soak(repository: &Path, build: Build, arguments: &[String]) -> Result<(), Failure> {
    let postgres = postgres::install(repository)?;
    let programs = build.run(repository)?;
    let cluster = Cluster::start(&postgres)?;
    let mut soak = Command::new(programs.join("bench"));
    soak.arg("soak").arg("--mcphub").arg(programs.join("mcphub")).args(["--postgres", cluster.url()]);
    run::shown("soak", soak.args(arguments))
}
