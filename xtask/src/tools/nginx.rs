//! nginx, which the hub is measured beside.

use std::path::Path;

use super::apt;
use crate::failure::Failure;

const PROGRAM: &str = "/usr/sbin/nginx";

/// Ensures nginx, and returns the program.
pub(crate) fn install() -> Result<&'static Path, Failure> {
    if !Path::new(PROGRAM).exists() {
        apt::install("nginx", &["nginx-light"])?;
    }
    Ok(Path::new(PROGRAM))
}
