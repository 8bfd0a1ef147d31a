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

/// A file that would grow beyond this becomes the older one of two.
const FILE: u64 = 256 * 1024;
/// How much is written at once, if lines come faster than they are written.
const BATCH: usize = 16 * 1024;
/// What is kept of a line.
const LINE: usize = 8 * 1024;

/// Writes one connection's log.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    /// What is still to be written.
    noted: String,
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
        Ok(Self { path, file, size, noted: String::new(), mask, clock })
    }

    /// Takes in standard error, and the lines that stood on standard output without being messages,
    /// until both end.
    pub(crate) async fn capture(mut self, stderr: ChildStderr, mut strays: mpsc::Receiver<Vec<u8>>) {
        let keep = LINE + self.mask.longest();
        let mut stderr = BufReader::new(stderr);
        let (mut line, mut open) = (Vec::new(), true);
        while open {
            tokio::select! {
                more = read_line(&mut stderr, &mut line, keep) => {
                    open = matches!(more, Ok(true));
                    self.note("stderr", &std::mem::take(&mut line));
                }
                Some(stray) = strays.recv() => self.note("stdout", &stray),
            }
            let more_is_here = stderr.buffer().contains(&b'\n') || !strays.is_empty();
            if (!more_is_here || !open || self.noted.len() >= BATCH)
                && let Err(error) = self.write().await
            {
                tracing::warn!(path = %self.path.display(), %error, "a server's log can't be written");
            }
        }
    }

    fn note(&mut self, source: &str, line: &[u8]) {
        if !line.is_empty() {
            let text = self.mask.apply(line, LINE);
            self.noted.push_str(&format!("{} {source} {text}\n", self.clock.now()));
        }
    }

    /// Writes what was noted. Each write takes a thread of its own for a moment, so lines go out together.
    async fn write(&mut self) -> io::Result<()> {
        let entries = std::mem::take(&mut self.noted);
        if entries.is_empty() {
            return Ok(());
        }
        if self.size + entries.len() as u64 > FILE {
            tokio::fs::rename(&self.path, self.path.with_extension("log.1")).await?;
            self.file = open(&self.path).await?;
            self.size = 0;
        }
        self.file.write_all(entries.as_bytes()).await?;
        self.file.flush().await?;
        self.size += entries.len() as u64;
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
    use std::path::Path;
    use std::process::Stdio;

    use mcphub_domain::{Clock, Timestamp};
    use tokio::process::Command;
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::{FILE, LINE, Log, Mask, read, read_line};

    const WRITERS: usize = 8;
    const LINES: usize = 20_000;
    const THREADS: &str = "flooded";

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

    async fn open(logs: &Path, name: &str) -> Log {
        let clock = Clock::new(|| Timestamp::from_micros(0));
        Log::open(logs, &"flood".parse().unwrap(), name, Mask::default(), clock).await.unwrap()
    }

    /// Lets a process write to its standard error, and keeps that as its log.
    async fn keep(logs: &Path, name: &str, script: &str) {
        let log = open(logs, name).await;
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        log.capture(stderr, mpsc::channel(1).1).await;
        assert!(child.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn a_line_is_kept_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("printf '%0{LINE}d\\n%0{LINE}d1\\n' 0 0 >&2");
        keep(folder.path(), "long", &script).await;
        let kept = read(folder.path(), &"flood".parse().unwrap(), usize::MAX).unwrap();
        let longest = format!(" stderr {}", "0".repeat(LINE));
        assert!(kept.len() == 2 && kept.iter().all(|line| line.ends_with(&longest)), "{kept:?}");
    }

    #[tokio::test]
    async fn a_file_that_would_grow_beyond_its_limit_becomes_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path(), "full").await;
        let path = log.path.clone();
        let size = |extension| std::fs::metadata(path.with_extension(extension)).map_or(0, |file| file.len());
        for (length, sizes) in [(FILE, [FILE, 0]), (1, [1, FILE])] {
            log.noted = "x".repeat(usize::try_from(length).unwrap());
            log.write().await.unwrap();
            assert_eq!(["log", "log.1"].map(size), sizes);
        }
    }

    /// Counts the threads of this process that have a name.
    fn threads(name: &str) -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|found| found.trim_end() == name).count()
    }

    #[test]
    fn a_flood_of_lines_takes_few_threads_and_keeps_its_end() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).thread_name(THREADS).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let mut floods = JoinSet::new();
            for name in 0..WRITERS {
                let logs = folder.path().to_owned();
                let flood = async move { keep(&logs, &name.to_string(), &format!("seq {LINES} >&2")).await };
                floods.spawn_on(flood, runtime.handle());
            }
            while let Some(done) = floods.join_next().await {
                done.unwrap();
            }
        });
        let used = threads(THREADS);
        println!("{used} threads");
        assert!(used <= 2 + 4 * WRITERS, "{used} threads for {WRITERS} logs");
        for name in 0..WRITERS {
            let path = folder.path().join("flood").join(format!("{name}.log"));
            let log = std::fs::read_to_string(&path).unwrap();
            assert!(log.ends_with(&format!(" stderr {LINES}\n")) && log.len() as u64 <= FILE);
            let older = std::fs::metadata(path.with_extension("log.1")).unwrap().len();
            assert!(older <= FILE, "{older}");
        }
    }
}
