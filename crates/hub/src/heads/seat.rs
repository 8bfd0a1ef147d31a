//! Which database signs the heads of an installation, in a file beside them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use mcphub_store::Place;

use super::file::replace;

/// Names the file beside that of the heads.
pub(super) fn beside(heads: &Path) -> PathBuf {
    heads.with_extension("place")
}

/// Reads which other place signed last, if it may still be there.
pub(super) fn rival(path: &Path, own: &str) -> io::Result<Option<String>> {
    let last = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let last = last.trim();
    Ok((!last.is_empty() && last != own && !Place::is_gone(last)).then(|| last.to_owned()))
}

/// Notes that this place signs, and returns its rival.
pub(super) fn take(path: &Path, own: &str) -> io::Result<Option<String>> {
    let rival = rival(path, own)?;
    let line = format!("{own}\n");
    if fs::read(path).ok().as_deref() != Some(line.as_bytes()) {
        replace(path, line.as_bytes())?;
    }
    Ok(rival)
}

#[cfg(test)]
mod tests {
    use super::{beside, rival, take};

    #[test]
    fn only_another_place_that_may_be_there_is_a_rival() {
        let folder = tempfile::tempdir().unwrap();
        let path = beside(&folder.path().join("x.heads"));
        let file = folder.path().join("mcphub.db");
        let (own, other) = ("postgres:db.test:5432/hub".to_owned(), format!("sqlite:{}", file.display()));
        assert_eq!(take(&path, &own).unwrap(), None);
        assert_eq!(rival(&path, &own).unwrap(), None);
        assert_eq!(rival(&path, &other).unwrap(), Some(own.clone()));
        assert_eq!(take(&path, &other).unwrap(), Some(own.clone()));
        assert_eq!(take(&path, &own).unwrap(), None, "its file is gone");
        std::fs::write(&file, "").unwrap();
        take(&path, &other).unwrap();
        assert_eq!(rival(&path, &own).unwrap(), Some(other));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no draft is left");
    }
}
