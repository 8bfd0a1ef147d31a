//! The open connections, by key: who gets which, how many there may be, and when one ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use mcphub_domain::{Clock, Server, Timestamp, Transport};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::error::{Blame, UpstreamError};
use crate::http::{HttpConnection, Shared};
use crate::key::ConnectionKey;
use crate::outgoing::Outgoing;
use crate::reply::Sent;
use crate::settings::Settings;
use crate::stdio::StdioConnection;
use crate::upstreams::Still;
use crate::watch::Feed;

type Entries = HashMap<ConnectionKey, Arc<Entry>>;

/// Holds the open connections.
pub(crate) struct Pool {
    entries: Mutex<Entries>,
    clock: Clock,
    /// Tells a drain that a call ended.
    ended: Arc<Notify>,
}

/// Is a place for one connection: being made, in use, or failed.
pub(crate) struct Entry {
    pub(crate) key: ConnectionKey,
    pub(crate) blame: Blame,
    is_process: bool,
    state: watch::Sender<State>,
    /// Its calls end and its process is killed.
    closed: CancellationToken,
    /// It has no calls and takes its time to end.
    retired: CancellationToken,
    in_flight: AtomicUsize,
    last_used: AtomicI64,
}

enum State {
    Connecting,
    Ready(Connection),
    Failed(UpstreamError),
}

/// Is an open connection.
#[derive(Clone)]
pub(crate) enum Connection {
    Http(Arc<HttpConnection>),
    Stdio(Arc<StdioConnection>),
}

/// Is one call's hold on a connection, which isn't idle meanwhile.
pub(crate) struct Lease {
    entry: Arc<Entry>,
    /// The entry's, but this call's own to ask: calls on all cores share the entry.
    closed: CancellationToken,
    clock: Clock,
    ended: Arc<Notify>,
}

/// Says where a connection is to stand, and until when it may be made.
pub(crate) struct Place<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) server: &'a Server,
    pub(crate) key: ConnectionKey,
    pub(crate) still: Still,
}

impl Pool {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), clock, ended: Arc::new(Notify::new()) })
    }

    /// Takes hold of the key's connection. If there is none, a place is made and `connect` is to fill it.
    ///
    /// Whether a place may be made is asked under the lock that closing takes: what was changed before
    /// is refused here, and what is changed after finds the place and closes it.
    pub(crate) fn lease(
        &self,
        place: Place<'_>,
        connect: impl FnOnce(Arc<Entry>, Replaces),
    ) -> Result<Lease, UpstreamError> {
        let Place { settings, server, key, still } = place;
        let mut entries = self.entries.lock();
        let before = entries.get(&key);
        if let Some(entry) = before.filter(|entry| entry.is_usable()) {
            return Ok(self.hold(entry));
        }
        if !still() {
            return Err(UpstreamError::Closed { server: server.name.clone() });
        }
        let replaces = if before.is_some() { Replaces::One } else { Replaces::None };
        let is_process = matches!(server.definition.transport, Transport::Stdio(_));
        if is_process {
            make_room(&mut entries, settings, server, &key)?;
        }
        let entry = Arc::new(Entry::new(key, Blame(server.name.clone()), is_process));
        entries.insert(key, Arc::clone(&entry));
        let lease = self.hold(&entry);
        drop(entries);
        connect(entry, replaces);
        Ok(lease)
    }

    /// Closes connections at once; their calls end.
    pub(crate) fn close(&self, which: impl Fn(&ConnectionKey) -> bool) {
        self.entries.lock().retain(|key, entry| {
            let closes = which(key);
            if closes {
                entry.closed.cancel();
            }
            !closes
        });
    }

    /// Notes with sessions that their client's folders have changed; one that is being opened asks for them anyway.
    pub(crate) fn roots_changed(&self, which: impl Fn(&ConnectionKey) -> bool, client: [u8; 32]) {
        let entries = self.entries.lock();
        for entry in entries.values().filter(|entry| which(&entry.key)) {
            if let State::Ready(connection) = &*entry.state.borrow() {
                connection.roots_changed(client);
            }
        }
    }

    /// Lists the connections that nobody used for the idle time.
    pub(crate) fn idle_keys(&self, settings: &Settings, now: Timestamp) -> Vec<ConnectionKey> {
        let entries = self.entries.lock();
        let idle = |entry: &&Arc<Entry>| entry.is_idle() && now.since(entry.last_used()) >= settings.idle;
        entries.values().filter(idle).map(|entry| entry.key).collect()
    }

    /// Lets connections end that are still idle.
    pub(crate) fn retire(&self, keys: &[ConnectionKey]) {
        let mut entries = self.entries.lock();
        for key in keys {
            if entries.get(key).is_some_and(|entry| entry.is_idle())
                && let Some(entry) = entries.remove(key)
            {
                entry.retired.cancel();
            }
        }
    }

    /// Takes out an entry whose connection ended, unless another took its place.
    pub(crate) fn remove(&self, entry: &Arc<Entry>) {
        let mut entries = self.entries.lock();
        if entries.get(&entry.key).is_some_and(|found| Arc::ptr_eq(found, entry)) {
            entries.remove(&entry.key);
        }
    }

    /// Waits until no call is in flight.
    pub(crate) async fn quiet(&self) {
        loop {
            let ended = self.ended.notified();
            if self.entries.lock().values().all(|entry| entry.is_idle()) {
                return;
            }
            ended.await;
        }
    }

    /// Lists all connections, and whether each is a process.
    pub(crate) fn list(&self) -> Vec<(ConnectionKey, bool)> {
        self.entries.lock().values().map(|entry| (entry.key, entry.is_process)).collect()
    }

    fn hold(&self, entry: &Arc<Entry>) -> Lease {
        Lease::of(Arc::clone(entry), self.clock.clone(), Arc::clone(&self.ended))
    }
}

/// Says whether a new connection takes the place of one that ended by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaces {
    One,
    None,
}

/// Keeps both limits. The idle process that was unused for longest makes room; if none is idle, there
/// is no room.
fn make_room(
    entries: &mut Entries,
    settings: &Settings,
    server: &Server,
    key: &ConnectionKey,
) -> Result<(), UpstreamError> {
    let user = key.scope.user();
    let of_person = |entry: &Entry| user.is_some() && entry.key.scope.user() == user;
    free(entries, settings.processes_per_person, of_person)
        .map_err(|limit| too_many(server, limit, "per person"))?;
    free(entries, settings.processes, |_| true).map_err(|limit| too_many(server, limit, "in all"))
}

fn too_many(server: &Server, limit: usize, whose: &'static str) -> UpstreamError {
    UpstreamError::TooManyProcesses { server: server.name.clone(), limit, whose }
}

fn free(entries: &mut Entries, limit: usize, counts: impl Fn(&Entry) -> bool) -> Result<(), usize> {
    let counted = || entries.values().filter(|entry| entry.is_process && entry.is_usable() && counts(entry));
    if counted().count() < limit {
        return Ok(());
    }
    let oldest = counted().filter(|entry| entry.is_idle()).min_by_key(|entry| entry.last_used());
    let key = oldest.ok_or(limit)?.key;
    if let Some(entry) = entries.remove(&key) {
        entry.retired.cancel();
    }
    Ok(())
}

impl Entry {
    fn new(key: ConnectionKey, blame: Blame, is_process: bool) -> Self {
        Self {
            key,
            blame,
            is_process,
            state: watch::Sender::new(State::Connecting),
            closed: CancellationToken::new(),
            retired: CancellationToken::new(),
            in_flight: AtomicUsize::new(0),
            last_used: AtomicI64::new(0),
        }
    }

    /// Fills the place and stays with the connection until it ends.
    pub(crate) async fn own(&self, connect: impl Future<Output = Result<Connection, UpstreamError>>) {
        let connected = tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(self.blame.closed()),
            () = self.retired.cancelled() => Err(self.blame.closed()),
            connected = connect => connected,
        };
        match connected {
            Ok(connection) => {
                self.state.send_replace(State::Ready(connection.clone()));
                self.accompany(connection).await;
            }
            Err(error) => {
                self.state.send_replace(State::Failed(error));
            }
        }
    }

    async fn accompany(&self, connection: Connection) {
        match connection {
            Connection::Http(connection) => {
                tokio::select! {
                    () = self.closed.cancelled() => {}
                    () = self.retired.cancelled() => {}
                }
                connection.end().await;
            }
            Connection::Stdio(connection) => {
                tokio::select! {
                    () = self.closed.cancelled() => connection.end_at_once(),
                    () = self.retired.cancelled() => connection.end_gently(),
                    () = connection.gone() => {}
                }
            }
        }
    }

    fn is_usable(&self) -> bool {
        let works = match &*self.state.borrow() {
            State::Connecting | State::Ready(Connection::Http(_)) => true,
            State::Ready(Connection::Stdio(connection)) => !connection.is_gone(),
            State::Failed(_) => false,
        };
        works && !self.closed.is_cancelled() && !self.retired.is_cancelled()
    }

    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
    }

    fn last_used(&self) -> Timestamp {
        Timestamp::from_micros(self.last_used.load(Ordering::Acquire))
    }
}

impl Connection {
    pub(crate) async fn send(&self, request: &Outgoing) -> Result<Sent, UpstreamError> {
        match self {
            Self::Http(connection) => connection.send(request).await,
            Self::Stdio(connection) => connection.send(request).await,
        }
    }

    /// Returns where the news of a session goes; a modern server keeps none.
    pub(crate) async fn feed(&self) -> Result<Option<Arc<Feed>>, UpstreamError> {
        match self {
            Self::Http(connection) => connection.feed().await,
            Self::Stdio(connection) => Ok(connection.feed()),
        }
    }

    /// Opens the stream on which a session's news comes, unless it is open or comes by itself.
    pub(crate) fn hear(&self) {
        if let Self::Http(connection) = self {
            connection.hear();
        }
    }

    fn roots_changed(&self, client: [u8; 32]) {
        match self {
            Self::Http(connection) => connection.roots.have_changed(client),
            Self::Stdio(connection) => connection.roots.have_changed(client),
        }
    }

    /// Returns what runs tasks that a drain waits for.
    pub(crate) fn shared(&self) -> Shared {
        match self {
            Self::Http(connection) => connection.shared.clone(),
            Self::Stdio(connection) => connection.shared(),
        }
    }
}

impl Lease {
    fn of(entry: Arc<Entry>, clock: Clock, ended: Arc<Notify>) -> Self {
        entry.in_flight.fetch_add(1, Ordering::AcqRel);
        let closed = entry.closed.child_token();
        Self { entry, closed, clock, ended }
    }

    /// Takes hold of the same connection once more.
    pub(crate) fn again(&self) -> Self {
        Self::of(Arc::clone(&self.entry), self.clock.clone(), Arc::clone(&self.ended))
    }

    /// Waits until the connection is made and the server has said what it speaks.
    pub(crate) async fn connection(&self) -> Result<Connection, UpstreamError> {
        let mut state = self.entry.state.subscribe();
        let connection = match state.wait_for(|state| !matches!(state, State::Connecting)).await.as_deref() {
            Ok(State::Ready(connection)) => connection.clone(),
            Ok(State::Failed(error)) => return Err(error.clone()),
            Ok(State::Connecting) | Err(_) => return Err(self.entry.blame.closed()),
        };
        if let Connection::Http(connection) = &connection {
            connection.settle().await?;
        }
        Ok(connection)
    }

    /// Lets the connection count as used for so long from now on.
    pub(crate) fn keep(&self, time: Duration) {
        self.entry.last_used.fetch_max(self.clock.now().plus(time).as_micros(), Ordering::AcqRel);
    }

    /// Waits until the connection is closed under its calls.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(crate) fn key(&self) -> ConnectionKey {
        self.entry.key
    }

    pub(crate) fn blame(&self) -> Blame {
        self.entry.blame.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.entry.last_used.fetch_max(self.clock.now().as_micros(), Ordering::AcqRel);
        self.entry.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.ended.notify_waiters();
    }
}
