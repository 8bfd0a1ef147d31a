//! What the process says of itself, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts writing: for `serve` as JSON lines where no person reads along, otherwise as text.
///
/// Libraries say only what is wrong: at finer levels some of them print headers.
pub(crate) fn start(serves: bool, json: bool) {
    let lines = json || (serves && !std::io::stderr().is_terminal());
    let filter = EnvFilter::new(match (serves, lines) {
        (true, true) => "warn,mcphub=info",
        // A person learns nothing from the signed heads; what collects lines keeps them.
        (true, false) => "warn,mcphub=info,mcphub::head=warn",
        (false, _) => "warn",
    });
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if lines { log.json().try_init() } else { log.try_init() };
    if let Err(error) = started {
        eprintln!("the log can't be written: {error}");
    }
}
