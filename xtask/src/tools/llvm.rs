//! `llvm-profdata` of the toolchain itself: only that one reads the profiles of its own compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::run;

/// Ensures the program, which rustup brings as a component of the toolchain.
pub(crate) fn profdata() -> Result<PathBuf, Failure> {
    let program = rustc("target-libdir")?;
    let program = Path::new(&program).with_file_name("bin").join("llvm-profdata");
    if program.exists() {
        return Ok(program);
    }
    let mut add = Command::new("rustup");
    add.args(["component", "add", "llvm-tools"]);
    let added = run::timed("rustup: adding llvm-tools", || run::silent("rustup component add", &mut add));
    let remedy = "install your toolchain's llvm-tools (`rustup component add llvm-tools`), then this again";
    added.map_err(|failure| Failure::missing("llvm-profdata", format!("{remedy} ({failure})")))?;
    if program.exists() { Ok(program) } else { Err(Failure::missing("llvm-profdata", remedy)) }
}

/// Names the platform that programs are built for.
pub(crate) fn host() -> Result<String, Failure> {
    rustc("host-tuple")
}

/// Asks the compiler about itself.
fn rustc(what: &str) -> Result<String, Failure> {
    let said = run::silent("rustc", Command::new("rustc").args(["--print", what]))?;
    Ok(said.trim().to_owned())
}
