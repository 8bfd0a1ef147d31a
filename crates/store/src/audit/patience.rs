//! Who waits for her intent to become durable, and may leave before it is.
//!
//! Nobody knows then whether it gets into the log. If it does, the call has an end there, though it never ran; if it doesn't,
//! it has none. The writer waits for those ends before it stops.

use mcphub_domain::audit::Entry;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::queue::{Way, stopped};
use crate::error::StoreError;

/// Waits for a record.
pub(super) struct Patience<'q> {
    durable: oneshot::Receiver<Result<(), String>>,
    /// What the log has to have behind the record if she leaves.
    end: Option<Box<Entry>>,
    others: &'q Way<Entry>,
    leavers: &'q TaskTracker,
}

impl<'q> Patience<'q> {
    pub(super) const fn new(
        durable: oneshot::Receiver<Result<(), String>>,
        end: Option<Box<Entry>>,
        (others, leavers): (&'q Way<Entry>, &'q TaskTracker),
    ) -> Self {
        Self { durable, end, others, leavers }
    }

    /// Waits until the record is durable.
    pub(super) async fn wait(mut self) -> Result<(), StoreError> {
        let told = (&mut self.durable).await;
        self.end = None;
        match told {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(StoreError::AuditUnavailable { reason }),
            Err(_) => Err(stopped()),
        }
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        let Some(end) = self.end.take() else { return };
        let Ok(runtime) = Handle::try_current() else {
            return tracing::error!(
                "a caller left outside of any runtime; her call may have no end in the log"
            );
        };
        let (_, never) = oneshot::channel();
        let (durable, others) = (std::mem::replace(&mut self.durable, never), self.others.clone());
        let written = async move {
            if let Ok(Ok(())) = durable.await
                && let Err(error) = others.push(*end).await
            {
                tracing::error!(%error, "the end of a call whose caller left was lost");
            }
        };
        runtime.spawn(self.leavers.track_future(written));
    }
}
