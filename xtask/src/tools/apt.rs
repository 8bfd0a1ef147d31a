//! The few things that only the distribution can bring: compilers for C and C++, and Python.
//!
//! On Debian and Ubuntu they are installed; elsewhere the failure says what to install.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::Command;

use crate::account;
use crate::failure::Failure;
use crate::run;

/// Ensures a C compiler, which the bundled SQLite and AWS-LC are built with (no CMake is needed).
pub(crate) fn c_compiler() -> Result<(), Failure> {
    if run::succeeds(Command::new("cc").arg("--version")) {
        return Ok(());
    }
    install("a C compiler (`cc`, GCC 9 or Clang 11 or later)", &["gcc", "libc6-dev"])
}

/// Ensures a C++ compiler, which the fuzzer is built with.
pub(crate) fn cxx_compiler() -> Result<(), Failure> {
    if run::succeeds(Command::new("c++").arg("--version")) {
        return Ok(());
    }
    install("a C++ compiler (`c++`)", &["g++"])
}

/// Installs packages of the distribution that together provide `tool`.
pub(crate) fn install(tool: &str, packages: &[&str]) -> Result<(), Failure> {
    let names = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        let remedy = format!("install it with your system's package manager (on Debian: {names})");
        return Err(Failure::missing(tool, remedy));
    }
    let by_hand = format!("run `apt-get install {names}` as root, then this again");
    let mut update = apt_get(&["update", "--quiet"])?;
    let mut install = apt_get(&["install", "--yes", "--no-install-recommends"])?;
    install.args(packages);
    run::timed(&format!("apt: installing {names}"), || {
        run::silent("apt-get update", &mut update)?;
        run::silent("apt-get install", &mut install).map(|_| ())
    })
    .map_err(|failure| Failure::missing(tool, format!("{by_hand} ({failure})")))
}

fn apt_get(arguments: &[&str]) -> Result<Command, Failure> {
    let mut command = if account::is_root()? { Command::new("env") } else { sudo() };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
    Ok(command)
}

/// Returns `sudo`, which may ask for a password only where somebody can type one.
fn sudo() -> Command {
    let mut command = Command::new("sudo");
    if !io::stdin().is_terminal() {
        command.arg("--non-interactive");
    }
    command
}
