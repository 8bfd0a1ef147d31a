//! Which database signs the heads of an installation, in a file beside them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use mcphub_store::Place;

use super::file::replace;

/// Names the file beside that of the heads.
fn beside(heads: &Path) -> PathBuf {
    heads.with_extension("place")
}

/// Reads which other place signed last, if it may still be there.
pub(super) fn rival(heads: &Path, own: &str) -> io::Result<Option<String>> {
    let last = match fs::read_to_string(beside(heads)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let last = last.trim();
    Ok((!last.is_empty() && last != own && !Place::is_gone(last)).then(|| last.to_owned()))
}

/// Lets this place sign, with the lock of the heads held. Where another file does, it would be two of one installation; that it
/// can't be noted who signs keeps nobody from it.
pub(super) fn take(heads: &Path, own: &str) -> io::Result<()> {
    match rival(heads, own)? {
        Some(other) if Place::differ(own, &other) => {
            return Err(io::Error::other(format!(
                "{other} signs its log there, so {own} can't: move that one away if this is the one that goes on, \
                 else give this one an audit.heads_dir of its own"
            )));
        }
        Some(other) => tracing::warn!(other, "a database by another name signed the log here before"),
        None => {}
    }
    if let Err(error) = put(heads, own) {
        tracing::warn!(%error, "it can't be noted which database signs the log there");
    }
    Ok(())
}

/// Notes that this place signs.
pub(super) fn put(heads: &Path, own: &str) -> io::Result<()> {
    let (path, line) = (beside(heads), format!("{own}\n"));
    match fs::read(&path) {
        Ok(noted) if noted == line.as_bytes() => Ok(()),
        _ => replace(&path, line.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::{put, rival, take};

    #[test]
    fn only_another_place_that_may_be_there_is_a_rival() {
        let folder = tempfile::tempdir().unwrap();
        let (heads, file) = (folder.path().join("x.heads"), folder.path().join("mcphub.db"));
        let (own, other) = ("postgres:db.test:5432/hub".to_owned(), format!("sqlite:{}", file.display()));
        take(&heads, &own).unwrap();
        assert_eq!(rival(&heads, &own).unwrap(), None);
        assert_eq!(rival(&heads, &other).unwrap(), Some(own.clone()));
        take(&heads, &other).unwrap();
        assert_eq!(rival(&heads, &own).unwrap(), None, "its file is gone");
        std::fs::write(&file, "").unwrap();
        assert_eq!(rival(&heads, &own).unwrap(), Some(other));
        let second = folder.path().join("second.db");
        std::fs::write(&second, "").unwrap();
        let second = format!("sqlite:{}", second.display());
        let refused = take(&heads, &second).unwrap_err().to_string();
        assert!(refused.contains("second.db") && refused.contains("audit.heads_dir"), "{refused}");
        put(&heads, &second).unwrap();
        assert_eq!(rival(&heads, &second).unwrap(), None, "it took over");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "no draft is left");
    }
}
