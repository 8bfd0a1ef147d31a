//! Python environments with both lines of the MCP client library.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Tool, apt, folder, read};
use crate::failure::Failure;
use crate::run;

/// The interpreters to try, the plain name first.
const NAMES: [&str; 7] =
    ["python3", "/usr/bin/python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"];

/// Succeeds on an interpreter that is new enough and can make environments with pip.
const PROBE: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))";

/// Ensures the environment with `mcp` as pinned in `peers/python/requirements-{line}.txt` and
/// returns its interpreter.
pub(crate) fn environment(repository: &Path, line: &str) -> Result<PathBuf, Failure> {
    let requirements = repository.join(format!("peers/python/requirements-{line}.txt"));
    let pins = read(&requirements)?;
    let title = format!("Python with mcp {line}");
    let tool =
        Tool { title: &title, folder: folder(repository).join(format!("python-mcp-{line}")), pin: &pins };
    let interpreter = interpreter()?;
    tool.ensure(|place| {
        run::silent("making an environment", Command::new(interpreter).args(["-m", "venv"]).arg(place))?;
        let python = place.join("bin/python");
        let mut install = pip(&python);
        run::silent("pip install", install.args(["--no-deps", "--requirement"]).arg(&requirements))?;
        run::silent("pip check", Command::new(&python).args(["-m", "pip", "check"])).map(|_| ())
    })?;
    Ok(tool.folder.join("bin/python"))
}

/// Unpacks one wheel into a folder, without what it depends on.
pub(crate) fn unpack(python: &Path, wheel: &str, place: &Path) -> Result<(), Failure> {
    let mut install = pip(python);
    install.args(["--no-deps", "--no-compile", "--target"]).arg(place).arg(wheel);
    run::silent("pip install", &mut install).map(|_| ())
}

/// Returns a `pip install` that only unpacks: nothing is built, nothing runs.
fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    let quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:"];
    command.args(["-m", "pip", "install"]).args(quiet);
    command
}

fn interpreter() -> Result<&'static str, Failure> {
    if let Some(found) = usable() {
        return Ok(found);
    }
    let tool = "Python 3.10 or later with `venv` and `ensurepip`";
    apt::install(tool, &["python3", "python3-venv"])?;
    usable().ok_or_else(|| {
        Failure::missing(tool, "this system's own Python is older; install a newer one as `python3.12`")
    })
}

fn usable() -> Option<&'static str> {
    NAMES.into_iter().find(|name| run::succeeds(Command::new(name).args(["-c", PROBE])))
}
