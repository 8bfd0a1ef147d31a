//! `cargo xtask test`: everything that must hold before a change goes in.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench;
use crate::conformance;
use crate::failure::Failure;
use crate::fuzz;
use crate::postgres::Cluster;
use crate::run;
use crate::soak;
use crate::tools::node::Node;
use crate::tools::{apt, deny, node, postgres, python};

/// How much to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Everything,
    TestsOnly,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    extent: Extent,
    cargo_test: Vec<String>,
}

impl Options {
    /// Reads the arguments that follow `test`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut own = arguments.split(|argument| argument == "--");
        let extent = match own.next() {
            None | Some([]) => Extent::Everything,
            Some([only]) if only == "--only-tests" => Extent::TestsOnly,
            Some(other) => {
                let text = format!("`{}` isn't understood; try `cargo xtask help`", other.join(" "));
                return Err(Failure::Usage(text));
            }
        };
        let cargo_test = arguments.iter().skip_while(|argument| *argument != "--").skip(1).cloned().collect();
        Ok(Self { extent, cargo_test })
    }
}

/// Runs the checks in the order of their cost, up to the first that fails.
pub(crate) fn run(repository: &Path, options: &Options) -> Result<(), Failure> {
    apt::c_compiler()?;
    let peers = Peers::install(repository)?;
    if options.extent == Extent::TestsOnly {
        run_tests(repository, &peers, &options.cargo_test)?;
    } else {
        let deny = deny::install(repository)?;
        check_format_and_lints(repository)?;
        run_tests(repository, &peers, &options.cargo_test)?;
        conformance::run(repository, conformance::Table::Compared)?;
        bench::trial(repository)?;
        soak::trial(repository)?;
        deny::check(repository, &deny)?;
        fuzz::run(repository, fuzz::USUAL_SECONDS)?;
    }
    println!("== all passed");
    Ok(())
}

fn check_format_and_lints(repository: &Path) -> Result<(), Failure> {
    let format = ["fmt", "--all", "--check"];
    run::shown("format", cargo(repository).args(format))?;
    run::shown("format of the fuzz targets", cargo(&repository.join("fuzz")).args(format))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run::shown("lints", cargo(repository).args(clippy))
}

fn run_tests(repository: &Path, peers: &Peers, arguments: &[String]) -> Result<(), Failure> {
    run::shown("build", cargo(repository).args(["build", "--locked", "--package", "mcphub"]))?;
    let cluster = Cluster::start(&peers.postgres)?;
    let mut test = cargo(repository);
    test.args(["test", "--locked"]).args(selection(arguments)).args(arguments);
    test.envs(cluster.variables()).envs(peers.variables());
    run::shown("tests", &mut test)
}

/// Returns what selects all packages, unless the arguments select some.
fn selection(arguments: &[String]) -> Option<&'static str> {
    let mut for_cargo = arguments.iter().take_while(|argument| *argument != "--");
    let selected = for_cargo.any(|argument| argument.starts_with("-p") || argument.starts_with("--package"));
    (!selected).then_some("--workspace")
}

fn cargo(repository: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(repository);
    command
}

/// The independent programs that tests talk to.
struct Peers {
    python_2: PathBuf,
    python_1: PathBuf,
    node: Node,
    postgres: postgres::Programs,
}

impl Peers {
    fn install(repository: &Path) -> Result<Self, Failure> {
        let python_2 = python::environment(repository, "2.3")?;
        let python_1 = python::environment(repository, "1.30")?;
        let node = node::install(repository, &python_2)?;
        let postgres = postgres::install(repository)?;
        Ok(Self { python_2, python_1, node, postgres })
    }

    /// Returns the variables by which tests find the programs.
    fn variables(&self) -> [(&'static str, &Path); 4] {
        [
            ("MCPHUB_TEST_PYTHON_2", &self.python_2),
            ("MCPHUB_TEST_PYTHON_1", &self.python_1),
            ("MCPHUB_TEST_NODE", &self.node.program),
            ("MCPHUB_TEST_EVERYTHING", &self.node.everything),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Failure> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_follows_the_dashes_goes_to_cargo() {
        let options = parse("--only-tests -- -p mcphub-store -- --nocapture").unwrap();
        assert_eq!(options.extent, Extent::TestsOnly);
        assert_eq!(options.cargo_test, ["-p", "mcphub-store", "--", "--nocapture"]);
    }

    #[test]
    fn without_arguments_everything_is_checked() {
        let options = parse("").unwrap();
        assert_eq!(options.extent, Extent::Everything);
        assert!(options.cargo_test.is_empty());
    }

    #[test]
    fn all_packages_are_tested_unless_some_are_named() {
        let selected = |line| selection(&parse(line).unwrap().cargo_test);
        assert_eq!(selected("-- -p mcphub-store"), None);
        assert_eq!(selected("-- --package=mcphub-store"), None);
        assert_eq!(selected("-- -- -p"), Some("--workspace"));
    }

    #[test]
    fn an_unknown_option_is_refused() {
        assert!(matches!(parse("--fast"), Err(Failure::Usage(_))));
    }
}
