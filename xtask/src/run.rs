//! Running programs, with one line that says what is done and how long it took.

use std::io::{self, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Runs `command` with its output passed through, as a named step.
pub(crate) fn shown(title: &str, command: &mut Command) -> Result<(), Failure> {
    println!("== {title} …");
    let watch = Watch::start();
    let status = command.status().map_err(|cause| not_started(title, command, &cause))?;
    succeeded(title, status)?;
    println!("== {title}: done in {}", watch.elapsed());
    Ok(())
}

/// Runs `work` between "… " and "done in …" on one line.
///
/// `work` must not print.
pub(crate) fn timed<T>(title: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    print!("== {title} … ");
    flush()?;
    let watch = Watch::start();
    let done = work().inspect_err(|_| println!("failed"))?;
    println!("done in {}", watch.elapsed());
    Ok(done)
}

/// Runs `command` silently and returns what it printed; a failure carries all of its output.
pub(crate) fn silent(step: &str, command: &mut Command) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output().map_err(|cause| not_started(step, command, &cause))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Failure::step(step, format!("{} ended with {}\n{printed}{complaint}", text(command), output.status)))
}

/// Tells whether `command` runs and succeeds; its output is of no interest.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Returns the program with its arguments, as one would type it.
pub(crate) fn text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn succeeded(step: &str, status: ExitStatus) -> Result<(), Failure> {
    if status.success() { Ok(()) } else { Err(Failure::step(step, status.to_string())) }
}

fn not_started(step: &str, command: &Command, cause: &io::Error) -> Failure {
    Failure::step(step, format!("{} can't be started: {cause}", text(command)))
}

fn flush() -> Result<(), Failure> {
    io::stdout().flush().map_err(|cause| Failure::step("printing", cause.to_string()))
}

/// A stop-watch for the reader's patience; nothing is decided by it.
struct Watch(Instant);

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "only shown to people")]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn elapsed(&self) -> String {
        duration(self.0.elapsed())
    }
}

fn duration(passed: Duration) -> String {
    let seconds = passed.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_to_read() {
        assert_eq!(duration(Duration::from_millis(900)), "0 s");
        assert_eq!(duration(Duration::from_secs(151)), "2 min 31 s");
    }

    #[test]
    fn a_failed_program_is_named_with_its_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo seen; echo heard >&2; exit 3"]);
        let failure = silent("trying", &mut command).unwrap_err().to_string();
        for part in ["trying", "seen", "heard", "exit status: 3"] {
            assert!(failure.contains(part), "{part} is not in {failure}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure() {
        let failure = silent("trying", &mut Command::new("mcphub-no-such-program")).unwrap_err();
        assert!(failure.to_string().contains("can't be started"));
    }
}
