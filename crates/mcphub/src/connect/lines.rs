//! Standard input and output as messages: one on each line. Both have a thread of their own, which ends with the process: a
//! read that waits for a client would otherwise keep it alive.

use std::io::{self, BufRead, Read, Write};
use std::thread;

use bytes::Bytes;
use mcphub_wire::{Limits, message};
use tokio::sync::{mpsc, oneshot};

/// How many lines of the client wait; then it is read no further.
const READ: usize = 16;
/// How many messages wait for the client; then what brings more waits.
const WRITTEN: usize = 16;

/// Is a line that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It may hold a message.
    Text(Bytes),
    /// It is longer than a message may be, and was skipped.
    TooLong,
}

/// Is the way to the client; closed when the client reads no more.
#[derive(Clone)]
pub(super) struct Out(mpsc::Sender<Bytes>);

/// Ends when everything that went out is written.
pub(super) type Written = oneshot::Receiver<()>;

impl Out {
    /// Writes a message as one line. To a client that reads no more, nothing is written.
    pub(super) async fn send(&self, message: Bytes) {
        if self.0.send(message).await.is_err() {
            tracing::debug!("the client reads no more");
        }
    }

    /// Waits until the client reads no more.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Begins to read standard input.
pub(super) fn read(mut input: impl BufRead + Send + 'static) -> io::Result<mpsc::Receiver<Line>> {
    let (sender, receiver) = mpsc::channel(READ);
    let read = move || {
        while let Some(line) = next_line(&mut input, Limits::REQUEST.body) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("stdin".to_owned()).spawn(read)?;
    Ok(receiver)
}

/// Begins to write standard output.
pub(super) fn write(mut output: impl Write + Send + 'static) -> io::Result<(Out, Written)> {
    let (sender, mut receiver) = mpsc::channel(WRITTEN);
    let (done, written) = oneshot::channel();
    let write = move || {
        while let Some(message) = receiver.blocking_recv() {
            if write_line(&mut output, message).is_err() {
                break;
            }
        }
        drop(done);
    };
    thread::Builder::new().name("stdout".to_owned()).spawn(write)?;
    Ok((Out(sender), written))
}

/// Reads up to the next line break; nothing when the input has ended. What is longer than `longest` isn't kept.
fn next_line(input: &mut impl BufRead, longest: usize) -> Option<Line> {
    let mut line = Vec::new();
    let most = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    let ended = input.by_ref().take(most).read_until(b'\n', &mut line).is_err();
    if ended || line.is_empty() {
        return None;
    }
    if line.last() == Some(&b'\n') || line.len() <= longest {
        return Some(Line::Text(line.into()));
    }
    input.skip_until(b'\n').ok().map(|_| Line::TooLong)
}

fn write_line(output: &mut impl Write, message: Bytes) -> io::Result<()> {
    output.write_all(&message::line(message))?;
    output.write_all(b"\n")?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufReader, Read, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::{Line, READ, WRITTEN, next_line, read, write, write_line};

    /// How long something may take that has to happen.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Is an input without end, which tells of each line that is read of it.
    struct Endless(Sender<()>);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.send(()).map_err(io::Error::other)?;
            (&b"{}\n"[..]).read(buffer)
        }
    }

    /// Is an output that tells of each piece that is written, and takes it only when it may.
    struct Slow(Sender<()>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(()).map_err(io::Error::other)?;
            self.1.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn so_many_lines_wait_and_then_no_more_are_read() {
        let (sender, told) = channel();
        let mut lines = read(BufReader::new(Endless(sender))).unwrap();
        for number in 1..=READ {
            assert!(told.recv_timeout(PATIENCE).is_ok(), "line {number}");
        }
        assert!(told.recv_timeout(PATIENCE).is_ok(), "one more, which finds no room");
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "and no other");
        assert_eq!(lines.blocking_recv(), Some(Line::Text("{}\n".into())));
        assert!(told.recv_timeout(PATIENCE).is_ok(), "there is room again");
    }

    #[test]
    fn so_many_messages_wait_for_the_client_and_then_what_brings_more_does() {
        let ((sender, told), (allow, allowed)) = (channel(), channel());
        let (out, _written) = write(Slow(sender, allowed)).unwrap();
        let goes = || out.send("{}".into()).now_or_never().is_some();
        assert!(goes() && told.recv_timeout(PATIENCE).is_ok(), "one is being written");
        for number in 1..=WRITTEN {
            assert!(goes(), "message {number}");
        }
        assert!(!goes());
        // The rest of its line, then the beginning of the next one.
        for _ in 0..2 {
            allow.send(()).unwrap();
            assert!(told.recv_timeout(PATIENCE).is_ok());
        }
        assert!(goes(), "there is room again");
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let mut input = &b"12345678\n123456789\n\n1234567890123456789\nlast"[..];
        let mut next = || next_line(&mut input, 8);
        assert_eq!(next(), Some(Line::Text("12345678\n".into())));
        assert_eq!(next(), Some(Line::TooLong));
        assert_eq!(next(), Some(Line::Text("\n".into())));
        assert_eq!(next(), Some(Line::TooLong));
        assert_eq!(next(), Some(Line::Text("last".into())));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_message_is_one_line_however_it_was_written() {
        let mut output = Vec::new();
        write_line(&mut output, "{\r\n  \"a\": 1\n}".into()).unwrap();
        write_line(&mut output, "{}".into()).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), "{    \"a\": 1 }\n{}\n");
    }
}
