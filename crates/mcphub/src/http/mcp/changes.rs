//! Whether the lists that a caller sees have changed.

use std::collections::VecDeque;

use mcphub_domain::ServerId;
use mcphub_hub::{Client, Entrance, Hearing};
use mcphub_wire::list::ListKind;
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::visit::Visit;

/// Notices when a caller sees other tools than before.
pub(super) struct ToolChanges {
    revisions: watch::Receiver<i64>,
    /// The digest of the names that she last heard of: there may be many streams and many names.
    seen: [u8; 32],
}

/// Notices when any list of a session's endpoint may be another one.
pub(super) struct Changes {
    tools: ToolChanges,
    lists: Receiver<(ServerId, ListKind)>,
    worlds: watch::Receiver<i64>,
    /// The servers whose prompts and resources she may have.
    readable: Vec<ServerId>,
    /// What is to be told before anything else.
    due: VecDeque<ListKind>,
    _hearing: Option<Hearing>,
}

impl Changes {
    pub(super) fn of(visit: &Visit, client: &Client) -> Self {
        let entrance = Entrance { endpoint: visit.endpoint, path: &visit.path, client };
        Self {
            tools: ToolChanges::since_now(visit),
            lists: visit.hub.list_changes(),
            worlds: visit.hub.changes(),
            readable: visit.hub.readable(&visit.caller, visit.endpoint),
            due: VecDeque::new(),
            _hearing: visit.hub.hear(&visit.caller, entrance),
        }
    }

    /// Waits until one has changed; nothing when the hub ends.
    pub(super) async fn next(&mut self, visit: &Visit) -> Option<ListKind> {
        loop {
            if let Some(kind) = self.due.pop_front() {
                return Some(kind);
            }
            tokio::select! {
                changed = self.tools.next(visit) => return changed.map(|()| ListKind::Tools),
                world = self.worlds.changed() => {
                    world.ok()?;
                    let readable = visit.hub.readable(&visit.caller, visit.endpoint);
                    if readable != self.readable {
                        self.readable = readable;
                        self.due.extend([ListKind::Prompts, ListKind::Resources]);
                    }
                }
                changed = self.lists.recv() => match changed {
                    Ok((server, kind)) if self.readable.contains(&server) => return Some(kind),
                    Ok(_) => {}
                    Err(RecvError::Lagged(lost)) => {
                        visit.hub.drops().count(lost);
                        self.due.extend([ListKind::Tools, ListKind::Prompts, ListKind::Resources]);
                    }
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
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
