//! A rehearsal: what the kernel lacks of the sandbox is found out before a server needs it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use mcphub_domain::Sandbox;
use tokio::io::{AsyncRead, AsyncReadExt};
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
    let said = timeout(PATIENCE, read(streams.stderr)).await;
    let stop = Stop::default();
    stop.at_once.cancel();
    process.keep(&stop).await;
    said.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Reads the lines of what is said, as far as they are read.
async fn read(from: impl AsyncRead + Unpin) -> io::Result<Vec<String>> {
    let mut said = String::new();
    from.take(MOST).read_to_string(&mut said).await?;
    Ok(said.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::{MOST, read};

    #[tokio::test]
    async fn so_much_is_read_of_what_is_said_and_no_more() {
        let most = usize::try_from(MOST).unwrap();
        let said = "x".repeat(most) + "y";
        let longest = [&said[..most]];
        assert_eq!(read(&said.as_bytes()[..most]).await.unwrap(), longest);
        assert_eq!(read(said.as_bytes()).await.unwrap(), longest);
    }
}
