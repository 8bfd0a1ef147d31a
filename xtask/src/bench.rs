//! `cargo xtask bench`: builds the release as it is meant to run, brings what it is compared with, measures. The bare
//! proxy is measured in both builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::postgres::Cluster;
use crate::release;
use crate::run;
use crate::tools::{apt, nginx, postgres};

/// The hub, and what is measured beside it: both at once, so that they share what they are built from.
pub(crate) const PACKAGES: [&str; 4] = ["--package", "mcphub", "--package", "bench"];

/// Says how the hub and the bench are built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Build {
    /// As cargo makes it.
    Release,
    /// To see that what is run works at all: seconds instead of minutes.
    Trial,
}

/// Measures everything; the arguments go to the bench.
pub(crate) fn run(repository: &Path, arguments: &[String]) -> Result<(), Failure> {
    let plain = Build::Release.run(repository)?;
    let programs = release::build(repository)?;
    let mut bench = Command::new(programs.join("bench"));
    bench.arg("run").arg("--plain").arg(plain.join("bench"));
    bench.arg("--report").arg(repository.join("docs/benchmarks.md"));
    measure(repository, &programs, bench.args(arguments))
}

/// Runs the shortest form with unoptimised programs.
pub(crate) fn trial(repository: &Path) -> Result<(), Failure> {
    let short =
        ["--seconds=0.2", "--rounds=1", "--connections=1,16", "--sessions=20", "--people=20", "--servers=3"];
    let programs = Build::Trial.run(repository)?;
    measure(repository, &programs, Command::new(programs.join("bench")).arg("run").args(short))
}

/// Runs the bench beside all that it compares.
fn measure(repository: &Path, programs: &Path, bench: &mut Command) -> Result<(), Failure> {
    let (nginx, postgres) = (nginx::install()?, postgres::install(repository)?);
    let cluster = Cluster::start(&postgres)?;
    bench.arg("--mcphub").arg(programs.join("mcphub")).arg("--nginx").arg(nginx);
    run::shown("bench", bench.args(["--postgres", cluster.url()]))
}

impl Build {
    /// Builds the programs and returns their folder.
    pub(crate) fn run(self, repository: &Path) -> Result<PathBuf, Failure> {
        apt::c_compiler()?;
        let target = repository.join("target");
        let mut cargo = Command::new("cargo");
        cargo
            .args(["build", "--locked"])
            .args(PACKAGES)
            .arg("--target-dir")
            .arg(&target)
            .current_dir(repository);
        if self == Self::Release {
            cargo.arg("--release");
        }
        run::shown("bench: building", &mut cargo)?;
        Ok(target.join(if self == Self::Release { "release" } else { "debug" }))
    }
}
