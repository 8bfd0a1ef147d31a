//! What servers say has changed, on whatever stream: the lists come off the shelf, and whoever may read them is told.

use std::collections::HashMap;
use std::time::Duration;

use mcphub_domain::{ServerId, UserId};
use mcphub_upstream::Changed;
use mcphub_wire::list::ListKind;
use tokio::sync::broadcast::{Receiver, Sender};
use tokio::time::{Instant, sleep_until};

use crate::hub::Hub;

/// How often people are told that the same list has changed; however often its server says so, they have to ask again
/// but once.
pub(crate) const TOLD: Duration = Duration::from_secs(1);
/// How many changes may wait for who listens.
pub(crate) const WAITING: usize = 1_024;

/// Are the lists that people were told of lately.
type Quiet = HashMap<(ServerId, ListKind), Told>;

/// Says when people are told again, if the list changes once more meanwhile.
struct Told {
    until: Instant,
    again: bool,
    /// Whose connection it was said on.
    user: Option<UserId>,
}

/// Tells of lists that are off the shelf already.
pub(crate) struct Lists(Sender<(ServerId, ListKind)>);

impl Default for Lists {
    fn default() -> Self {
        Self(Sender::new(WAITING))
    }
}

impl Lists {
    fn tell(&self, list: (ServerId, ListKind)) {
        if self.0.send(list).is_err() {
            tracing::trace!("nobody listens to lists");
        }
    }
}

impl Hub {
    /// Tells of every list that its server says has changed: who asks for it then, gets it anew.
    pub fn list_changes(&self) -> Receiver<(ServerId, ListKind)> {
        self.lists.0.subscribe()
    }

    /// Takes lists off the shelf that servers say have changed, and tells people.
    pub(crate) async fn follow_lists(&self) {
        let mut quiet = Quiet::new();
        loop {
            let next = quiet.values().map(|told| told.until).min();
            let rested = async {
                match next {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = rested => self.tell_rested(&mut quiet),
                changes = self.upstreams.changes() => {
                    changes.into_iter().for_each(|changed| self.take_change(changed, &mut quiet));
                }
            }
        }
    }

    fn take_change(&self, Changed { server, kind, user }: Changed, quiet: &mut Quiet) {
        self.shelf.take_off(server, kind);
        if let Some(told) = quiet.get_mut(&(server, kind)) {
            told.again = true;
            return;
        }
        quiet.insert((server, kind), Told { until: Instant::now() + TOLD, again: false, user });
        self.lists.tell((server, kind));
    }

    /// Looks at servers whose tools have changed: what changes at once is seen at once. And tells of lists that have
    /// changed again since that was told.
    fn tell_rested(&self, quiet: &mut Quiet) {
        let now = Instant::now();
        quiet.retain(|(server, kind), told| {
            if told.until > now {
                return true;
            }
            if *kind == ListKind::Tools
                && let Some(entry) = self.snapshot.newest().server(*server)
            {
                self.look_as_told(told.user, entry.server());
            }
            if told.again {
                self.lists.tell((*server, *kind));
            }
            told.until = now + TOLD;
            std::mem::take(&mut told.again)
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::{ListKind, Lists, ServerId, WAITING};

    #[test]
    fn so_many_changes_wait_for_who_listens_and_then_she_is_told_that_some_are_lost() {
        let (lists, change) = (Lists::default(), (ServerId::from_bytes([1; 16]), ListKind::Prompts));
        for (told, lost) in [(WAITING, None), (WAITING + 1, Some(1))] {
            let mut changes = lists.0.subscribe();
            (0..told).for_each(|_| lists.tell(change));
            if let Some(lost) = lost {
                assert_eq!(changes.try_recv(), Err(TryRecvError::Lagged(lost)));
            }
            assert!((0..WAITING).all(|_| changes.try_recv() == Ok(change)), "of {told}");
            assert_eq!(changes.try_recv(), Err(TryRecvError::Empty));
        }
    }
}
