//! Streams that only the holder of a private key elsewhere can read: age (C2SP) with X25519.
//!
//! The format draws its own randomness. A stream whose end is missing doesn't read as a whole one, and
//! neither does one in which a bit was changed; who wrote it, the format doesn't say.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::str::FromStr;

use age::stream::StreamWriter;
use age::x25519;
use mcphub_domain::SecretText;

/// Names who can read a stream: the public half of a key pair that `age-keygen` made.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

/// Holds the private keys that a stream may be encrypted to.
pub struct Identities(Vec<x25519::Identity>);

/// Encrypts what is written to it. What isn't finished can't be read.
pub struct Encrypting<W>(StreamWriter<W>);

/// Says why a stream can't be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The text is no recipient.
    #[error("this is not a recipient: expected age1… as `age-keygen` prints it (the public key)")]
    Recipient,
    /// The text holds no identity.
    #[error(
        "line {line} of the identity file is no private key: expected AGE-SECRET-KEY-1… as `age-keygen` writes it"
    )]
    Identity {
        /// Counts the lines, from 1.
        line: usize,
    },
    /// The file holds nothing but comments.
    #[error("the identity file holds no private key")]
    NoIdentity,
    /// It is encrypted to somebody else.
    #[error("it is encrypted to another recipient: none of the private keys given opens it")]
    OtherRecipient,
    /// Its head isn't one.
    #[error("it is not an encrypted backup, or its beginning was changed ({0})")]
    Head(String),
    /// The system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl FromStr for Recipient {
    type Err = StreamError;

    fn from_str(text: &str) -> Result<Self, StreamError> {
        text.parse().map(Self).map_err(|_| StreamError::Recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl Identities {
    /// Reads the text of an identity file: a private key in each line that is no comment.
    pub fn parse(text: &SecretText) -> Result<Self, StreamError> {
        let lines = text.expose().lines().zip(1..).map(|(text, line)| (text.trim(), line));
        let keys = lines.filter(|(text, _)| !text.is_empty() && !text.starts_with('#'));
        let keys = keys.map(|(text, line)| text.parse().map_err(|_| StreamError::Identity { line }));
        match keys.collect::<Result<Vec<_>, _>>()? {
            none if none.is_empty() => Err(StreamError::NoIdentity),
            keys => Ok(Self(keys)),
        }
    }
}

impl<W: Write> Encrypting<W> {
    /// Ends the stream and returns what it was written to.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for Encrypting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Begins a stream that only the recipient can read.
pub fn encrypt<W: Write>(recipient: &Recipient, to: W) -> Result<Encrypting<W>, StreamError> {
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient.0 as &dyn age::Recipient))
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Encrypting(encryptor.wrap_output(to)?))
}

/// Reads a stream that was encrypted to one of the identities.
pub fn decrypt<R: BufRead>(identities: &Identities, from: R) -> Result<impl Read + use<R>, StreamError> {
    let decryptor = age::Decryptor::new_buffered(from).map_err(read)?;
    decryptor.decrypt(identities.0.iter().map(|identity| identity as &dyn age::Identity)).map_err(read)
}

fn read(error: age::DecryptError) -> StreamError {
    match error {
        age::DecryptError::NoMatchingKeys => StreamError::OtherRecipient,
        age::DecryptError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => error.into(),
        other => StreamError::Head(other.to_string()),
    }
}
