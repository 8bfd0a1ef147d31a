#![doc = include_str!("../README.md")]

mod cli;
mod config;
mod demo;
mod demo_server;
mod descriptors;
mod http;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use mcphub_domain::{Clock, Entropy, Timestamp};

/// A call allocates some hundred times: the system's allocator takes a tenth of its time. Huge pages (`no_thp` in
/// Cargo.toml) made a call no faster, and a connection twice as large.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Is what the machine gives the process, read once and handed down.
struct Machine {
    /// The environment; names and values that aren't text mean nothing to the hub.
    environment: Vec<(String, String)>,
    /// This program.
    program: PathBuf,
    /// The system's clock.
    clock: Clock,
    /// The system's random numbers.
    entropy: Entropy,
}

impl Machine {
    /// Finds the value of a variable.
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn main() -> ExitCode {
    // Between the hub and a child: it takes over the process before anything else is there.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "__child") {
        let words: Vec<String> = words.filter_map(|word| word.into_string().ok()).collect();
        return mcphub_hub::child(&words);
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("error: the program can't find itself: {error}");
            return ExitCode::FAILURE;
        }
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    cli::main(Machine { environment, program, clock: Clock::new(now), entropy: Entropy::new(fill) })
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is handed")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Fills `target` with random bytes. Without them nothing here is safe, so the process ends.
fn fill(target: &mut [u8]) {
    if let Err(error) = getrandom::fill(target) {
        eprintln!("error: the system gives no random numbers: {error}");
        std::process::abort();
    }
}
