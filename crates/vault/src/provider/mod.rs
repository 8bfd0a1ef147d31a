//! Where the key-encryption keys come from.
//!
//! A provider hands the keys over or says what to do; it never makes up a key, because a hub with a
//! new key couldn't open what it sealed with the old one.

pub mod env;
pub mod file;

mod text;

use std::io;
use std::path::PathBuf;

use crate::keyring::Keyring;

pub use env::EnvProvider;
pub use file::FileProvider;

/// Hands over the keyring at the start.
pub enum Provider {
    /// Reads a key file.
    File(FileProvider),
    /// Reads the value of an environment variable.
    Env(EnvProvider),
}

/// Says why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Says that there is no key file, so the hub stays sealed.
    #[error(
        "there is no key file {path:?}, so the hub is sealed: \
         put the file back from where you keep its copy, or name its place in the configuration"
    )]
    Missing {
        /// Locates the file.
        path: PathBuf,
    },
    /// Says that a new key would have replaced one that may still be needed.
    #[error("the key file {path:?} exists and is not overwritten: move it away if nothing is sealed with it")]
    Exists {
        /// Locates the file.
        path: PathBuf,
    },
    /// Says that others than the owner have rights on the key file.
    #[error(
        "the key file {path:?} has mode {mode:04o}, so others than its owner can use it: \
         run `chmod 400 {path:?}`, and rotate the key if somebody may have read it"
    )]
    Exposed {
        /// Locates the file.
        path: PathBuf,
        /// Tells the permission bits.
        mode: u32,
    },
    /// Says that the key file belongs to somebody else, who could change it.
    #[error(
        "the key file {path:?} belongs to user {owner}, and the hub runs as user {user}: \
         run `chown {user} {path:?}`"
    )]
    ForeignOwner {
        /// Locates the file.
        path: PathBuf,
        /// Identifies the file's owner.
        owner: u32,
        /// Identifies the user that the hub runs as.
        user: u32,
    },
    /// Says that the path leads to a link, a folder, a pipe or a device.
    #[error("{path:?} is not a regular file (links are not followed): name the key file itself")]
    NotAFile {
        /// Locates it.
        path: PathBuf,
    },
    /// Says that the key file's content can't be read as keys.
    #[error("the key file {path:?} is damaged ({fault}): put it back from where you keep its copy")]
    Malformed {
        /// Locates the file.
        path: PathBuf,
        /// Says what is wrong with it.
        fault: KeyFault,
    },
    /// Says that the environment's value can't be read as keys.
    #[error(
        "the key in the environment is not usable ({fault}): \
         set it to 32 random bytes in hex or base64, such as `openssl rand -hex 32` prints"
    )]
    BadValue {
        /// Says what is wrong with it.
        fault: KeyFault,
    },
    /// Says that the operating system refused.
    #[error("cannot {action} {path:?} for the key file: {source}")]
    Io {
        /// Says what was tried.
        action: &'static str,
        /// Locates the file or folder.
        path: PathBuf,
        /// Tells the operating system's reason.
        source: io::Error,
    },
}

/// Says what is wrong with a text of keys. It never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Says that the first line isn't the format's name.
    #[error("its first line must be mcphub-key-v1")]
    Header,
    /// Says that there is no key.
    #[error("it holds no key")]
    Empty,
    /// Says that an entry isn't a key.
    #[error("key {number} is not 32 bytes in hex or base64")]
    NotAKey {
        /// Counts the keys, from 1.
        number: usize,
    },
    /// Says that an entry is a key that nobody drew at random.
    #[error("key {number} is not random")]
    Weak {
        /// Counts the keys, from 1.
        number: usize,
    },
    /// Says that there is more than any number of keys needs.
    #[error("it is longer than 8192 bytes")]
    TooLong,
}

impl Provider {
    /// Hands over the keyring.
    pub fn load(&self) -> Result<Keyring, ProviderError> {
        match self {
            Self::File(file) => file.load(),
            Self::Env(env) => env.load(),
        }
    }
}
