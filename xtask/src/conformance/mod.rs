//! `cargo xtask conformance`: the protocol's official suite, against a server alone and through the hub, and with the hub as
//! the client of the suite's own servers.
//!
//! What the server reaches alone is the bar: the hub may lose nothing of it. As a client it has to pass what is required.

mod house;
mod score;
mod visit;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::run;
use crate::tools::{self, apt, node, python};
use house::{Fixture, House};
use score::{Row, Score, table};
use visit::Visitor;

/// The revisions, and how the suite is told to run all that applies to one.
const REVISIONS: [(&str, [&str; 2]); 4] = [
    ("2026-07-28", ["--requirements", "2026-07-28"]),
    ("2025-11-25", ["--requirements", "2025-11-25"]),
    ("2025-06-18", ["--suite=all", "--spec-version=2025-06-18"]),
    ("2025-03-26", ["--suite=all", "--spec-version=2025-03-26"]),
];

/// Between these lines of the README stands the table.
const MARKS: [&str; 2] = ["<!-- conformance -->\n", "<!-- /conformance -->\n"];

/// Says what happens to the table in the README.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    /// It is written anew.
    Written,
    /// It has to say what the run says.
    Compared,
}

/// Builds the hub, runs the suite both ways, and fails if the hub loses something.
pub(crate) fn run(repository: &Path, readme: Table) -> Result<(), Failure> {
    apt::c_compiler()?;
    let python = python::environment(repository, "2.3")?;
    let node = node::install(repository, &python)?;
    let mut build = Command::new("cargo");
    build.args(["build", "--locked", "--package", "mcphub"]).current_dir(repository);
    run::shown("conformance: building", &mut build)?;

    let results = repository.join("target/conformance");
    tools::remove(&results)?;
    tools::make(&results)?;
    let fixture = Fixture::start(repository, &python, &results)?;
    let house = House::start(repository, &node, &fixture, &results)?;
    let visitor = Visitor::start(repository, &python, &results)?;
    let mut rows = Vec::new();
    for (revision, choice) in REVISIONS {
        let suite = |url: &str, folder: &str| {
            let mut suite = Command::new(&node.program);
            suite.arg(&node.conformance).args(["server", "--url", url]).args(choice);
            run_suite(&mut suite, &results.join(format!("{folder}-{revision}")))
        };
        // Only where the suite says what it requires of clients.
        let as_client = match choice {
            ["--requirements", revision] => {
                let folder = results.join(format!("client-{revision}"));
                Some(run_suite(&mut visitor.suite(&node, revision), &folder)?)
            }
            _ => None,
        };
        let row = Row {
            revision,
            alone: suite(&fixture.url(), "alone")?,
            through: suite(&house.url(), "through")?,
            as_client,
        };
        println!("{row}");
        rows.push(row);
    }
    drop((house, visitor));
    settle(&repository.join("README.md"), &table(&rows), readme)?;
    let lost: Vec<String> = rows.iter().flat_map(Row::lost).collect();
    match lost.is_empty() {
        true => Ok(()),
        false => {
            Err(Failure::step("conformance", format!("through the hub, these fail: {}", lost.join(", "))))
        }
    }
}

/// Runs the suite; that some scenarios fail is a result.
fn run_suite(suite: &mut Command, results: &Path) -> Result<Score, Failure> {
    let output = suite
        .arg("-o")
        .arg(results)
        .output()
        .map_err(|cause| Failure::step("conformance", cause.to_string()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    Score::read(&printed).ok_or_else(|| {
        let error = String::from_utf8_lossy(&output.stderr);
        Failure::step("conformance", format!("{} says no result: {printed}{error}", run::text(suite)))
    })
}

/// Puts the table into the README, or compares it with what stands there.
fn settle(readme: &Path, table: &str, how: Table) -> Result<(), Failure> {
    let text = tools::read(readme)?;
    let [begin, end] = MARKS;
    let place = text.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?)));
    let Some((before, (stands, after))) = place else {
        return Err(Failure::step("conformance", "the README has no place for the table"));
    };
    match how {
        Table::Compared if stands == table => Ok(()),
        Table::Compared => {
            let text = format!("the README's table is another one: run `cargo xtask conformance`\n{table}");
            Err(Failure::step("conformance", text))
        }
        Table::Written => {
            let text = [before, begin, table, end, after].concat();
            fs::write(readme, text).map_err(|cause| Failure::io("writing", readme, cause))
        }
    }
}
