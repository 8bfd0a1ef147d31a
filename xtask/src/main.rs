//! The project's own commands: `cargo xtask test`, `fuzz`, `up`, `release`, `bench`, `conformance`,
//! `soak` and `postgres`.
//!
//! They bring what they need, so a machine with git and a Rust toolchain is enough. What can't be
//! brought stops the command with its name; nothing is ever skipped.

mod account;
mod bench;
mod conformance;
mod failure;
mod fuzz;
mod postgres;
mod release;
mod run;
mod soak;
mod test;
mod tools;
mod up;

use std::env;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use failure::Failure;

const USAGE: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  test [--only-tests] [-- ARGS]  install what the tests need, then check the format, the lints, the
                                 tests, the dependencies and the parsers by fuzzing; ARGS go to
                                 `cargo test`
  fuzz [--seconds N]             feed each parser with whatever a fuzzer thinks of, for 60 seconds
  up [ARGS]                      build the release binary and run its demo; ARGS go to `mcphub demo`
  release                        build the hub twice, the second time by what the first one counted at work: the
                                 binary for an installation
  bench [ARGS]                   measure what a call through the hub costs, and write docs/benchmarks.md;
                                 ARGS go to the bench
  conformance                    run the protocol's official suite against a server alone and through the
                                 hub, and write the README's table
  soak [--minutes N] [--database sqlite|postgres|both]
                                 load the hub for 60 minutes on each database while servers die, and fail
                                 if descriptors, tasks, processes or memory grow
  postgres                       run a PostgreSQL for tests started by hand, until Ctrl-C
  help                           print this text";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            failure.exit_code()
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Failure> {
    let (command, rest) = arguments.split_first().ok_or_else(|| Failure::Usage(USAGE.to_owned()))?;
    match (command.as_str(), rest) {
        ("test", rest) => test::run(&repository(), &test::Options::parse(rest)?),
        ("fuzz", rest) => fuzz::run(&repository(), fuzz::seconds(rest)?),
        ("up", rest) => up::run(&repository(), rest),
        ("release", []) => release::run(&repository()),
        ("bench", rest) => bench::run(&repository(), rest),
        ("conformance", []) => conformance::run(&repository(), conformance::Table::Written),
        ("soak", rest) => soak::run(&repository(), rest),
        ("postgres", []) => serve_postgres(),
        ("help" | "--help" | "-h", _) => {
            println!("{USAGE}");
            Ok(())
        }
        (other, _) => Err(Failure::Usage(format!("`{other}` isn't understood\n\n{USAGE}"))),
    }
}

/// Runs the test cluster for somebody who calls `cargo test` by hand.
fn serve_postgres() -> Result<(), Failure> {
    let programs = tools::postgres::install(&repository())?;
    let cluster = postgres::Cluster::start(&programs)?;
    for (name, value) in cluster.variables() {
        println!("export {name}='{value}'");
    }
    eprintln!("PostgreSQL runs until Ctrl-C, or until the standard input ends.");
    let waited = io::stdin().read_to_end(&mut Vec::new());
    waited.map(|_| ()).map_err(|cause| Failure::io("reading the standard input", Path::new("-"), cause))
}

/// Returns the repository's root, where this program was built from.
fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}
