//! The breakers of all servers, and the calls that they let through.

use std::collections::HashMap;
use std::sync::Arc;

use mcphub_domain::{Clock, Server, ServerId, Transport, UserId};
use parking_lot::Mutex;

use crate::breaker::{Breaker, BreakerState, Ended};
use crate::error::{Fault, Phase, UpstreamError};
use crate::key::ConnectionKey;

/// Names what fails together: a server with all its connections; one person's process, which runs
/// with her values, so that its failures say nothing about others'; or one person's calls, so that
/// those of her slow tool delay nobody else's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Failing {
    Connection(ServerId, Option<UserId>),
    Calls(ServerId, UserId),
}

/// Holds the breakers of servers that failed lately.
pub(crate) struct Breakers {
    clock: Clock,
    breakers: Mutex<HashMap<Failing, Breaker>>,
}

/// Is a call that the breakers let through; it tells them how it ended.
pub(crate) struct Trial {
    connection: Share,
    calls: Option<Share>,
}

/// Is one breaker's part in a call. Dropping it says how the call ended; nothing was learnt unless
/// that was said before.
struct Share {
    breakers: Arc<Breakers>,
    failing: Failing,
    ended: Ended,
}

impl Failing {
    const fn server(self) -> ServerId {
        match self {
            Self::Connection(server, _) | Self::Calls(server, _) => server,
        }
    }
}

impl Breakers {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, breakers: Mutex::default() })
    }

    /// Lets a call through, which `person` makes, or the hub itself.
    pub(crate) fn admit(
        self: &Arc<Self>,
        server: &Server,
        key: &ConnectionKey,
        person: Option<UserId>,
    ) -> Result<Trial, UpstreamError> {
        let process_of = match server.definition.transport {
            Transport::Http(_) => None,
            Transport::Stdio(_) => key.scope.user(),
        };
        let connection = self.share(server, Failing::Connection(server.id, process_of))?;
        let calls = person.map(|person| self.share(server, Failing::Calls(server.id, person))).transpose()?;
        Ok(Trial { connection, calls })
    }

    fn share(self: &Arc<Self>, server: &Server, failing: Failing) -> Result<Share, UpstreamError> {
        if let Some(breaker) = self.breakers.lock().get_mut(&failing) {
            breaker
                .admit(self.clock.now())
                .map_err(|until| UpstreamError::Unavailable { server: server.name.clone(), until })?;
        }
        Ok(Share { breakers: Arc::clone(self), failing, ended: Ended::Abandoned })
    }

    /// Shows the worst state of each server that failed lately.
    pub(crate) fn states(&self) -> HashMap<ServerId, BreakerState> {
        let mut states = HashMap::new();
        for (failing, breaker) in self.breakers.lock().iter() {
            let worst = states.entry(failing.server()).or_insert(BreakerState::Closed);
            *worst = breaker.state().max(*worst);
        }
        states
    }

    /// Forgets a server whose definition changed: it may work now.
    pub(crate) fn forget(&self, server: ServerId) {
        self.breakers.lock().retain(|failing, _| failing.server() != server);
    }

    fn record(&self, failing: Failing, ended: Ended) {
        let mut breakers = self.breakers.lock();
        if ended != Ended::Failed && !breakers.contains_key(&failing) {
            return;
        }
        let breaker = breakers.entry(failing).or_default();
        breaker.record(ended, self.clock.now());
        if breaker.is_fresh() {
            breakers.remove(&failing);
        }
    }
}

impl Trial {
    /// Tells the breakers how the call ended; dropping it instead says that the caller went away.
    pub(crate) fn end(mut self, ended: Result<(), (&UpstreamError, Phase)>) {
        let (connection, calls) = match ended {
            Ok(()) => (Ended::Answered, Ended::Answered),
            Err((error, phase)) => match error.fault(phase) {
                Fault::None => (Ended::Abandoned, Ended::Abandoned),
                Fault::Refusal => (Ended::Answered, Ended::Answered),
                Fault::Call => (Ended::Abandoned, Ended::Failed),
                Fault::Server => (Ended::Failed, Ended::Abandoned),
            },
        };
        self.connection.ended = connection;
        if let Some(share) = &mut self.calls {
            share.ended = calls;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.breakers.record(self.failing, self.ended);
    }
}
