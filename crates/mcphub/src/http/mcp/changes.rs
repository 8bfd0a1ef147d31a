//! Whether the tools that a caller sees have changed.

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::visit::Visit;

/// Notices when a caller sees other tools than before.
pub(super) struct ToolChanges {
    revisions: watch::Receiver<i64>,
    /// The digest of the names that she last heard of: there may be many streams and many names.
    seen: [u8; 32],
}

impl ToolChanges {
    pub(super) fn since_now(visit: &Visit) -> Self {
        Self { revisions: visit.hub.changes(), seen: visible(visit) }
    }

    /// Waits until she sees others; nothing when the hub ends.
    pub(super) async fn next(&mut self, visit: &Visit) -> Option<()> {
        loop {
            self.revisions.changed().await.ok()?;
            let visible = visible(visit);
            if visible != self.seen {
                self.seen = visible;
                return Some(());
            }
        }
    }
}

fn visible(visit: &Visit) -> [u8; 32] {
    let mut digest = Sha256::new();
    for name in visit.hub.visible_names(&visit.caller, visit.endpoint) {
        digest.update(name.as_bytes());
        digest.update([0]);
    }
    digest.finalize().into()
}
