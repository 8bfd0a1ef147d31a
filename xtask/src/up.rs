//! `cargo xtask up`: from a checkout to a running demo.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::run;
use crate::tools::apt;

/// Builds the release binary and becomes its demo; returns only upon a failure.
pub(crate) fn run(repository: &Path, arguments: &[String]) -> Result<(), Failure> {
    apt::c_compiler()?;
    let mut build = Command::new("cargo");
    let target = repository.join("target");
    build.args(["build", "--release", "--locked", "--package", "mcphub", "--target-dir"]).arg(&target);
    build.current_dir(repository);
    run::shown("mcphub: building the release binary", &mut build)?;
    let mut demo = Command::new(target.join("release/mcphub"));
    let cause = demo.arg("demo").args(arguments).exec();
    Err(Failure::step("starting the demo", format!("{}: {cause}", run::text(&demo))))
}
