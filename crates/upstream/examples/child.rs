//! Stands in for the hidden `mcphub __child` in tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(2).collect();
    mcphub_upstream::child(&words)
}
