//! What is open at the moment: streams of legacy sessions, and their running calls, which a
//! `notifications/cancelled` or the end of the session has to find.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use mcphub_hub::{Drops, RESOURCES};
use mcphub_wire::{Id, Outcome, Response};
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_util::sync::CancellationToken;

use super::resume::Threads;

/// Remembers what is open, by session.
#[derive(Clone)]
pub(in crate::http) struct Live {
    sessions: Arc<Mutex<HashMap<[u8; 32], Open>>>,
    /// The id of the next request to a client.
    next: Arc<AtomicI64>,
    /// The streams of calls that can be resumed.
    pub(super) threads: Threads,
}

#[derive(Default)]
struct Open {
    /// Cancelled when the session is ended by its client.
    ended: CancellationToken,
    calls: HashMap<Id, CancellationToken>,
    /// The resources that the session hears of; cancelled when it no longer wants to.
    subscriptions: HashMap<String, CancellationToken>,
    news: News,
    streams: usize,
    /// What waits for an answer of the client, by the id of the hub's request.
    questions: HashMap<i64, Take>,
    users: usize,
}

/// Is where a session's news waits for whichever of its streams takes it.
#[derive(Clone)]
struct News {
    sender: mpsc::Sender<Bytes>,
    receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Bytes>>>,
}

impl Default for News {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: Arc::new(tokio::sync::Mutex::new(receiver)) }
    }
}

/// Keeps a session subscribed to a resource.
pub(super) struct Subscription {
    entry: Entry,
    uri: String,
    cut: CancellationToken,
    sender: mpsc::Sender<Bytes>,
}

/// How much news waits for a session; what comes then is lost.
const WAITING: usize = 64;

/// Takes a client's answer.
type Take = Box<dyn FnOnce(Outcome) + Send>;

/// Keeps a session remembered, and a running call with it.
pub(super) struct Entry {
    live: Live,
    session: [u8; 32],
    call: Option<Id>,
    token: CancellationToken,
    /// What a stream tells.
    news: Option<News>,
    /// The requests to the client that belong to the call.
    asked: Mutex<Vec<i64>>,
}

impl Live {
    /// Begins with nothing; `epoch` tells this process from one before it.
    pub(in crate::http) fn new(epoch: &str) -> Self {
        Self { sessions: Arc::default(), next: Arc::default(), threads: Threads::new(epoch) }
    }

    /// Counts the sessions with a stream, a subscription or a running call.
    pub(in crate::http) fn count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Notes a stream of a session.
    pub(super) fn stream(&self, session: [u8; 32]) -> Entry {
        let mut sessions = self.sessions.lock();
        let open = sessions.entry(session).or_default();
        open.streams += 1;
        let news = Some(open.news.clone());
        open.hold(self, session, news)
    }

    /// Notes that a session wants to hear of a resource, unless it wants to hear of too many.
    pub(super) fn subscribe(&self, session: [u8; 32], uri: &str) -> Option<Subscription> {
        let mut sessions = self.sessions.lock();
        let open = sessions.entry(session).or_default();
        if open.subscriptions.len() >= RESOURCES && !open.subscriptions.contains_key(uri) {
            return None;
        }
        let cut = CancellationToken::new();
        if let Some(before) = open.subscriptions.insert(uri.to_owned(), cut.clone()) {
            before.cancel();
        }
        let sender = open.news.sender.clone();
        Some(Subscription { entry: open.hold(self, session, None), uri: uri.to_owned(), cut, sender })
    }

    /// Notes that a session doesn't want to hear of a resource any more.
    pub(super) fn unsubscribe(&self, session: &[u8; 32], uri: &str) {
        let mut sessions = self.sessions.lock();
        if let Some(cut) = sessions.get_mut(session).and_then(|open| open.subscriptions.remove(uri)) {
            cut.cancel();
        }
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
        let (live, call) = (self.clone(), Some(id.clone()));
        Some(Entry { live, session, call, token, news: None, asked: Mutex::default() })
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
        self.threads.forget(session);
    }
}

impl Open {
    fn hold(&mut self, live: &Live, session: [u8; 32], news: Option<News>) -> Entry {
        self.users += 1;
        let token = self.ended.clone();
        Entry { live: live.clone(), session, call: None, token, news, asked: Mutex::default() }
    }
}

impl Subscription {
    /// Waits until the session doesn't want to hear of it any more.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.cut.cancelled() => {}
            () = self.entry.cancelled() => {}
        }
    }

    /// Gives a notification to one of the session's streams; if they read too slowly, it is lost, and counted.
    pub(super) fn tell(&self, notification: Bytes, drops: &Drops) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(notification) {
            drops.count(1);
        }
    }

    /// Says whether the session has a stream.
    pub(super) fn is_heard(&self) -> bool {
        self.entry.live.sessions.lock().get(&self.entry.session).is_some_and(|open| open.streams > 0)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cut.cancel();
        if let Some(open) = self.entry.live.sessions.lock().get_mut(&self.entry.session) {
            open.subscriptions.retain(|uri, cut| *uri != self.uri || !cut.is_cancelled());
        }
    }
}

impl Entry {
    /// Waits for what the session wants to hear, of which each stream takes another part.
    pub(super) async fn news(&self) -> Bytes {
        match &self.news {
            Some(news) => match news.receiver.lock().await.recv().await {
                Some(bytes) => bytes,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

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
        open.streams -= usize::from(self.news.is_some());
        if open.users == 0 {
            sessions.remove(&self.session);
        }
        drop(sessions);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::{Drops, Id, Live, RESOURCES, WAITING};

    #[test]
    fn so_much_news_waits_for_a_session_and_the_rest_is_lost() {
        let live = Live::new("test");
        let stream = live.stream([1; 32]);
        let subscription = live.subscribe([1; 32], "notes://a").unwrap();
        let drops = Drops::default();
        for number in 0..=WAITING {
            subscription.tell(number.to_string().into(), &drops);
        }
        for number in 0..WAITING {
            assert_eq!(stream.news().now_or_never(), Some(number.to_string().into()));
        }
        assert_eq!(stream.news().now_or_never(), None, "the last one is lost");
        subscription.tell("more".into(), &drops);
        assert_eq!(stream.news().now_or_never(), Some("more".into()), "there is room again");
    }

    #[test]
    fn a_session_subscribes_to_so_many_resources_and_no_more() {
        let live = Live::new("test");
        let uri = |number: usize| format!("notes://{number}");
        let subscribe = |session, number| live.subscribe([session; 32], &uri(number));
        let mut kept: Vec<_> = (0..RESOURCES).map(|number| subscribe(1, number).unwrap()).collect();
        assert!(subscribe(1, RESOURCES).is_none());
        assert!(subscribe(2, RESOURCES).is_some(), "another session has its own");
        kept.push(subscribe(1, 0).unwrap());
        assert!(subscribe(1, RESOURCES).is_none(), "the same again takes no place, and gives none");
        live.unsubscribe(&[1; 32], &uri(0));
        kept.push(subscribe(1, RESOURCES).unwrap());
        assert!(subscribe(1, 0).is_none());
    }

    #[test]
    fn a_session_is_forgotten_with_its_last_use() {
        let live = Live::new("test");
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
