//! What children write to standard error: kept by connection, bounded, without their secrets.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mcphub_domain::{Clock, ServerName};
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStderr;
use tokio::sync::mpsc;

use crate::mask::Mask;

/// A file that grows beyond this becomes the older one of two.
const FILE: u64 = 256 * 1024;
/// What is kept of a line.
const LINE: usize = 8 * 1024;

/// Writes one connection's log.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    mask: Mask,
    clock: Clock,
}

impl Log {
    /// Opens `<logs>/<server>/<name>.log`, readable by the hub alone.
    pub(crate) async fn open(
        logs: &Path,
        server: &ServerName,
        name: &str,
        mask: Mask,
        clock: Clock,
    ) -> io::Result<Self> {
        let folder = logs.join(server.as_str());
        create_private(&folder).await?;
        let path = folder.join(format!("{name}.log"));
        let file = open(&path).await?;
        let size = file.metadata().await?.len();
        Ok(Self { path, file, size, mask, clock })
    }

    /// Takes in standard error, and the lines that stood on standard output without being messages,
    /// until both end.
    pub(crate) async fn capture(mut self, stderr: ChildStderr, mut strays: mpsc::Receiver<Vec<u8>>) {
        let keep = LINE + self.mask.longest();
        let mut stderr = BufReader::new(stderr);
        let (mut line, mut open) = (Vec::new(), true);
        while open {
            let (text, source) = tokio::select! {
                more = read_line(&mut stderr, &mut line, keep) => {
                    open = matches!(more, Ok(true));
                    (std::mem::take(&mut line), "stderr")
                }
                Some(stray) = strays.recv() => (stray, "stdout"),
            };
            let written = if text.is_empty() { Ok(()) } else { self.write(source, &text).await };
            if let Err(error) = written {
                tracing::warn!(path = %self.path.display(), %error, "a server's log can't be written");
            }
        }
    }

    async fn write(&mut self, source: &str, line: &[u8]) -> io::Result<()> {
        let text = self.mask.apply(line, LINE);
        let entry = format!("{} {source} {text}\n", self.clock.now());
        self.file.write_all(entry.as_bytes()).await?;
        self.file.flush().await?;
        self.size += entry.len() as u64;
        if self.size > FILE {
            tokio::fs::rename(&self.path, self.path.with_extension("log.1")).await?;
            self.file = open(&self.path).await?;
            self.size = 0;
        }
        Ok(())
    }
}

/// Makes a directory that only the hub can read.
pub(crate) async fn create_private(folder: &Path) -> io::Result<()> {
    tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await
}

async fn open(path: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    tokio::fs::OpenOptions::from(options).open(path).await
}

/// Reads a line, keeping its first bytes; says whether more may follow. Dropping the future loses
/// nothing.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    keep: usize,
) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (text, used) = (
            bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default(),
            end.map_or(bytes.len(), |end| end + 1),
        );
        line.extend(text.iter().take(keep.saturating_sub(line.len())));
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Reads the last lines of all of a server's logs, in the order of their times.
pub fn read(logs: &Path, server: &ServerName, lines: usize) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(logs.join(server.as_str())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let text = std::fs::read(entry?.path())?;
        found.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
        // Each line begins with its time, and equal times keep their order. No more is held of many
        // files than of one.
        found.sort_by(|one, other| time(one).cmp(time(other)));
        found.drain(..found.len().saturating_sub(lines));
    }
    Ok(found)
}

fn time(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(time, _)| time)
}

#[cfg(test)]
mod tests {
    use super::read_line;

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_is_whole() {
        let mut reader: &[u8] = b"0123456789\nnext\nlast";
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            let more = read_line(&mut reader, &mut line, 4).await.unwrap();
            lines.push(String::from_utf8(line).unwrap());
            if !more {
                break;
            }
        }
        assert_eq!(lines, ["0123", "next", "last"]);
    }
}
