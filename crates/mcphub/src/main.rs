#![doc = include_str!("../README.md")]
// What a call may do is one future, and the compiler follows it to its end.
#![recursion_limit = "256"]

mod cli;
mod config;
mod connect;
mod demo;
mod demo_server;
mod descriptors;
mod http;
mod memory;

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use mcphub_domain::{Clock, Entropy, Timestamp};
use zeroize::{Zeroize as _, Zeroizing};

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

/// How many random bytes are taken from the system at once for names, for each thread.
const POOL: usize = 1024;
/// How long a name is, in bytes. Keys are longer, and come straight from the system.
const NAME: usize = 16;

thread_local! {
    /// Random bytes that nobody has got yet, and how many there are.
    static RANDOM: RefCell<(Zeroizing<[u8; POOL]>, usize)> = RefCell::new((Zeroizing::new([0; POOL]), 0));
}

/// Fills `target` with random bytes of the system. Names are taken from a pool of the thread, and erased there:
/// each call has one, and asking the system costs more than everything else about it.
fn fill(target: &mut [u8]) {
    if target.len() > NAME {
        return fill_from_system(target);
    }
    RANDOM.with_borrow_mut(|(pool, left)| {
        if *left < target.len() {
            fill_from_system(&mut **pool);
            *left = POOL;
        }
        let start = *left - target.len();
        if let Some(bytes) = pool.get_mut(start..*left) {
            target.copy_from_slice(bytes);
            bytes.zeroize();
            *left = start;
        }
    });
}

/// Fills `target` with random bytes. Without them nothing here is safe, so the process ends.
fn fill_from_system(target: &mut [u8]) {
    if let Err(error) = getrandom::fill(target) {
        eprintln!("error: the system gives no random numbers: {error}");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{NAME, POOL, RANDOM, fill};

    #[test]
    fn random_bytes_are_handed_out_once_and_erased() {
        let names: BTreeSet<[u8; NAME]> = (0..3 * POOL / NAME)
            .map(|_| {
                let mut name = [0; NAME];
                fill(&mut name);
                name
            })
            .collect();
        assert_eq!(names.len(), 3 * POOL / NAME);
        fill(&mut [0; 5]);
        RANDOM.with_borrow(|(pool, left)| {
            assert_eq!(*left, POOL - 5);
            assert_eq!(pool[*left..], [0; 5]);
        });
    }

    #[test]
    fn what_may_be_a_secret_comes_from_the_system() {
        let before = RANDOM.with_borrow(|(_, left)| *left);
        let mut secret = [0; 32];
        fill(&mut secret);
        assert_ne!(secret, [0; 32]);
        assert_eq!(RANDOM.with_borrow(|(_, left)| *left), before);
    }
}
