//! When to look at a server's tools again: once for each new revision, then at most once a minute
//! while somebody uses it. What changed since the approval is noticed here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::server::{Isolation, ServerState};
use mcphub_domain::{Server, ServerId, UserId};
use mcphub_policy::World;
use mcphub_upstream::UpstreamError;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::hub::Hub;

/// How long a list is taken for what the server still has.
const AGE: Duration = Duration::from_secs(60);
/// How long a server is left alone that was looked at for the first time: it has no tools, or failed.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a list is taken for what a server has that tells of each change.
const TOLD: Duration = Duration::from_secs(1);
/// How many looks are remembered; with more, all are forgotten, which costs a look each.
const REMEMBERED: usize = 100_000;

/// Remembers who looked at which revision of a server, and when.
#[derive(Default)]
pub(crate) struct Lookout {
    looks: Mutex<HashMap<Look, (i64, Instant)>>,
    /// Who takes the first look at a server; the others wait for her.
    first: Mutex<HashMap<ServerId, Arc<tokio::sync::Mutex<()>>>>,
    /// Whose first looks failed a moment ago.
    failed: Mutex<HashMap<(ServerId, UserId), Failed>>,
}

/// Is a first look that failed.
struct Failed {
    revision: i64,
    at: Instant,
    error: UpstreamError,
}

/// Names a look: at a server, as a person or, with the shared values alone, as nobody.
type Look = (ServerId, Option<UserId>);

impl Lookout {
    /// Says whether it is time for a look that was never taken, or is older than `age`, and notes
    /// that it is taken now.
    fn is_due(&self, look: Look, revision: i64, age: Duration) -> bool {
        let now = Instant::now();
        let mut looks = self.looks.lock();
        let fresh = |(known, at): &(i64, Instant)| *known == revision && now.duration_since(*at) < age;
        if looks.get(&look).is_some_and(fresh) {
            return false;
        }
        if looks.len() >= REMEMBERED && !looks.contains_key(&look) {
            looks.clear();
        }
        looks.insert(look, (revision, now));
        true
    }

    /// Forgets a server that is gone.
    pub(crate) fn forget(&self, server: ServerId) {
        self.first.lock().remove(&server);
        self.failed.lock().retain(|(failed, _), _| *failed != server);
        self.looks.lock().retain(|(looked_at, _), _| *looked_at != server);
    }

    /// Returns what the first looks at a server take turns with.
    pub(crate) fn turn(&self, server: ServerId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.first.lock().entry(server).or_default())
    }

    /// Notes that a person's first use of a server looks at it now; says no if that was just done.
    pub(crate) fn try_first(&self, user: UserId, server: &Server) -> bool {
        self.is_due((server.id, Some(user)), server.revision, AGAIN)
    }

    /// Notes why a person's first look at a server failed.
    pub(crate) fn note_failure(&self, user: UserId, server: &Server, error: UpstreamError) {
        let mut failed = self.failed.lock();
        let look = (server.id, user);
        if failed.len() >= REMEMBERED && !failed.contains_key(&look) {
            failed.clear();
        }
        failed.insert(look, Failed { revision: server.revision, at: Instant::now(), error });
    }

    /// Says why a person's first look at a server failed, if that was a moment ago.
    pub(crate) fn failure(&self, user: UserId, server: &Server) -> Option<UpstreamError> {
        let mut failed = self.failed.lock();
        let Failed { revision, at, error } = failed.get(&(server.id, user))?;
        if *revision == server.revision && at.elapsed() < AGAIN {
            return Some(error.clone());
        }
        failed.remove(&(server.id, user));
        None
    }

    /// Lets a person look again at once, for her values changed, or everybody, for the shared ones did.
    pub(crate) fn renew(&self, server: ServerId, user: Option<UserId>) {
        let concerns = |of: ServerId, who: UserId| of == server && user.is_none_or(|user| user == who);
        self.failed.lock().retain(|(of, who), _| !concerns(*of, *who));
        self.looks.lock().retain(|(of, who), _| !who.is_some_and(|who| concerns(*of, who)));
    }

    /// Counts who takes, or waits for, the first look at a server.
    #[cfg(test)]
    pub(crate) fn waiting(&self, server: ServerId) -> usize {
        self.first.lock().get(&server).map_or(0, |turn| Arc::strong_count(turn) - 1)
    }

    /// Counts what is remembered of all servers.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.first.lock().len() + self.failed.lock().len() + self.looks.lock().len()
    }
}

impl Hub {
    /// Looks, in the background, at every server that is new or changed and needs nobody's values.
    pub(crate) fn look_at_new(&self, world: &World) {
        if self.seal.open().is_err() {
            return;
        }
        for entry in world.servers() {
            let server = entry.server();
            let ready = server.state == ServerState::Enabled && suffices(server);
            if ready && self.lookout.is_due((server.id, None), server.revision, Duration::MAX) {
                self.look(server.clone(), None);
            }
        }
    }

    /// Looks, in the background, at a server that a person uses, if the last look is a while ago.
    pub(crate) fn look_again(&self, user: UserId, server: &Server) {
        let look = if suffices(server) { None } else { Some(user) };
        if self.lookout.is_due((server.id, look), server.revision, AGE) {
            self.look(server.clone(), look);
        }
    }

    /// Looks again at a server that told that its tools have changed, on a person's connection or on everybody's; at most
    /// once a second.
    pub(crate) fn look_as_told(&self, user: Option<UserId>, server: &Server) {
        if suffices(server) || user.is_some() {
            let look = user.filter(|_| !suffices(server));
            if self.lookout.is_due((server.id, look), server.revision, TOLD) {
                self.look(server.clone(), look);
            }
        }
    }

    fn look(&self, server: Server, user: Option<UserId>) {
        let hub = self.handle();
        self.tasks.spawn(async move {
            let Some(hub) = hub.upgrade() else { return };
            let turn = hub.lookout.turn(server.id);
            let _turn = if hub.is_listed(server.id) { None } else { Some(turn.lock().await) };
            let found = match user {
                Some(user) => hub.discover_as(user, &server).await,
                None => hub.discover_shared(&server).await,
            };
            if let Err(error) = found {
                tracing::warn!(server = %server.name, %error, "the server's tools could not be listed");
            }
        });
    }

    /// Says whether anybody has found tools on a server.
    pub(crate) fn is_listed(&self, server: ServerId) -> bool {
        self.snapshot.newest().server(server).is_some_and(|entry| entry.tools().next().is_some())
    }
}

/// Says whether a server can be asked without any person's values.
fn suffices(server: &Server) -> bool {
    server.definition.isolation == Isolation::Auto && !server.definition.is_personal()
}

#[cfg(test)]
mod tests {
    use mcphub_domain::Timestamp;

    use super::{
        AGAIN, AGE, Duration, Instant, Lookout, REMEMBERED, Server, ServerId, ServerState, UpstreamError,
        UserId,
    };

    fn user(number: usize) -> UserId {
        UserId::from_bytes((number as u128).to_be_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_is_due_once_for_each_revision_and_age() {
        let (lookout, look) = (Lookout::default(), (ServerId::from_bytes([1; 16]), None));
        assert!(lookout.is_due(look, 1, AGE));
        assert!(!lookout.is_due(look, 1, AGE));
        assert!(lookout.is_due(look, 2, AGE), "a new revision");
        let before = Instant::now();
        tokio::time::advance(AGE + Duration::from_secs(1)).await;
        assert!(before.elapsed() > AGE && lookout.is_due(look, 2, AGE), "an old look");
    }

    #[test]
    fn so_many_looks_are_remembered_and_then_all_are_taken_again() {
        let lookout = Lookout::default();
        let is_due = |number: usize, revision: i64| {
            lookout.is_due((ServerId::from_bytes([1; 16]), Some(user(number))), revision, Duration::MAX)
        };
        assert!((0..REMEMBERED).all(|number| is_due(number, 1)));
        assert!(is_due(0, 2), "it was taken of an older revision");
        assert!((1..REMEMBERED).all(|number| !is_due(number, 1)), "one that was taken takes nobody's place");
        assert!(is_due(REMEMBERED, 1));
        assert_eq!([1, REMEMBERED].map(|number| is_due(number, 1)), [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_failures_are_remembered_and_then_all_are_tried_again() {
        let definition = r#"{"type":"streamable-http","url":"https://a.example/mcp"}"#;
        let server = Server {
            id: ServerId::from_bytes([1; 16]),
            name: "notes".parse().unwrap(),
            definition: serde_json::from_str(definition).unwrap(),
            state: ServerState::Enabled,
            revision: 1,
            created_at: Timestamp::from_micros(1),
        };
        let (lookout, name) = (Lookout::default(), server.name.clone());
        let error = UpstreamError::TimedOut { server: name, after: AGAIN };
        let fail = |number: usize| lookout.note_failure(user(number), &server, error.clone());
        let is_known = |number: usize| lookout.failure(user(number), &server).is_some();
        (0..REMEMBERED).for_each(fail);
        fail(0);
        assert!((0..REMEMBERED).all(is_known), "one that failed before takes nobody's place");
        fail(REMEMBERED);
        assert_eq!([1, REMEMBERED].map(is_known), [false, true]);
    }
}
