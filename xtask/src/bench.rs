//! `cargo xtask bench`: builds the release binaries, brings what they are compared with, measures.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::postgres::Cluster;
use crate::run;
use crate::tools::{apt, postgres};

const NGINX: &str = "/usr/sbin/nginx";

/// Says what is built, and so what the figures are worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Build {
    /// For figures.
    Release,
    /// To see that the measurement itself works: seconds instead of minutes, and nothing is written.
    Trial,
}

/// Measures everything; the arguments go to the bench.
pub(crate) fn run(repository: &Path, arguments: &[String]) -> Result<(), Failure> {
    measure(repository, Build::Release, arguments)
}

/// Runs the shortest form with unoptimised programs.
pub(crate) fn trial(repository: &Path) -> Result<(), Failure> {
    let short =
        ["--seconds=0.2", "--rounds=1", "--connections=1,16", "--sessions=20", "--people=20", "--servers=3"];
    measure(repository, Build::Trial, &short.map(str::to_owned))
}

fn measure(repository: &Path, build: Build, arguments: &[String]) -> Result<(), Failure> {
    apt::c_compiler()?;
    if !Path::new(NGINX).exists() {
        apt::install("nginx", &["nginx-light"])?;
    }
    let postgres = postgres::install(repository)?;
    let programs = build.run(repository)?;
    let cluster = Cluster::start(&postgres)?;
    let mut bench = Command::new(programs.join("bench"));
    bench.arg("run").arg("--mcphub").arg(programs.join("mcphub")).args(["--nginx", NGINX]);
    bench.args(["--postgres", cluster.url()]);
    if build == Build::Release {
        bench.arg("--report").arg(repository.join("docs/benchmarks.md"));
    }
    run::shown("bench", bench.args(arguments))
}

impl Build {
    /// Builds the programs and returns their folder.
    pub(crate) fn run(self, repository: &Path) -> Result<PathBuf, Failure> {
        let target = repository.join("target");
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--locked", "--package", "mcphub", "--package", "bench", "--target-dir"]);
        cargo.arg(&target).current_dir(repository);
        if self == Self::Release {
            cargo.arg("--release");
        }
        run::shown("bench: building", &mut cargo)?;
        Ok(target.join(if self == Self::Release { "release" } else { "debug" }))
    }
}
