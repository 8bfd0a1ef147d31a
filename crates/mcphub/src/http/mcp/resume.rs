//! Streams of sessions that can be resumed: a client whose connection broke names the last event that it has
//! (`Last-Event-ID`), gets again what was sent since, and goes on. The call doesn't notice.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use mcphub_hub::{Hub, Session};
use mcphub_wire::Version;
use mcphub_wire::sse::{Event, KEEP_ALIVE, encode};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::Last;
use super::streaming::{Message, Messages, SILENCE, event_stream};

/// How long a stream without a connection can be resumed, and the end of one be asked for again.
const RESUMABLE: Duration = Duration::from_secs(60);
/// How often it is looked for those that nobody came back for.
const SWEEP: Duration = Duration::from_secs(10);
/// How many events of a stream can be had again.
const AGAIN: usize = 64;
/// How many bytes of them; the last one is kept however long it is.
const AGAIN_BYTES: usize = 1 << 20;
/// How many streams without a connection are kept.
const KEPT: usize = 1_024;
/// How many bytes of their events.
const KEPT_BYTES: usize = 64 << 20;
/// How long a new connection waits until the old one lets go of the stream.
const HANDOVER: Duration = Duration::from_secs(5);
/// How many milliseconds a client waits before it connects anew.
const RETRY: u64 = 1_000;

type Key = ([u8; 32], u64);

/// Remembers the streams that can be resumed.
#[derive(Clone)]
pub(super) struct Threads {
    /// Tells this process's streams from those of one before it.
    epoch: Arc<str>,
    next: Arc<AtomicU64>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    threads: HashMap<Key, Arc<Thread>>,
    /// Those without a connection, the longest so first.
    left: VecDeque<Left>,
    left_bytes: usize,
    /// Whether somebody looks after those.
    is_swept: bool,
}

/// Is a stream without a connection.
#[derive(Clone, Copy)]
struct Left {
    key: Key,
    /// The bytes of its events.
    bytes: usize,
    since: Instant,
}

/// Is one stream, whether or not somebody reads it.
struct Thread {
    key: Key,
    state: Arc<tokio::sync::Mutex<State>>,
    /// Asks who reads it to let go of it.
    handover: Mutex<CancellationToken>,
}

struct State {
    messages: Messages,
    sent: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// The number of the event that was sent last.
    last: u64,
    is_over: bool,
}

/// Reads a stream for one connection.
struct Follower {
    threads: Threads,
    thread: Arc<Thread>,
    /// Cancelled when another connection takes the stream over.
    handover: CancellationToken,
    hub: Arc<Hub>,
    /// There is none only when it ends.
    state: Option<OwnedMutexGuard<State>>,
    /// The number of the event that the client has.
    has: u64,
    /// Whether the stream begins with an event that has nothing but an id.
    primes: bool,
}

impl Threads {
    pub(super) fn new(epoch: &str) -> Self {
        let epoch = epoch.chars().take(8).collect::<String>().into();
        Self { epoch, next: Arc::new(AtomicU64::new(1)), known: Arc::default() }
    }

    /// Sends messages as a stream that can be resumed, beginning with the one that has come already.
    pub(super) fn begin(
        &self,
        hub: &Arc<Hub>,
        session: &Session,
        (messages, first): (Messages, Option<Bytes>),
    ) -> Response {
        let key = (session.id_hash, self.next.fetch_add(1, Ordering::Relaxed));
        let mut state = State { messages, sent: VecDeque::new(), bytes: 0, last: 0, is_over: false };
        if let Some(first) = first {
            state.note(first);
        }
        let state = Arc::new(tokio::sync::Mutex::new(state));
        let thread = Arc::new(Thread { key, state: Arc::clone(&state), handover: Mutex::default() });
        self.known.lock().threads.insert(key, Arc::clone(&thread));
        // Nobody else knows it yet.
        let state = state.try_lock_owned().ok();
        let primes = Version::parse(&session.version) >= Some(Version::V2025_11_25);
        let handover = thread.handover.lock().clone();
        self.follow(hub, (thread, handover), (state, 0, primes))
    }

    /// Goes on with a stream of a session behind the event that its client names; none if it isn't known any more.
    pub(super) async fn resume(&self, hub: &Arc<Hub>, session: &Session, last: &str) -> Option<Response> {
        let (thread, has) = self.read(last)?;
        let thread = self.known.lock().threads.get(&(session.id_hash, thread)).cloned()?;
        let handover = CancellationToken::new();
        std::mem::replace(&mut *thread.handover.lock(), handover.clone()).cancel();
        let state = timeout(HANDOVER, Arc::clone(&thread.state).lock_owned()).await.ok()?;
        self.known.lock().take_up(&thread.key);
        Some(self.follow(hub, (thread, handover), (Some(state), has, false)))
    }

    /// Forgets the streams of a session.
    pub(super) fn forget(&self, session: &[u8; 32]) {
        let mut known = self.known.lock();
        let gone: Vec<Key> = known.threads.keys().filter(|(owner, _)| owner == session).copied().collect();
        gone.iter().for_each(|key| known.remove(key));
    }

    fn follow(
        &self,
        hub: &Arc<Hub>,
        (thread, handover): (Arc<Thread>, CancellationToken),
        (state, has, primes): (Option<OwnedMutexGuard<State>>, u64, bool),
    ) -> Response {
        let (threads, hub) = (self.clone(), Arc::clone(hub));
        let follower = Follower { threads, thread, handover, hub, state, has, primes };
        event_stream(stream::unfold(Some(follower), |follower| async {
            let mut follower = follower?;
            let bytes = follower.next().await?;
            let goes_on = bytes.is_ok();
            Some((bytes, goes_on.then_some(follower)))
        }))
    }

    fn write(&self, thread: u64, number: u64) -> String {
        format!("{}-{thread}-{number}", self.epoch)
    }

    fn read(&self, id: &str) -> Option<(u64, u64)> {
        let (thread, number) = id.strip_prefix(&*self.epoch)?.strip_prefix('-')?.split_once('-')?;
        Some((thread.parse().ok()?, number.parse().ok()?))
    }
}

impl Known {
    /// Keeps a stream that lost its connection, and lets go of others if there are too many.
    fn leave(&mut self, key: Key, bytes: usize, since: Instant) {
        self.take_up(&key);
        self.left.push_back(Left { key, bytes, since });
        self.left_bytes += bytes;
        while self.left.len() > KEPT || self.left_bytes > KEPT_BYTES {
            let Some(oldest) = self.left.front().copied() else { break };
            self.remove(&oldest.key);
        }
    }

    /// Lets go of those that nobody came back for; says whether there are others.
    fn sweep(&mut self, now: Instant) -> bool {
        while let Some(oldest) = self.left.front().copied()
            && now.duration_since(oldest.since) >= RESUMABLE
        {
            self.remove(&oldest.key);
        }
        self.is_swept = !self.left.is_empty();
        self.is_swept
    }

    /// Notes that a stream has a connection again, or is gone.
    fn take_up(&mut self, key: &Key) {
        if let Some(at) = self.left.iter().position(|left| left.key == *key)
            && let Some(left) = self.left.remove(at)
        {
            self.left_bytes -= left.bytes;
        }
    }

    fn remove(&mut self, key: &Key) {
        self.take_up(key);
        self.threads.remove(key);
    }
}

impl State {
    /// Notes an event that is sent, so that it can be sent again.
    fn note(&mut self, data: Bytes) -> u64 {
        self.last += 1;
        self.bytes += data.len();
        self.sent.push_back((self.last, data));
        while self.sent.len() > 1 && (self.sent.len() > AGAIN || self.bytes > AGAIN_BYTES) {
            self.bytes -= self.sent.pop_front().map_or(0, |(_, data)| data.len());
        }
        self.last
    }

    /// Finds the next event that was sent behind this one.
    fn again(&self, has: u64) -> Option<(u64, Bytes)> {
        self.sent.iter().find(|(number, _)| *number > has).cloned()
    }
}

impl Follower {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let thread = self.thread.key.1;
        if std::mem::take(&mut self.primes) {
            let id = Some(self.threads.write(thread, 0));
            return Some(Ok(encode(&Event { id, retry: Some(RETRY), ..Event::default() })));
        }
        let state = self.state.as_mut()?;
        if let Some((number, data)) = state.again(self.has) {
            self.has = number;
            return Some(Ok(self.threads.event(thread, number, data)));
        }
        if state.is_over {
            return None;
        }
        let message = tokio::select! {
            biased;
            () = self.handover.cancelled() => return None,
            message = timeout(SILENCE, state.messages.next()) => message,
        };
        let data = match message {
            Err(_) => return Some(Ok(KEEP_ALIVE)),
            Ok(Err(error)) => {
                self.threads.known.lock().remove(&self.thread.key);
                return Some(Err(error));
            }
            Ok(Ok(None)) => {
                state.is_over = true;
                return None;
            }
            Ok(Ok(Some(Message::Event(data)))) => data,
            Ok(Ok(Some(Message::Last(Last { body, .. })))) => {
                state.is_over = true;
                body
            }
        };
        self.has = state.note(data.clone());
        Some(Ok(self.threads.event(thread, self.has, data)))
    }
}

impl Threads {
    fn event(&self, thread: u64, number: u64, data: Bytes) -> Bytes {
        let id = Some(self.write(thread, number));
        encode(&Event { event: Some("message".to_owned()), id, data, retry: None })
    }
}

impl Drop for Follower {
    /// Leaves the stream to who may come back for it, for a while.
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        let (known, key) = (Arc::clone(&self.threads.known), self.thread.key);
        {
            let mut known = known.lock();
            if !known.threads.contains_key(&key) {
                return;
            }
            known.leave(key, state.bytes, Instant::now());
            if std::mem::replace(&mut known.is_swept, true) {
                return;
            }
        }
        drop(state);
        let hub = Arc::clone(&self.hub);
        self.hub.spawn(async move {
            loop {
                tokio::select! {
                    () = hub.winding_down() => return,
                    () = sleep(SWEEP) => {}
                }
                if !known.lock().sweep(Instant::now()) {
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{AGAIN, AGAIN_BYTES, KEPT, KEPT_BYTES, Known, RESUMABLE, State, Threads};
    use crate::http::mcp::streaming::channel;

    fn state() -> State {
        let (_, messages) = channel(None);
        State { messages, sent: Default::default(), bytes: 0, last: 0, is_over: false }
    }

    #[test]
    fn an_id_names_its_stream_and_event_in_this_process_alone() {
        let threads = Threads::new("abcdefghijkl");
        let id = threads.write(7, 12);
        assert_eq!((id.as_str(), threads.read(&id)), ("abcdefgh-7-12", Some((7, 12))));
        for foreign in ["", "7-12", "abcdefgh-7", "abcdefgh-7-x", "bcdefghi-7-12", "abcdefgh7-12"] {
            assert_eq!(threads.read(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn so_many_events_can_be_had_again_and_no_more() {
        let mut state = state();
        for _ in 0..=AGAIN {
            state.note("x".into());
        }
        assert_eq!(state.again(0).map(|(number, _)| number), Some(2), "the first one is gone");
        assert_eq!(state.again(AGAIN as u64).map(|(number, _)| number), Some(AGAIN as u64 + 1));
        assert_eq!(state.again(AGAIN as u64 + 1), None);
        state.note(vec![b'x'; AGAIN_BYTES + 1].into());
        assert_eq!((state.sent.len(), state.bytes), (1, AGAIN_BYTES + 1), "the last one stays");
    }

    #[test]
    fn so_many_bytes_of_events_can_be_had_again_and_no_more() {
        let mut state = state();
        state.note(vec![b'x'; AGAIN_BYTES - 1].into());
        state.note("y".into());
        assert_eq!((state.sent.len(), state.bytes), (2, AGAIN_BYTES));
        state.note("z".into());
        assert_eq!((state.sent.len(), state.bytes), (2, 2), "the first one is gone");
    }

    #[test]
    fn so_many_streams_without_a_connection_are_kept_and_no_more() {
        let key = |number| ([1; 32], number);
        let mut known = Known::default();
        for number in 0..=KEPT as u64 {
            known.leave(key(number), 1, Instant::now());
        }
        let first = known.left.front().map(|left| left.key);
        assert_eq!((known.left.len(), known.left_bytes, first), (KEPT, KEPT, Some(key(1))));
        known.leave(key(9_999), KEPT_BYTES - 1, Instant::now());
        assert_eq!(known.left.len(), 2);
        known.take_up(&key(9_999));
        assert_eq!((known.left.len(), known.left_bytes), (1, 1));
        assert!(known.sweep(Instant::now()), "somebody may come back");
        assert!(!known.sweep(Instant::now() + RESUMABLE) && known.left_bytes == 0);
    }
}
