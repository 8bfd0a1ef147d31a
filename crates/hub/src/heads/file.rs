//! The file of the heads: grows by lines at its end, and is thinned out when it has grown large.
//!
//! Everything here waits for the disk, so it runs where waiting holds nobody up.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use mcphub_domain::Timestamp;

use super::Head;

/// The longest line that is looked for at the end.
const LONGEST: u64 = 1 << 20;
/// How often a file is opened again because another process has put a new one in its place.
const TRIES: u32 = 1_000;
/// How old heads, in microseconds, are kept how far apart: the last ten minutes whole, one of each
/// minute for a day, of each hour for a month, and of each day for ever.
const AGES: [(i64, i64); 3] = [(10 * MINUTE, 1), (24 * HOUR, MINUTE), (30 * 24 * HOUR, HOUR)];
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Appends the line that `write` makes for the next head's number, durably, and returns it.
pub(super) fn append(path: &Path, write: impl FnOnce(u64) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = open_locked(path)?;
    let number = cut_torn_line(&mut file)?;
    let line = write(number)?;
    file.write_all(&[line.as_slice(), b"\n"].concat())?;
    file.sync_data()?;
    Ok(line)
}

/// Thins out a file that is longer than `longest`, and says how long it is then; nothing if it isn't.
///
/// No cut of the log is missed for it: of every chain, the newest head names the end, or another
/// chain does whose end the newest head names. Older heads only tell when it was still whole.
pub(super) fn thin_out(path: &Path, longest: u64, now: Timestamp) -> io::Result<Option<u64>> {
    let length = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?.len(),
    };
    if length <= longest {
        return Ok(None);
    }
    let mut file = open_locked(path)?;
    cut_torn_line(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let kept = thinned(&text, now);
    replace(path, kept.as_bytes())?;
    Ok(Some(kept.len() as u64))
}

/// Puts a new file in the place of the old one, whole or not at all.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_added_extension("tmp");
    let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Opens the file that is in its place when nobody else writes it.
fn open_locked(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        let file = File::options().create(true).read(true).append(true).open(path)?;
        file.lock()?;
        let there = std::fs::metadata(path);
        if there.is_ok_and(|there| file.metadata().is_ok_and(|ours| ours.ino() == there.ino())) {
            return Ok(file);
        }
    }
    Err(io::Error::other("it is replaced again and again"))
}

/// Cuts off what a power cut left of an unfinished line, and returns the next head's number.
fn cut_torn_line(file: &mut File) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let torn = tail.iter().rev().take_while(|byte| **byte != b'\n').count();
    if torn > 0 {
        file.set_len(length - torn as u64)?;
    }
    let last = tail
        .rsplit(|byte| *byte == b'\n')
        .skip(1)
        .filter(|line| !line.is_empty())
        .find_map(|line| serde_json::from_slice::<Head>(line).ok());
    Ok(last.map_or(1, |head| head.number + 1))
}

/// Keeps the newest head of each span of time, and every line that is no head, for `verify` to find.
fn thinned(text: &str, now: Timestamp) -> String {
    let mut spans = HashSet::new();
    let mut kept: Vec<&str> = text
        .split_inclusive('\n')
        .rev()
        .filter(|line| {
            serde_json::from_str::<Head>(line).map_or(true, |head| spans.insert(span(head.at, now)))
        })
        .collect();
    kept.reverse();
    kept.concat()
}

/// Names the span of time that a head stands for.
fn span(at: Timestamp, now: Timestamp) -> (i64, i64) {
    let age = now.as_micros().saturating_sub(at.as_micros());
    let apart = AGES.iter().find(|(oldest, _)| age < *oldest).map_or(DAY, |(_, apart)| *apart);
    (apart, at.as_micros() / apart)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use mcphub_domain::InstallId;
    use tempfile::TempDir;

    use super::{DAY, File, HOUR, Head, MINUTE, Timestamp, append, io, thin_out};

    const NOW: i64 = 1_795_000_000_000_000;

    fn line(number: u64, at: i64) -> io::Result<Vec<u8>> {
        let install = InstallId::from_bytes([1; 16]);
        let at = Timestamp::from_micros(at);
        let head = Head { at, chains: Vec::new(), install, number, signature: "s".to_owned(), v: 1 };
        Ok(serde_json::to_vec(&head)?)
    }

    /// Reads the ages of the heads in a file, and checks that their numbers only grow.
    fn ages(folder: &TempDir) -> Vec<i64> {
        let text = std::fs::read_to_string(folder.path().join("x.heads")).unwrap();
        let heads: Vec<Head> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert!(heads.is_sorted_by(|one, next| one.number < next.number));
        heads.iter().map(|head| NOW - head.at.as_micros()).collect()
    }

    #[test]
    fn old_heads_are_thinned_out_and_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.heads");
        let steps = |from: i64, apart: i64| (1..=100).rev().map(move |step| NOW - from - step * apart);
        let times = steps(60 * DAY, HOUR).chain(steps(2 * DAY, MINUTE)).chain(steps(HOUR, 1_000_000));
        for at in times.chain(steps(0, 1_000)).chain([NOW]) {
            append(&path, |number| line(number, at)).unwrap();
        }
        let now = Timestamp::from_micros(NOW);
        let whole = std::fs::metadata(&path).unwrap().len();
        assert_eq!(thin_out(&path, whole, now).unwrap(), None, "it is not too long yet");
        assert_eq!(ages(&folder).len(), 401);
        let left = thin_out(&path, 100, now).unwrap();
        assert_eq!(left, Some(std::fs::metadata(&path).unwrap().len()));
        let kept = ages(&folder);
        let count = |ages: std::ops::Range<i64>| kept.iter().filter(|age| ages.contains(age)).count();
        assert_eq!(count(0..10 * MINUTE), 101, "the last minutes are whole");
        assert!((2..=3).contains(&count(10 * MINUTE..DAY)), "one for each minute: {kept:?}");
        assert!((2..=3).contains(&count(DAY..30 * DAY)), "one for each hour: {kept:?}");
        assert!((5..=6).contains(&count(30 * DAY..i64::MAX)), "one for each day: {kept:?}");
        assert_eq!(kept.last(), Some(&0));
        append(&path, |number| line(number, NOW)).unwrap();
        assert!(String::from_utf8(std::fs::read(&path).unwrap()).unwrap().contains("\"number\":402"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a draft is left");
    }

    #[test]
    fn a_line_that_is_no_head_stays_and_a_torn_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.heads");
        append(&path, |number| line(number, NOW - 60 * DAY)).unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"somebody wrote this\n").unwrap();
        append(&path, |number| line(number, NOW)).unwrap();
        file.write_all(b"{\"torn\":").unwrap();
        thin_out(&path, 0, Timestamp::from_micros(NOW)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("somebody wrote this\n") && text.ends_with("\"v\":1}\n"), "{text}");
    }

    #[test]
    fn who_waits_to_write_finds_the_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.heads");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        append(&path, |number| line(number, NOW)).unwrap();
                        thin_out(&path, 0, Timestamp::from_micros(NOW)).unwrap();
                    }
                });
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"number\":100"), "a line was lost: {text}");
    }
}
