//! A rehearsal: what the kernel lacks of the sandbox is found out before a server needs it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use mcphub_domain::Sandbox;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::process::{Process, Stop};
use crate::settings::Settings;
use crate::target::ResolvedStdio;

/// How long it may take, and how much is read of what it says, in bytes.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST: u64 = 64 << 10;

/// Starts a program that does nothing, confined as a server's is by default, and returns what was said meanwhile: a
/// line for each thing that its sandbox lacks. Fails if it could not even be tried.
pub async fn rehearse(settings: &Settings) -> io::Result<Vec<String>> {
    let target = ResolvedStdio { command: "true".to_owned(), args: Vec::new(), env: BTreeMap::new() };
    let home = settings.scratch.join("rehearsal");
    let (process, streams) = Process::start(settings, &target, &Sandbox::default(), &home).await?;
    let mut said = String::new();
    let read = timeout(PATIENCE, streams.stderr.take(MOST).read_to_string(&mut said)).await;
    let stop = Stop::default();
    stop.at_once.cancel();
    process.keep(&stop).await;
    read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(said.lines().map(str::to_owned).collect())
}
