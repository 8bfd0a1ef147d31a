//! The breakers of all servers, and the calls that they let through.

use std::collections::HashMap;
use std::sync::Arc;

use mcphub_domain::{Clock, Server, ServerId, Transport, UserId};
use parking_lot::Mutex;

use crate::breaker::{Breaker, BreakerState, Ended};
use crate::error::UpstreamError;
use crate::key::ConnectionKey;

/// Names what fails together: an HTTP server, or one person's process (it runs with her values, so
/// that its failures say nothing about others').
type Failing = (ServerId, Option<UserId>);

/// Holds the breakers of servers that failed lately.
pub(crate) struct Breakers {
    clock: Clock,
    breakers: Mutex<HashMap<Failing, Breaker>>,
}

/// Is a call that a breaker let through; it tells the breaker how it ended.
pub(crate) struct Trial {
    breakers: Arc<Breakers>,
    failing: Failing,
    ended: Ended,
}

impl Breakers {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, breakers: Mutex::default() })
    }

    pub(crate) fn admit(
        self: &Arc<Self>,
        server: &Server,
        key: &ConnectionKey,
    ) -> Result<Trial, UpstreamError> {
        let user = match server.definition.transport {
            Transport::Http(_) => None,
            Transport::Stdio(_) => key.scope.user(),
        };
        let failing = (server.id, user);
        if let Some(breaker) = self.breakers.lock().get_mut(&failing) {
            breaker
                .admit(self.clock.now())
                .map_err(|until| UpstreamError::Unavailable { server: server.name.clone(), until })?;
        }
        Ok(Trial { breakers: Arc::clone(self), failing, ended: Ended::Abandoned })
    }

    /// Shows the worst state of each server that failed lately.
    pub(crate) fn states(&self) -> HashMap<ServerId, BreakerState> {
        let mut states = HashMap::new();
        for ((server, _), breaker) in self.breakers.lock().iter() {
            let worst = states.entry(*server).or_insert(BreakerState::Closed);
            *worst = breaker.state().max(*worst);
        }
        states
    }

    /// Forgets a server whose definition changed: it may work now.
    pub(crate) fn forget(&self, server: ServerId) {
        self.breakers.lock().retain(|(failing, _), _| *failing != server);
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
    /// Tells the breaker how the call ended; dropping it instead says that the caller went away.
    pub(crate) fn end(mut self, error: Option<&UpstreamError>) {
        self.ended = match error {
            None | Some(UpstreamError::Unauthorized { .. } | UpstreamError::Redirected { .. }) => {
                Ended::Answered
            }
            Some(error) if error.is_failure() => Ended::Failed,
            Some(_) => Ended::Abandoned,
        };
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.breakers.record(self.failing, self.ended);
    }
}
