//! `cargo xtask fuzz`: every parser of strangers' bytes against a fuzzer, all at the same time.
//!
//! What a run finds new stays in `fuzz/corpus`, so that the next one goes on from there; what makes a
//! target fail is kept in `fuzz/artifacts`. Git ignores both; `fuzz/seeds` is where every run begins.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::failure::Failure;
use crate::run;
use crate::tools::{apt, fuzz, make};

/// The targets, as `fuzz/Cargo.toml` names them.
const TARGETS: [&str; 3] = ["envelope", "header", "sse"];
/// How long each target runs unless told otherwise; the tests take as long.
pub(crate) const USUAL_SECONDS: u32 = 60;

/// Reads the arguments that follow `fuzz`: how many seconds each target runs.
pub(crate) fn seconds(arguments: &[String]) -> Result<u32, Failure> {
    let number = match arguments {
        [] => return Ok(USUAL_SECONDS),
        [flag, number] if flag == "--seconds" => number.parse().ok().filter(|seconds| *seconds > 0),
        _ => None,
    };
    let text = || format!("`fuzz {}` isn't understood: say --seconds and a number", arguments.join(" "));
    number.ok_or_else(|| Failure::Usage(text()))
}

/// Builds the targets and runs each for so many seconds; one failure fails them all.
pub(crate) fn run(repository: &Path, seconds: u32) -> Result<(), Failure> {
    apt::cxx_compiler()?;
    let program = fuzz::install(repository)?;
    let home = repository.join("fuzz");
    let mut fetch = Command::new("cargo");
    fetch.args(["fetch", "--locked"]).current_dir(&home);
    run::shown("fuzz: fetching what the targets are built from", &mut fetch)?;
    run::shown("fuzz: building the targets", &mut subcommand(&program, &home, "build"))?;
    run::timed(&format!("fuzz: {} for {seconds} s each", TARGETS.join(", ")), || {
        let (program, home) = (&program, &home);
        thread::scope(|scope| {
            let start = |target| scope.spawn(move || run_target(target, program, home, seconds));
            TARGETS.map(start).map(|run| run.join()).into_iter().map(finished).collect::<Result<Vec<_>, _>>()
        })
    })
    .map(|told| told.iter().for_each(|line| println!("   {line}")))
}

/// Runs a target to its end, and returns how often it ran.
fn run_target(target: &str, program: &Path, home: &Path, seconds: u32) -> Result<String, Failure> {
    let corpus = PathBuf::from("corpus").join(target);
    make(&home.join(&corpus))?;
    let mut command = subcommand(program, home, "run");
    command.arg(target).arg(corpus).arg(Path::new("seeds").join(target));
    command.args(["--", "-timeout=10", "-rss_limit_mb=2048"]).arg(format!("-max_total_time={seconds}"));
    let failed = |cause: String| Failure::step(format!("fuzz {target}"), cause);
    let output = command.stdin(Stdio::null()).output().map_err(|cause| failed(cause.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match said.lines().rev().find(|line| line.starts_with("Done ")) {
        Some(done) if output.status.success() => Ok(format!("{target}: {done}")),
        _ => Err(failed(format!("{}\n{}", output.status, without_progress(&said)))),
    }
}

/// Leaves out the lines, thousands of them, by which a target tells what it has tried so far.
fn without_progress(said: &str) -> String {
    said.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// Passes on what a target's thread came to; one that panicked has failed.
fn finished(joined: thread::Result<Result<String, Failure>>) -> Result<String, Failure> {
    joined.unwrap_or_else(|_| Err(Failure::step("fuzz", "a target could not be run")))
}

fn subcommand(program: &Path, home: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["fuzz", name, "--sanitizer", "none", "--fuzz-dir", "."]).current_dir(home);
    command
}

#[cfg(test)]
mod tests {
    use super::{Failure, TARGETS, USUAL_SECONDS, seconds, without_progress};
    use crate::repository;

    fn parse(line: &str) -> Result<u32, Failure> {
        seconds(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_run_lasts_a_minute_unless_told_otherwise() {
        assert_eq!(parse("").unwrap(), USUAL_SECONDS);
        assert_eq!(parse("--seconds 3600").unwrap(), 3600);
        for wrong in ["--seconds", "--seconds 0", "--seconds x", "sse", "--seconds 1 2"] {
            assert!(matches!(parse(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn what_a_failed_target_said_is_told_without_its_progress() {
        let said = "INFO: Seed: 1\n#2\tINITED cov: 1\n#4\tNEW cov: 2\nALARM: too long\nBase64: AA==";
        assert_eq!(without_progress(said), "INFO: Seed: 1\nALARM: too long\nBase64: AA==");
    }

    #[test]
    fn every_target_that_can_be_built_is_run() {
        let folder = repository().join("fuzz/targets");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        found.sort();
        assert_eq!(found, TARGETS);
    }
}
