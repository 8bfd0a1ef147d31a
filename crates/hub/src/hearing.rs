//! Servers that tell which of their lists change: heard once for all sessions of a person at an endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mcphub_domain::{Principal, ServerId, Transport};
use mcphub_policy::{Endpoint, decide};
use mcphub_upstream::Prefers;
use mcphub_wire::Abilities;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::caller::Caller;
use crate::client::Client;
use crate::error::HubError;
use crate::hub::Hub;
use crate::offers::Entrance;
use crate::watches::{Watch, Wish};

/// How long after an end or a failure the servers are listened to anew.
const PAUSE: Duration = Duration::from_secs(60);

/// Keeps servers telling. What they tell comes by [`Hub::list_changes`], to everybody. Dropped by all who hold it, it
/// ends.
pub type Hearing = Arc<DropGuard>;

/// Finds the hearing of a person's sessions.
#[derive(Default)]
pub(crate) struct Hearings(Mutex<HashMap<Who, Weak<DropGuard>>>);

/// Says who hears, and where: with the same key, at the same path, by clients that can do the same.
type Who = (Principal, String, Abilities, Prefers);

impl Hub {
    /// Lets the servers of an endpoint tell which of their lists change. Nothing is started for it: a process is heard as
    /// long as it runs.
    pub fn hear(&self, caller: &Caller, entrance: Entrance<'_>) -> Option<Hearing> {
        if let Endpoint::Server(id) = entrance.endpoint {
            let server = self.snapshot.newest().server(id).map(|entry| entry.share())?;
            if matches!(server.definition.transport, Transport::Stdio(_)) {
                return None;
            }
        }
        let about = &entrance.client.about;
        let who = (caller.principal, entrance.path.to_owned(), about.abilities, about.prefers);
        let mut hearings = self.hearings.0.lock();
        if let Some(hearing) = hearings.get(&who).and_then(Weak::upgrade) {
            return Some(hearing);
        }
        let ends = CancellationToken::new();
        let hearing = Arc::new(ends.clone().drop_guard());
        hearings.insert(who.clone(), Arc::downgrade(&hearing));
        drop(hearings);
        // For all sessions, so that it goes over no session's own connection.
        let mut client = entrance.client.clone();
        client.about.session = None;
        self.start_hearing(caller.clone(), (entrance.endpoint, client), who, ends);
        Some(hearing)
    }

    fn start_hearing(
        &self,
        caller: Caller,
        (endpoint, client): (Endpoint, Client),
        who: Who,
        ends: CancellationToken,
    ) {
        let (hub, stop) = (self.handle(), self.stop.clone());
        self.tasks.spawn(async move {
            let heard = async {
                while let Some(at_hub) = hub.upgrade() {
                    let (worlds, readable) = (at_hub.changes(), at_hub.readable(&caller, endpoint));
                    let entrance = Entrance { endpoint, path: &who.1, client: &client };
                    let wish = Wish { tools: true, prompts: true, resources: true, uris: Vec::new() };
                    let opened = Box::pin(at_hub.watch(&caller, entrance, &wish)).await;
                    drop(at_hub);
                    tokio::select! {
                        () = drain(opened) => sleep(PAUSE).await,
                        () = others(&hub, worlds, (&caller, endpoint, readable)) => {}
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = ends.cancelled() => {}
                () = heard => {}
            }
            if let Some(hub) = hub.upgrade() {
                hub.hearings.0.lock().retain(|_, hearing| hearing.strong_count() > 0);
            }
        });
    }

    /// Lists the servers whose lists a caller may hear of at an endpoint.
    pub fn readable(&self, caller: &Caller, endpoint: Endpoint) -> Vec<ServerId> {
        decide::readable(&self.snapshot.newest(), caller.principal, endpoint, self.clock.now())
    }
}

/// Takes what is heard, which everybody hears anyway, until nothing more comes.
async fn drain(opened: Result<Watch, HubError>) {
    match opened {
        Ok(mut watch) => while watch.next().await.is_some() {},
        Err(error) => tracing::debug!(%error, "changes of lists are heard by chance alone"),
    }
}

/// Waits until there are other servers to hear.
async fn others(
    hub: &Weak<Hub>,
    mut worlds: watch::Receiver<i64>,
    (caller, endpoint, before): (&Caller, Endpoint, Vec<ServerId>),
) {
    while worlds.changed().await.is_ok() {
        if hub.upgrade().is_none_or(|hub| hub.readable(caller, endpoint) != before) {
            return;
        }
    }
}
