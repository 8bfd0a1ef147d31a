//! The thread that writes the log, with a runtime of its own: who waits for the log waits for no other work,
//! and no other thread is woken for it.

use std::io;
use std::thread;

use tokio::runtime::Builder;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::writer::Writer;

/// Is the thread. Its runtime stays until this is dropped, for connections may be of it.
pub(crate) struct LogThread {
    written: CancellationToken,
    _over: DropGuard,
}

impl LogThread {
    /// Starts the thread; it writes until the queue is stopped and empty.
    pub(crate) fn start(writer: Writer) -> io::Result<Self> {
        let (written, over) = (CancellationToken::new(), CancellationToken::new());
        let (written_out, ended) = (written.clone().drop_guard(), over.clone());
        let (handed, made) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            // Made here: where it is dropped, too, should anything fail, nothing else runs.
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return handed.send(Err(error)),
            };
            let told = handed.send(Ok(()));
            runtime.block_on(async {
                writer.run().await;
                drop(written_out);
                ended.cancelled().await;
            });
            told
        })?;
        made.recv().map_err(io::Error::other)??;
        Ok(Self { written, _over: over.drop_guard() })
    }

    /// Writes in the runtime that this is called in instead: there, what is queued before anybody waits is one
    /// segment, whatever the machine does.
    #[cfg(feature = "testing")]
    #[expect(clippy::disallowed_methods, reason = "the test ends with its runtime")]
    pub(crate) fn within(writer: Writer) -> io::Result<Self> {
        let (written, over) = (CancellationToken::new(), CancellationToken::new());
        let written_out = written.clone().drop_guard();
        tokio::spawn(async move {
            writer.run().await;
            drop(written_out);
        });
        Ok(Self { written, _over: over.drop_guard() })
    }

    /// Is cancelled when nothing is written any more.
    pub(crate) fn over(&self) -> CancellationToken {
        self.written.clone()
    }

    /// Waits until all that waited is written.
    pub(crate) async fn written(&self) {
        self.written.cancelled().await;
    }
}
