//! What is open at the moment: streams of legacy sessions, and their running calls, which a
//! `notifications/cancelled` or the end of the session has to find.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use mcphub_wire::{Id, Outcome, Response};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Remembers what is open, by session.
#[derive(Clone, Default)]
pub(in crate::http) struct Live {
    sessions: Arc<Mutex<HashMap<[u8; 32], Open>>>,
    /// The id of the next request to a client.
    next: Arc<AtomicI64>,
}

#[derive(Default)]
struct Open {
    /// Cancelled when the session is ended by its client.
    ended: CancellationToken,
    calls: HashMap<Id, CancellationToken>,
    /// What waits for an answer of the client, by the id of the hub's request.
    questions: HashMap<i64, Take>,
    users: usize,
}

/// Takes a client's answer.
type Take = Box<dyn FnOnce(Outcome) + Send>;

/// Keeps a session remembered, and a running call with it.
pub(super) struct Entry {
    live: Live,
    session: [u8; 32],
    call: Option<Id>,
    token: CancellationToken,
    /// The requests to the client that belong to the call.
    asked: Mutex<Vec<i64>>,
}

impl Live {
    /// Notes a stream of a session.
    pub(super) fn stream(&self, session: [u8; 32]) -> Entry {
        let mut sessions = self.sessions.lock();
        let open = sessions.entry(session).or_default();
        open.users += 1;
        Entry { live: self.clone(), session, call: None, token: open.ended.clone(), asked: Mutex::default() }
    }

    /// Notes a running call of a session. An id that is already running is none: ids are unique in a
    /// session.
    pub(super) fn call(&self, session: [u8; 32], id: &Id) -> Option<Entry> {
        let mut sessions = self.sessions.lock();
        let open = sessions.entry(session).or_default();
        if open.calls.contains_key(id) {
            return None;
        }
        let token = open.ended.child_token();
        open.calls.insert(id.clone(), token.clone());
        open.users += 1;
        Some(Entry { live: self.clone(), session, call: Some(id.clone()), token, asked: Mutex::default() })
    }

    /// Cancels a running call of a session.
    pub(super) fn cancel(&self, session: &[u8; 32], id: &Id) {
        if let Some(call) = self.sessions.lock().get(session).and_then(|open| open.calls.get(id)) {
            call.cancel();
        }
    }

    /// Hands a client's answer to whom it concerns; an answer to nothing is none.
    pub(super) fn answer(&self, session: &[u8; 32], response: Response) {
        let Some(Id::Integer(id)) = response.id else { return };
        let take = self.sessions.lock().get_mut(session).and_then(|open| open.questions.remove(&id));
        if let Some(take) = take {
            take(response.outcome);
        }
    }

    /// Ends everything of a session.
    pub(super) fn end(&self, session: &[u8; 32]) {
        if let Some(open) = self.sessions.lock().get(session) {
            open.ended.cancel();
        }
    }
}

impl Entry {
    /// Notes a request to the client, and names it.
    pub(super) fn ask(&self, take: Take) -> Id {
        let id = self.live.next.fetch_add(1, Ordering::Relaxed);
        if let Some(open) = self.live.sessions.lock().get_mut(&self.session) {
            open.questions.insert(id, take);
        }
        self.asked.lock().push(id);
        Id::Integer(id)
    }

    /// Waits until the call is cancelled or the session ended.
    pub(super) async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut sessions = self.live.sessions.lock();
        let Some(open) = sessions.get_mut(&self.session) else { return };
        if let Some(id) = &self.call {
            open.calls.remove(id);
        }
        // What is left unasked is dropped when nothing is locked any more.
        let left: Vec<Take> =
            self.asked.get_mut().drain(..).filter_map(|id| open.questions.remove(&id)).collect();
        open.users -= 1;
        if open.users == 0 {
            sessions.remove(&self.session);
        }
        drop(sessions);
        drop(left);
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
        assert!(live.sessions.lock().is_empty());
    }
}
