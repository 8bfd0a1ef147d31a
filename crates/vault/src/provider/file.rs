//! Keys from a file that only the hub's user can read, outside the data directory.
//!
//! The checks are made on the opened file, so nobody can swap it between check and use.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mcphub_domain::random::Entropy;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{KeyFault, ProviderError, text};
use crate::key::SecretKey;
use crate::keyring::Keyring;

/// The file's first line; each further line is a key, the current one first.
const HEADER: &str = "mcphub-key-v1";
/// The longest key file, in bytes: more than a hundred keys.
const MAX: usize = 8192;
/// Whose key file is trusted beside the hub's own user's.
const ROOT: u32 = 0;

/// Reads a key file.
pub struct FileProvider {
    path: PathBuf,
}

impl FileProvider {
    /// Takes the file's place; nothing is read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Creates a key file with a new key, durably, and its folder if there is none.
    ///
    /// The file appears whole or not at all: it is written beside its place and then linked there,
    /// which never replaces what another process has put there meanwhile.
    pub fn create(path: PathBuf, entropy: &Entropy) -> Result<Self, ProviderError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        create_folder(folder)?;
        let draft = folder.join(format!(".{:032x}.tmp", u128::from_be_bytes(entropy.bytes())));
        let linked = write_key(&draft, entropy).and_then(|()| std::fs::hard_link(&draft, &path));
        let removed = remove(&draft);
        linked.map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => ProviderError::Exists { path: path.clone() },
            _ => ProviderError::Io { action: "create", path: path.clone(), source },
        })?;
        removed.map_err(|source| ProviderError::Io {
            action: "remove the draft of",
            path: path.clone(),
            source,
        })?;
        sync_folder(folder).map_err(|source| ProviderError::Io {
            action: "write",
            path: path.clone(),
            source,
        })?;
        Ok(Self { path })
    }

    /// Hands over the keyring, if nobody else can read or change the file.
    pub fn load(&self) -> Result<Keyring, ProviderError> {
        let mut file = self.open()?;
        let metadata = file.metadata().map_err(|source| self.io("look at", source))?;
        let user = rustix::process::geteuid().as_raw();
        self.check(metadata.is_file(), metadata.uid(), metadata.mode(), user)?;
        let bytes = self.read(&mut file)?;
        parse(&bytes).map_err(|fault| ProviderError::Malformed { path: self.path.clone(), fault })
    }

    /// Opens the file itself, never what a link points to, and without waiting for a pipe's writer.
    fn open(&self) -> Result<File, ProviderError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::NOENT) => Err(ProviderError::Missing { path: self.path.clone() }),
            Err(Errno::LOOP | Errno::NXIO) => Err(ProviderError::NotAFile { path: self.path.clone() }),
            Err(errno) => Err(self.io("open", errno.into())),
        }
    }

    fn check(&self, is_file: bool, owner: u32, mode: u32, user: u32) -> Result<(), ProviderError> {
        let path = || self.path.clone();
        if !is_file {
            return Err(ProviderError::NotAFile { path: path() });
        }
        if owner != user && owner != ROOT {
            return Err(ProviderError::ForeignOwner { path: path(), owner, user });
        }
        if mode & 0o077 != 0 {
            return Err(ProviderError::Exposed { path: path(), mode: mode & 0o7777 });
        }
        Ok(())
    }

    fn read(&self, file: &mut File) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        // Room for all that is read, so that growing leaves no copy of a key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX));
        file.take(MAX as u64 + 1).read_to_end(&mut bytes).map_err(|source| self.io("read", source))?;
        Ok(bytes)
    }

    fn io(&self, action: &'static str, source: io::Error) -> ProviderError {
        ProviderError::Io { action, path: self.path.clone(), source }
    }
}

fn parse(bytes: &[u8]) -> Result<Keyring, KeyFault> {
    if bytes.len() > MAX {
        return Err(KeyFault::TooLong);
    }
    let content = std::str::from_utf8(bytes).map_err(|_| KeyFault::Header)?;
    let mut lines = content.lines();
    if lines.next() != Some(HEADER) {
        return Err(KeyFault::Header);
    }
    text::keyring(lines)
}

/// Writes a file with a new key that only its owner can read, and nobody can change.
fn write_key(path: &Path, entropy: &Entropy) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    file.set_permissions(Permissions::from_mode(0o400))?;
    let key = text::hex(&SecretKey::random(entropy));
    let content = Zeroizing::new([HEADER, "\n", &key, "\n"].concat());
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Creates a folder that only its owner can enter, and those above it, durably.
fn create_folder(path: &Path) -> Result<(), ProviderError> {
    let failed = |source| ProviderError::Io { action: "create the folder", path: path.into(), source };
    let Some(parent) = path.parent() else { return Ok(()) };
    if path.as_os_str().is_empty() || path.try_exists().map_err(failed)? {
        return Ok(());
    }
    create_folder(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync_folder(parent)).map_err(failed),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{FileProvider, ProviderError};

    #[test]
    fn a_key_file_belongs_to_the_hubs_user_or_root() {
        let provider = FileProvider::new("k".into());
        for (owner, user) in [(1000, 1000), (0, 1000), (0, 0)] {
            assert!(provider.check(true, owner, 0o100_400, user).is_ok(), "{owner} {user}");
        }
        for (owner, user) in [(1001, 1000), (1000, 0)] {
            let refused = provider.check(true, owner, 0o100_400, user);
            assert!(matches!(refused, Err(ProviderError::ForeignOwner { .. })), "{owner} {user}");
        }
    }
}
