//! cargo-fuzz, which builds the fuzz targets; the fuzzer itself is compiled with them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Tool, folder};
use crate::failure::Failure;
use crate::run;

const VERSION: &str = "0.13.2";

/// Ensures cargo-fuzz, and returns the program.
pub(crate) fn install(repository: &Path) -> Result<PathBuf, Failure> {
    let title = format!("cargo-fuzz {VERSION} (compiles for half a minute)");
    let tool = Tool { title: &title, folder: folder(repository).join("cargo-fuzz"), pin: VERSION };
    tool.ensure(|place| {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "--locked", "--debug", "--version", VERSION, "--root"]);
        cargo.arg(place).arg("cargo-fuzz").env("CARGO_PROFILE_DEV_DEBUG", "0");
        run::silent("cargo install cargo-fuzz", &mut cargo).map(|_| ())
    })?;
    Ok(tool.folder.join("bin/cargo-fuzz"))
}
