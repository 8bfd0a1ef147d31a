//! Keys from a file that only the hub's user can read, outside the data directory.
//!
//! The checks are made on the opened file, so nobody can swap it between check and use.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mcphub_domain::WrapKeyId;
use mcphub_domain::random::Entropy;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{KeyFault, ProviderError, text};
use crate::key::SecretKey;
use crate::keyring::{Keyring, WrapKey};

/// The file's first line; each further line is a key. The first one seals in an installation that has
/// sealed nothing yet; after that its database says which one does.
const HEADER: &str = "mcphub-key-v1";
/// The longest key file, in bytes: more than a hundred keys.
const MAX: usize = 8192;
/// Whose key file is trusted beside the hub's own user's.
const ROOT: u32 = 0;
/// How often the file is opened again because another process has put a new one in its place.
const TRIES: u32 = 100;

/// Reads a key file, and rewrites it.
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

    /// Shows the file's place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hands over the keyring, if nobody else can read or change the file.
    pub fn load(&self) -> Result<Keyring, ProviderError> {
        let bytes = self.read_checked(&mut self.open()?)?;
        parse(&bytes).map_err(|fault| ProviderError::Malformed { path: self.path.clone(), fault })
    }

    /// Adds a new key as the last line, durably, and names it. It only opens until somebody says that it
    /// seals, so whoever reads the file meanwhile is not harmed.
    pub fn add(&self, entropy: &Entropy) -> Result<WrapKeyId, ProviderError> {
        let key = WrapKey::random(entropy);
        self.rewrite(|lines| {
            let mut lines: Vec<Line> = lines;
            lines.push(Line { id: key.id(), text: text::hex(key.key()) });
            lines
        })?;
        Ok(key.id())
    }

    /// Takes keys out of the file, durably. The caller knows that nothing is sealed under them.
    pub fn remove(&self, gone: &[WrapKeyId]) -> Result<(), ProviderError> {
        self.rewrite(|lines| lines.into_iter().filter(|line| !gone.contains(&line.id)).collect())
    }

    /// Puts a file with other lines in the place of this one, whole or not at all. One at a time does so.
    fn rewrite(&self, change: impl FnOnce(Vec<Line>) -> Vec<Line>) -> Result<(), ProviderError> {
        let mut file = self.open_locked()?;
        let bytes = self.read_checked(&mut file)?;
        let malformed = |fault| ProviderError::Malformed { path: self.path.clone(), fault };
        let lines = change(lines(&bytes).map_err(malformed)?);
        let texts = lines.iter().flat_map(|line| [line.text.as_str(), "\n"]);
        let length = HEADER.len() + 1 + lines.iter().map(|line| line.text.len() + 1).sum::<usize>();
        let mut content = Zeroizing::new(String::with_capacity(length));
        content.extend([HEADER, "\n"].into_iter().chain(texts));
        parse(content.as_bytes()).map_err(malformed)?;
        // A draft that a kill left behind is in the way, and nobody else's: the lock is held.
        let draft = self.path.with_extension("key.draft");
        let replaced = remove(&draft)
            .and_then(|()| write_content(&draft, &content))
            .and_then(|()| std::fs::rename(&draft, &self.path))
            .and_then(|()| sync_folder(self.path.parent().unwrap_or(Path::new("."))));
        replaced.map_err(|source| self.io("replace", source))
    }

    /// Opens the file that is in its place when nobody else replaces it.
    fn open_locked(&self) -> Result<File, ProviderError> {
        for _ in 0..TRIES {
            let file = self.open()?;
            file.lock().map_err(|source| self.io("lock", source))?;
            let ours = file.metadata().map_err(|source| self.io("look at", source))?;
            let there = self.open()?.metadata().map_err(|source| self.io("look at", source))?;
            if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
                return Ok(file);
            }
        }
        Err(self.io("lock", io::Error::other("it is replaced again and again")))
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

    fn read_checked(&self, file: &mut File) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
        let metadata = file.metadata().map_err(|source| self.io("look at", source))?;
        let user = rustix::process::geteuid().as_raw();
        self.check(metadata.is_file(), metadata.uid(), metadata.mode(), user)?;
        self.read(file)
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

/// Is one line of the file with a key.
struct Line {
    id: WrapKeyId,
    text: Zeroizing<String>,
}

fn parse(bytes: &[u8]) -> Result<Keyring, KeyFault> {
    text::keyring(texts(bytes)?)
}

fn lines(bytes: &[u8]) -> Result<Vec<Line>, KeyFault> {
    let ids = parse(bytes)?.ids();
    let line = |(id, text): (_, &str)| Line { id, text: Zeroizing::new(text.to_owned()) };
    Ok(ids.into_iter().zip(texts(bytes)?).map(line).collect())
}

fn texts(bytes: &[u8]) -> Result<std::str::Lines<'_>, KeyFault> {
    if bytes.len() > MAX {
        return Err(KeyFault::TooLong);
    }
    let content = std::str::from_utf8(bytes).map_err(|_| KeyFault::Header)?;
    let mut lines = content.lines();
    if lines.next() != Some(HEADER) {
        return Err(KeyFault::Header);
    }
    Ok(lines)
}

/// Writes a file with a new key.
fn write_key(path: &Path, entropy: &Entropy) -> io::Result<()> {
    let key = text::hex(&SecretKey::random(entropy));
    write_content(path, &Zeroizing::new([HEADER, "\n", &key, "\n"].concat()))
}

/// Writes a file that only its owner can read, and nobody can change.
fn write_content(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    file.set_permissions(Permissions::from_mode(0o400))?;
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
    use super::{
        Entropy, FileProvider, HEADER, KeyFault, MAX, ProviderError, SecretKey, remove, text, write_content,
    };

    /// Puts a file with one key, again and again, in its place, and says how often that is. The ends of some lines have two
    /// bytes, so that it can have any length.
    fn put(provider: &FileProvider, length: usize) -> usize {
        let key = text::hex(&SecretKey::random(&Entropy::fixed(1)));
        let room = length - HEADER.len() - 1;
        let (lines, rest) = (room / (key.len() + 1), room % (key.len() + 1));
        let ends = (0..lines).map(|line| if line < rest { "\r\n" } else { "\n" });
        let keys: String = ends.flat_map(|end| [&*key, end]).collect();
        let content = format!("{HEADER}\n{keys}");
        assert_eq!(content.len(), length);
        remove(&provider.path).unwrap();
        write_content(&provider.path, &content).unwrap();
        lines
    }

    fn is_too_long<T>(done: &Result<T, ProviderError>) -> bool {
        matches!(done, Err(ProviderError::Malformed { fault: KeyFault::TooLong, .. }))
    }

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

    #[test]
    fn a_key_file_may_be_as_long_as_the_limit_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let provider = FileProvider::new(folder.path().join("hub.key"));
        let keys = put(&provider, MAX);
        assert_eq!(provider.load().ok().map(|keyring| keyring.ids().len()), Some(keys));
        put(&provider, MAX + 1);
        assert!(is_too_long(&provider.load()));
    }

    #[test]
    fn a_key_for_which_there_is_no_room_is_not_added() {
        let folder = tempfile::tempdir().unwrap();
        let (provider, entropy) = (FileProvider::new(folder.path().join("hub.key")), Entropy::fixed(2));
        let line = text::hex(&SecretKey::random(&entropy)).len() + 1;
        let most = (MAX - HEADER.len() - 1) / line;
        let keys = put(&provider, HEADER.len() + 1 + (most - 1) * line);
        let added = provider.add(&entropy).ok();
        assert!(is_too_long(&provider.add(&entropy)));
        let kept = provider.load().ok().map(|keyring| keyring.ids()).unwrap_or_default();
        assert_eq!((kept.len(), kept.last().copied()), (keys + 1, added), "the file stays as it was");
    }
}
