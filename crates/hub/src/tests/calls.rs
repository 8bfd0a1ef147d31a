//! What changes while a call waits for its record.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use mcphub_domain::User;
use mcphub_store::snapshot::Delta;
use mcphub_upstream::UpstreamError;

use super::web::{Seen, Web};
use super::{House, Server, answer, call};
use crate::credentials::SeenSlot;
use crate::error::HubError;
use crate::running::Said;
use crate::servers::UpdateServer;
use crate::{Caller, Endpoint};

/// Is a call that is recorded and not sent yet.
struct Scene {
    house: House,
    web: Web,
    server: Server,
    people: [(User, Caller); 2],
}

/// Says what happens while the call waits.
#[derive(Clone, Copy, Debug)]
enum Change {
    NewToken,
    NoToken,
    NewServer,
    NoServer,
    TokenOfAnother,
}

impl Scene {
    async fn set() -> Self {
        let (house, web) = (House::open().await, Web::modern(answer).await);
        let server = house.server("s", &web).await;
        let people = [house.person("alice").await, house.person("bob").await];
        house.set_token(&people[0].0, &server, "old").await;
        house.set_token(&people[1].0, &server, "bobs").await;
        house.hub.list_tools(&people[0].1, Endpoint::All).await.unwrap();
        Self { house, web, server, people }
    }

    async fn change(&self, change: Change) {
        let (hub, operator) = (&self.house.hub, self.house.hub.operator());
        let (server, [(alice, _), (bob, _)]) = (&self.server, &self.people);
        match change {
            Change::NewToken => self.house.set_token(alice, server, "new").await,
            Change::TokenOfAnother => self.house.set_token(bob, server, "new").await,
            Change::NoToken => {
                let SeenSlot { slot, revision, .. } = self.house.slot(alice, server).await;
                hub.remove_credential(&operator, alice.id, (server.id, slot), revision).await.unwrap();
            }
            Change::NewServer => {
                let definition = Some(server.definition.clone());
                let update = UpdateServer { revision: server.revision, definition, state: None };
                hub.update_server(&operator, server.id, update).await.unwrap();
            }
            Change::NoServer => hub.remove_server(&operator, server.id, server.revision).await.unwrap(),
        }
    }

    /// Counts the requests that carried a token.
    fn sent(&self, token: &str) -> usize {
        let carries = |seen: &&Seen| seen.header("authorization") == Some(token);
        self.web.seen().iter().filter(carries).count()
    }

    /// Brings alice's call to where it is recorded, changes something, and lets it go on.
    async fn call_during(&self, change: Change) -> Result<(), HubError> {
        let (hub, (_, alice)) = (&self.house.hub, &self.people[0]);
        let world = hub.snapshot.fresh().unwrap();
        let cleared = hub.permit(&world, alice, &call(&self.server), hub.clock.now()).await.unwrap();
        let recorded = hub.record_intent(cleared.permit, alice, &call(&self.server)).await.unwrap();
        self.change(change).await;
        let sent = hub.dispatch(recorded, cleared.server, cleared.values, call(&self.server)).await;
        sent?.answer().await.map(|_| ()).map_err(HubError::from)
    }
}

#[tokio::test]
async fn what_a_call_was_decided_on_is_not_used_once_it_has_changed() {
    for change in [Change::NewToken, Change::NoToken, Change::NewServer, Change::NoServer] {
        let scene = Scene::set().await;
        let before = scene.sent("old");
        assert!(before > 0);
        let error = scene.call_during(change).await.unwrap_err();
        assert!(matches!(error, HubError::Upstream(UpstreamError::Closed { .. })), "{change:?}: {error}");
        assert_eq!(scene.sent("old"), before, "{change:?}");
    }
}

#[tokio::test]
async fn a_right_that_ends_while_its_call_is_recorded_sends_nothing() {
    let scene = Scene::set().await;
    let (hub, (_, alice), before) = (&scene.house.hub, &scene.people[0], scene.sent("old"));
    let mut calling = pin!(hub.call_tool(alice, call(&scene.server)));
    // A call has its lease as soon as it waits for its record.
    poll_fn(|context| match calling.as_mut().poll(context) {
        Poll::Pending if hub.leases.count() == 1 => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
        Poll::Ready(_) => panic!("it waits for its record"),
    })
    .await;
    hub.leases.revoke_all();
    assert!(matches!(calling.await, Err(HubError::Revoked)));
    assert_eq!(scene.sent("old"), before);
    let open = hub.upstreams.states().iter().map(|state| state.connections).sum::<usize>();
    assert_eq!(open, 1, "that of the list");
}

#[tokio::test]
async fn a_change_that_is_somebody_elses_disturbs_no_call() {
    let scene = Scene::set().await;
    let before = scene.sent("old");
    scene.call_during(Change::TokenOfAnother).await.unwrap();
    // Its connection is another than that of the list, whose client could be asked everything: it asks for the era, too.
    assert_eq!(scene.sent("old"), before + 2);
}

#[tokio::test]
async fn after_a_gap_in_what_is_known_nothing_stays_open() {
    let scene = Scene::set().await;
    let hub = &scene.house.hub;
    let connections = || hub.upstreams.states().iter().map(|state| state.connections).sum::<usize>();
    assert_eq!(connections(), 1);
    hub.take_up(&Delta { whole: true, ..Delta::default() });
    assert_eq!(connections(), 0);
}

#[tokio::test]
async fn a_call_after_a_change_uses_what_is_new() {
    let scene = Scene::set().await;
    scene.change(Change::NewToken).await;
    let mut running = scene.house.hub.call_tool(&scene.people[0].1, call(&scene.server)).await.unwrap();
    assert!(matches!(running.next().await, Some(Said::Answer(_))));
    assert!(scene.sent("new") > 0);
}

#[tokio::test]
async fn a_call_keeps_little_state() {
    let scene = Scene::set().await;
    let (_, alice) = &scene.people[0];
    // What a call mostly doesn't do is boxed: a state of 70 KB was moved several times for each call.
    let state = size_of_val(&scene.house.hub.call_tool(alice, call(&scene.server)));
    assert!(state < 2_560, "{state}");
}
