//! What is open at the moment: streams of legacy sessions, and their running calls, which a
//! `notifications/cancelled` or the end of the session has to find.

use std::collections::HashMap;
use std::sync::Arc;

use mcphub_wire::Id;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Remembers what is open, by session.
#[derive(Clone, Default)]
pub(in crate::http) struct Live(Arc<Mutex<HashMap<[u8; 32], Open>>>);

#[derive(Default)]
struct Open {
    /// Cancelled when the session is ended by its client.
    ended: CancellationToken,
    calls: HashMap<Id, CancellationToken>,
    users: usize,
}

/// Keeps a session remembered, and a running call with it.
pub(super) struct Entry {
    live: Live,
    session: [u8; 32],
    call: Option<Id>,
    token: CancellationToken,
}

impl Live {
    /// Notes a stream of a session.
    pub(super) fn stream(&self, session: [u8; 32]) -> Entry {
        let mut sessions = self.0.lock();
        let open = sessions.entry(session).or_default();
        open.users += 1;
        Entry { live: self.clone(), session, call: None, token: open.ended.clone() }
    }

    /// Notes a running call of a session. An id that is already running is none: ids are unique in a
    /// session.
    pub(super) fn call(&self, session: [u8; 32], id: &Id) -> Option<Entry> {
        let mut sessions = self.0.lock();
        let open = sessions.entry(session).or_default();
        if open.calls.contains_key(id) {
            return None;
        }
        let token = open.ended.child_token();
        open.calls.insert(id.clone(), token.clone());
        open.users += 1;
        Some(Entry { live: self.clone(), session, call: Some(id.clone()), token })
    }

    /// Cancels a running call of a session.
    pub(super) fn cancel(&self, session: &[u8; 32], id: &Id) {
        if let Some(call) = self.0.lock().get(session).and_then(|open| open.calls.get(id)) {
            call.cancel();
        }
    }

    /// Ends everything of a session.
    pub(super) fn end(&self, session: &[u8; 32]) {
        if let Some(open) = self.0.lock().get(session) {
            open.ended.cancel();
        }
    }
}

impl Entry {
    /// Waits until the call is cancelled or the session ended.
    pub(super) async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut sessions = self.live.0.lock();
        let Some(open) = sessions.get_mut(&self.session) else { return };
        if let Some(id) = &self.call {
            open.calls.remove(id);
        }
        open.users -= 1;
        if open.users == 0 {
            sessions.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Id, Live};

    #[test]
    fn a_session_is_forgotten_with_its_last_use() {
        let live = Live::default();
        let stream = live.stream([1; 32]);
        let call = live.call([1; 32], &Id::Integer(1)).unwrap();
        assert!(live.call([1; 32], &Id::Integer(1)).is_none(), "the id is in use");
        live.cancel(&[1; 32], &Id::Integer(1));
        assert!(call.token.is_cancelled() && !stream.token.is_cancelled());
        drop(call);
        live.end(&[1; 32]);
        assert!(stream.token.is_cancelled());
        drop(stream);
        assert!(live.0.lock().is_empty());
    }
}
