//! The way to all servers: every call takes `call_tool`, and it takes a recorded permit.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use mcphub_domain::{Clock, Server, ServerId, Timestamp, Transport, UserId};
use mcphub_policy::{AskPermit, Recorded};
use mcphub_wire::Params;
use mcphub_wire::mirror::Mirrored;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bearer::Bearer;
use crate::breaker::BreakerState;
use crate::client::Client;
use crate::counters::{Counters, Counts, Drops, UpstreamState};
use crate::deadline::Deadline;
use crate::error::{Blame, Phase, UpstreamError};
use crate::http::{HttpConnection, Shared};
use crate::key::ConnectionKey;
use crate::outbound::{Outbound, SetupError};
use crate::outgoing::{Outgoing, Wanted};
use crate::pool::{Connection, Lease, Place, Pool, Replaces};
use crate::reply::Reply;
use crate::settings::Settings;
use crate::stdio::{Launch, StdioConnection};
use crate::target::Values;
use crate::trial::{Breakers, Trial};
use crate::watch::{Bus, Changed};

/// A first start may have to install the server's package, however short its calls are.
const SHORTEST_START: Duration = Duration::from_mins(1);
const REAP: Duration = Duration::from_secs(5);
/// How long everything may take to end that was closed: longer than a process and its tree ever need.
const LAST_WAIT: Duration = Duration::from_secs(20);

/// Says which connection to use, and what it is made with if it has to be.
pub struct Access {
    /// The connection, see [`crate::key()`].
    pub key: ConnectionKey,
    /// Whose values, and whose identity, it is made with.
    pub caller: Option<UserId>,
    /// What it is made with, if it has to be: until then nothing is unsealed.
    pub values: Unseal,
    /// Says whether the values and the definition are still those that hold. It is asked while no
    /// connection can be closed, so what [`Upstreams::close`] closes is never opened again with them.
    pub still: Still,
}

/// Unseals values, or says why that can't be done.
pub type Unseal = Box<dyn FnOnce() -> Result<Values, String> + Send>;

/// Says whether something still holds.
pub type Still = Box<dyn FnOnce() -> bool + Send>;

/// Is a call of a tool.
pub struct ToolCall {
    /// The server that the permit names.
    pub server: Arc<Server>,
    /// The way to it.
    pub access: Access,
    /// The parameters of the client's request. Their `name` is replaced by the permit's.
    pub params: Params,
    /// The arguments that headers repeat, if any.
    pub mirrored: Option<Arc<[Mirrored]>>,
    /// Whom the server may ask something in return.
    pub client: Client,
}

/// Is a question about a prompt, a resource or a completion.
pub struct Question {
    /// The server that the permit names.
    pub server: Arc<Server>,
    /// The way to it.
    pub access: Access,
    /// What is asked for.
    pub wanted: Wanted,
    /// The parameters of the client's request. What names the thing is replaced by `wanted`.
    pub params: Params,
    /// Whom the server may ask something in return.
    pub client: Client,
}

/// Holds the connections to all servers.
pub struct Upstreams {
    settings: Settings,
    clock: Clock,
    shared: Shared,
    pool: Arc<Pool>,
    breakers: Arc<Breakers>,
    counters: Counters,
    stopping: CancellationToken,
}

impl Upstreams {
    /// Opens nothing yet. Background work runs in the runtime that this is called in.
    pub fn new(settings: Settings, clock: Clock) -> Result<Arc<Self>, SetupError> {
        let counters = Counters::default();
        let shared = Shared {
            outbound: Arc::new(Outbound::new(&settings.extra_roots, settings.plain_http)?),
            ids: Arc::new(AtomicI64::new(1)),
            tracker: TaskTracker::new(),
            runtime: Handle::current(),
            max_response: settings.max_response,
            drops: counters.drops(),
            bus: Bus::default(),
        };
        let upstreams = Arc::new(Self {
            settings,
            shared,
            pool: Pool::new(clock.clone()),
            breakers: Breakers::new(clock.clone()),
            clock,
            counters,
            stopping: CancellationToken::new(),
        });
        upstreams.start_reaper();
        Ok(upstreams)
    }

    /// Shows what the wiring decided.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Calls the tool that the permit allows, once. It is no async function, which would hold its arguments twice; nothing is
    /// sent, nor any connection made, before it is polled.
    pub fn call_tool(
        self: &Arc<Self>,
        recorded: Recorded,
        call: ToolCall,
    ) -> impl Future<Output = Result<Reply, UpstreamError>> {
        let ToolCall { server, access, params, mirrored, client } = call;
        let bearer = Bearer::of_call(recorded.permit());
        let request = Outgoing::call(&recorded.permit().route().tool, params, client).mirroring(mirrored);
        async move {
            bearer.check(&server, &access)?;
            let trial = self.admit(&server, &access.key, bearer.person)?;
            let lease = self.lease(&server, access)?;
            send(&server, trial, lease, request).await
        }
    }

    /// Asks for what the permit allows to ask for, once.
    pub async fn ask(
        self: &Arc<Self>,
        recorded: Recorded<AskPermit>,
        question: Question,
    ) -> Result<Reply, UpstreamError> {
        let (permit, Question { server, access, wanted, params, client }) = (recorded.permit(), question);
        Bearer::of_ask(permit).check(&server, &access)?;
        let trial = self.admit(&server, &access.key, Some(permit.user()))?;
        let lease = self.lease(&server, access)?;
        send(&server, trial, lease, Outgoing::ask(&wanted, params, client)).await
    }

    /// Closes connections at once: their calls end with [`UpstreamError::Closed`], their processes
    /// are killed with everything that they started.
    pub fn close(&self, which: impl Fn(&ConnectionKey) -> bool) {
        self.pool.close(which);
    }

    /// Closes everything of a server that was changed or removed, and forgets that it failed.
    pub fn forget(&self, server: ServerId) {
        self.pool.close(|key| key.server == server);
        self.breakers.forget(server);
    }

    /// Takes no more calls, lets those that run end until `deadline` has passed, and closes everything.
    pub async fn drain(&self, deadline: Duration) {
        self.stopping.cancel();
        if timeout(deadline, self.pool.quiet()).await.is_err() {
            tracing::warn!("some calls did not end in time and are cut off");
        }
        self.close_all().await;
    }

    /// Takes no more calls, closes everything and waits until all processes are gone, or until it is
    /// clear that some never will be.
    pub async fn close_all(&self) {
        self.stopping.cancel();
        self.pool.close(|_| true);
        self.shared.tracker.close();
        if timeout(LAST_WAIT, self.shared.tracker.wait()).await.is_err() {
            tracing::error!(
                tasks = self.shared.tracker.len(),
                "connections to servers do not end; they are left"
            );
        }
    }

    /// Lists the connections that nobody used for the idle time.
    pub fn idle_keys(&self, now: Timestamp) -> Vec<ConnectionKey> {
        self.pool.idle_keys(&self.settings, now)
    }

    /// Shows how the servers are doing that have connections or failed lately.
    pub fn states(&self) -> Vec<UpstreamState> {
        let fresh =
            |server| UpstreamState { server, breaker: BreakerState::Closed, connections: 0, processes: 0 };
        let mut states: HashMap<ServerId, UpstreamState> = HashMap::new();
        for (key, is_process) in self.pool.list() {
            let state = states.entry(key.server).or_insert_with(|| fresh(key.server));
            state.connections += 1;
            state.processes += usize::from(is_process);
        }
        for (server, breaker) in self.breakers.states() {
            states.entry(server).or_insert_with(|| fresh(server)).breaker = breaker;
        }
        states.into_values().collect()
    }

    /// Waits until servers say that lists have changed; one listens.
    pub async fn changes(&self) -> Vec<Changed> {
        self.shared.bus.next().await
    }

    /// Shows the counters.
    pub fn counts(&self) -> Counts {
        self.counters.counts()
    }

    /// Counts what is lost on the way to clients, too.
    pub fn drops(&self) -> Drops {
        self.counters.drops()
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Is the only outgoing client.
    pub(crate) fn outbound(&self) -> &Outbound {
        &self.shared.outbound
    }

    pub(crate) fn admit(
        &self,
        server: &Server,
        key: &ConnectionKey,
        person: Option<UserId>,
    ) -> Result<Trial, UpstreamError> {
        if self.stopping.is_cancelled() {
            return Err(UpstreamError::Stopping);
        }
        self.breakers.admit(server, key, person)
    }

    /// Takes hold of the connection. One that has to be made is made apart from the caller, who may
    /// leave while a slow server starts.
    pub(crate) fn lease(
        self: &Arc<Self>,
        server: &Arc<Server>,
        access: Access,
    ) -> Result<Lease, UpstreamError> {
        let (upstreams, server) = (Arc::clone(self), Arc::clone(server));
        let Access { key, caller, values, still } = access;
        let place = Place { settings: &self.settings, server: &Arc::clone(&server), key, still };
        self.pool.lease(place, move |entry, replaces| {
            if replaces == Replaces::One && matches!(server.definition.transport, Transport::Stdio(_)) {
                upstreams.counters.count_restart();
            }
            let shared = upstreams.shared.clone();
            shared.spawn(async move {
                let pool = Arc::clone(&upstreams.pool);
                entry.own(upstreams.connect(&server, key, Secrets { caller, values })).await;
                pool.remove(&entry);
            });
        })
    }

    async fn connect(
        self: Arc<Self>,
        server: &Server,
        key: ConnectionKey,
        secrets: Secrets,
    ) -> Result<Connection, UpstreamError> {
        let blame = Blame(server.name.clone());
        let definition = &server.definition;
        let values = secrets.unseal(server)?;
        match &definition.transport {
            Transport::Http(target) => {
                let target = values.resolve_http(target).map_err(|error| blame.target(error))?;
                let networks = definition.networks.clone();
                HttpConnection::new(blame, self.shared.clone(), target, (networks, &key))
                    .map(Connection::Http)
            }
            Transport::Stdio(target) => {
                let target = values.resolve_stdio(target).map_err(|error| blame.target(error))?;
                let launch = Launch {
                    settings: &self.settings,
                    shared: &self.shared,
                    counters: &self.counters,
                    clock: &self.clock,
                    server,
                    key: &key,
                    target: &target,
                    values: &values,
                };
                let limit = definition.timeout().max(SHORTEST_START);
                match timeout(limit, StdioConnection::connect(launch)).await {
                    Ok(connected) => connected.map(|connection| Connection::Stdio(Arc::new(connection))),
                    Err(_) => Err(blame.timed_out(limit)),
                }
            }
        }
    }

    fn start_reaper(self: &Arc<Self>) {
        let (upstreams, stopping) = (Arc::downgrade(self), self.stopping.clone());
        let mut ticks = tokio::time::interval(REAP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.shared.spawn(async move {
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                let Some(upstreams) = upstreams.upgrade() else { return };
                let idle = upstreams.idle_keys(upstreams.clock.now());
                upstreams.pool.retire(&idle);
            }
        });
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.pool.close(|_| true);
    }
}

/// Are the values of a connection that isn't made yet.
struct Secrets {
    caller: Option<UserId>,
    values: Unseal,
}

impl Secrets {
    /// Unseals them. Another person's than those that were promised are never used.
    fn unseal(self, server: &Server) -> Result<Values, UpstreamError> {
        let server = || server.name.clone();
        let values =
            (self.values)().map_err(|reason| UpstreamError::StillSealed { server: server(), reason })?;
        match &values.caller {
            Some(caller) if self.caller != Some(caller.id) => {
                Err(UpstreamError::WrongPermit { server: server() })
            }
            _ => Ok(values),
        }
    }
}

/// Waits for the connection and sends, all within the server's deadline. It is no async function, which would hold its
/// arguments twice.
pub(crate) fn send(
    server: &Server,
    trial: Trial,
    lease: Lease,
    request: Outgoing,
) -> impl Future<Output = Result<Reply, UpstreamError>> + use<> {
    let deadline = Deadline::of(&request, server.definition.timeout());
    async move {
        let connected = connected(&lease, deadline).await;
        let sent = match connected {
            Ok(connection) => in_time(&lease, deadline, pin!(connection.send(&request)))
                .await
                .map_err(|error| (error, Phase::Asking)),
            Err(error) => Err((error, Phase::Connecting)),
        };
        match sent {
            Ok(sent) => Ok(Reply::new(sent, request, deadline, trial, lease)),
            Err((error, phase)) => {
                trial.end(Err((&error, phase)));
                Err(error)
            }
        }
    }
}

/// Waits for the connection.
pub(crate) async fn connected(lease: &Lease, deadline: Deadline) -> Result<Connection, UpstreamError> {
    in_time(lease, deadline, pin!(lease.connection())).await
}

/// Waits for a step of a call until its deadline, or until its connection is closed.
async fn in_time<T>(
    lease: &Lease,
    deadline: Deadline,
    step: Pin<&mut impl Future<Output = Result<T, UpstreamError>>>,
) -> Result<T, UpstreamError> {
    tokio::select! {
        biased;
        () = lease.closed() => Err(lease.blame().closed()),
        done = timeout_at(deadline.at(), step) => {
            done.unwrap_or_else(|_| Err(lease.blame().timed_out(deadline.span())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use mcphub_domain::{Clock, Timestamp};

    use super::{LAST_WAIT, Upstreams};
    use crate::settings::Settings;

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_what_never_ends_but_not_for_ever() {
        let nowhere = || "/nonexistent".into();
        let settings = Settings::new(nowhere(), BTreeMap::new(), nowhere(), nowhere());
        let clock = Clock::new(|| Timestamp::from_micros(0));
        let upstreams = Upstreams::new(settings, clock).unwrap();
        upstreams.shared.spawn(std::future::pending());
        let start = tokio::time::Instant::now();
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(hour, upstreams.close_all()).await.unwrap();
        assert!(start.elapsed() >= LAST_WAIT);
    }
}
