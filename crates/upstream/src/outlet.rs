//! The way to one call for what comes before its answer. Whoever hands something on never waits for the caller.

use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::counters::Drops;
use crate::reply::Step;

/// How many notifications may wait for a caller.
const NOTIFICATIONS: usize = 64;
/// How many bytes of notifications may wait for a caller; a longer one waits alone.
const NOTIFIED: usize = 1 << 20;

/// Is where notifications and questions go in.
#[derive(Clone)]
pub(crate) struct Outlet {
    waiting: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    drops: Drops,
}

/// Is where they come out.
pub(crate) struct Inlet(mpsc::Receiver<Waiting>);

/// Is a notification or a question that waits, with its share of the room for those.
struct Waiting {
    step: Step,
    _room: OwnedSemaphorePermit,
}

impl Outlet {
    pub(crate) fn new(drops: &Drops) -> (Self, Inlet) {
        let (waiting, inlet) = mpsc::channel(NOTIFICATIONS);
        let room = Arc::new(Semaphore::new(NOTIFIED));
        (Self { waiting, room, drops: drops.clone() }, Inlet(inlet))
    }

    /// Hands on something of so many bytes. Where too much waits already it is lost, and counted; a question that is lost is
    /// answered when it is dropped.
    pub(crate) fn offer(&self, step: Step, size: usize) {
        let share = u32::try_from(size.min(NOTIFIED)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(share) else {
            return self.drops.count(1);
        };
        if let Err(TrySendError::Full(_)) = self.waiting.try_send(Waiting { step, _room: room }) {
            self.drops.count(1);
        }
    }
}

impl Inlet {
    /// Waits for the next one; nothing when no more comes. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Step> {
        self.0.recv().await.map(|waiting| waiting.step)
    }
}

#[cfg(test)]
mod tests {
    use mcphub_wire::Notification;

    use super::{NOTIFICATIONS, NOTIFIED, Outlet, Step};
    use crate::counters::Counters;

    #[test]
    fn so_much_waits_for_a_caller_and_what_is_more_is_lost_and_counted() {
        let table = [
            (vec![1; NOTIFICATIONS], 0),
            (vec![1; NOTIFICATIONS + 1], 1),
            (vec![NOTIFIED - 1, 1], 0),
            (vec![NOTIFIED - 1, 2], 1),
            // A longer one waits alone.
            (vec![NOTIFIED + 1], 0),
            (vec![NOTIFIED + 1, 1], 1),
            (vec![1, NOTIFIED + 1], 1),
        ];
        for (sizes, lost) in table {
            let counters = Counters::default();
            let (outlet, _inlet) = Outlet::new(&counters.drops());
            for size in &sizes {
                let notification = Notification { method: "x".into(), params: None };
                outlet.offer(Step::Notification(notification), *size);
            }
            assert_eq!(counters.counts().dropped_notifications, lost, "{sizes:?}");
        }
    }
}
