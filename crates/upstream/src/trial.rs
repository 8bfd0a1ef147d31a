//! The breakers of all servers, and the calls that they let through.

use std::collections::HashMap;
use std::sync::Arc;

use mcphub_domain::{Clock, Server, ServerId, Timestamp, Transport, UserId};
use parking_lot::Mutex;

use crate::breaker::{Breaker, BreakerState, Ended};
use crate::error::UpstreamError;
use crate::key::ConnectionKey;

/// Names what fails together: an HTTP server, or a server as one person sees it (her process runs with
/// her values, and her slow calls say nothing about others').
type Failing = (ServerId, Option<UserId>);

/// Holds the breakers of servers that failed lately.
pub(crate) struct Breakers {
    clock: Clock,
    breakers: Mutex<HashMap<Failing, Breaker>>,
}

/// Is a call that a breaker let through; it tells the breaker how it ended.
pub(crate) struct Trial {
    breakers: Arc<Breakers>,
    /// What fails for everybody who shares it.
    whole: Failing,
    /// What fails for one person alone, where that is something else.
    own: Option<Failing>,
    ended: Ended,
    /// What the end is the fault of.
    blamed: Blamed,
}

/// Says whom a failure concerns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blamed {
    Both,
    Whole,
    Own,
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
        let (whole, own) = match (&server.definition.transport, key.scope.user()) {
            (Transport::Http(_), Some(user)) => ((server.id, None), Some((server.id, Some(user)))),
            (Transport::Http(_), None) => ((server.id, None), None),
            (Transport::Stdio(_), user) => ((server.id, user), None),
        };
        let unavailable = |until| UpstreamError::Unavailable { server: server.name.clone(), until };
        self.pass(whole).map_err(unavailable)?;
        let mut trial = Trial {
            breakers: Arc::clone(self),
            whole,
            own: None,
            ended: Ended::Abandoned,
            blamed: Blamed::Both,
        };
        if let Some(own) = own {
            self.pass(own).map_err(unavailable)?;
            trial.own = Some(own);
        }
        Ok(trial)
    }

    fn pass(&self, failing: Failing) -> Result<(), Timestamp> {
        match self.breakers.lock().get_mut(&failing) {
            Some(breaker) => breaker.admit(self.clock.now()),
            None => Ok(()),
        }
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
    ///
    /// A server that can't be reached, or answers nonsense, does so for everybody. One that is slow may
    /// be so with this person's question alone.
    pub(crate) fn end(mut self, error: Option<&UpstreamError>) {
        self.blamed = match error {
            Some(UpstreamError::TimedOut { .. }) if self.own.is_some() => Blamed::Own,
            Some(error) if error.is_failure() => Blamed::Whole,
            _ => Blamed::Both,
        };
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
        let ended = |not: Blamed| if self.blamed == not { Ended::Abandoned } else { self.ended };
        self.breakers.record(self.whole, ended(Blamed::Own));
        if let Some(own) = self.own {
            self.breakers.record(own, ended(Blamed::Whole));
        }
    }
}
