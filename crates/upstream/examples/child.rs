//! Stands in for the hidden `mcphub __child` in tests: `child __child --parent <pid> -- command args…`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [child, parent, pid, dashes, command, args @ ..]
            if child == "__child" && parent == "--parent" && dashes == "--" =>
        {
            match pid.parse() {
                Ok(pid) => mcphub_upstream::supervise(pid, command, args),
                Err(_) => ExitCode::from(2),
            }
        }
        _ => ExitCode::from(2),
    }
}
