//! What clients hear of by itself: that a list or a resource of a server has changed.

mod part;

use std::collections::BTreeMap;
use std::sync::Arc;

use mcphub_domain::audit::Refusal;
use mcphub_domain::{Server, ServerId, Transport, UserId};
use mcphub_policy::{Endpoint, World, decide};
use mcphub_upstream::Interest;
use mcphub_wire::list::ListKind;
use mcphub_wire::shared::own_uri;
use mcphub_wire::{Edit, Notification, message, method};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::part::{Outlet, Part};
use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::offers::Entrance;

/// How many watches one person may have.
pub(crate) const PER_PERSON: usize = 256;
/// How many servers one watch listens to; others are left out, which the client is told.
pub(crate) const SERVERS: usize = 64;
/// How many resources one watch may hear of.
pub const RESOURCES: usize = 100;

/// Says what a client wants to hear of, by the names on her endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The list of tools.
    pub tools: bool,
    /// The list of prompts.
    pub prompts: bool,
    /// The list of resources.
    pub resources: bool,
    /// Resources, by their URIs.
    pub uris: Vec<String>,
}

/// Is a notification for a client, before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A list has changed.
    List(ListKind),
    /// A resource has changed: the notification's whole parameters.
    Resource(Notification),
}

/// Brings what a client wants to hear of. Dropped, it listens no more.
pub struct Watch {
    news: mpsc::Receiver<Heard>,
    /// What of the wish comes true.
    honoured: Wish,
    /// Without it, the news of no server would be the end.
    _outlet: Outlet,
    _ends: DropGuard,
    _place: PlaceGuard,
}

/// Counts the watches of each person.
#[derive(Default)]
pub(crate) struct Watches(Arc<Mutex<BTreeMap<UserId, usize>>>);

struct PlaceGuard {
    counts: Arc<Mutex<BTreeMap<UserId, usize>>>,
    user: UserId,
}

impl Watch {
    /// Says what of the wish comes true.
    pub const fn honoured(&self) -> &Wish {
        &self.honoured
    }

    /// Waits for what is to be told next.
    pub async fn next(&mut self) -> Option<Heard> {
        self.news.recv().await
    }
}

impl Hub {
    /// Listens to the servers that the wish is about, in the order of a call for each: decide, record, unseal, send.
    ///
    /// A resource that is nobody's, or that the caller may not read, is refused. Lists are heard of from servers over
    /// HTTP alone where several stand together: who only listens starts no processes.
    pub async fn watch(
        &self,
        caller: &Caller,
        entrance: Entrance<'_>,
        wish: &Wish,
    ) -> Result<Watch, HubError> {
        let watch = self.open_watch(caller, entrance, wish).await;
        match &watch {
            Err(HubError::Denied(denial)) => {
                self.record(caller, denial.clone().into_event(method::LISTEN)).await;
            }
            Err(HubError::RateLimited { .. }) => {
                let denial = decide::refuse(caller.principal, Refusal::RateLimited, None);
                self.floods.note_known(self, caller, denial, method::LISTEN).await;
            }
            _ => self.record_read(caller, method::LISTEN, Some(entrance.path), 0).await,
        }
        watch
    }

    async fn open_watch(
        &self,
        caller: &Caller,
        entrance: Entrance<'_>,
        wish: &Wish,
    ) -> Result<Watch, HubError> {
        self.seal.open()?;
        let place = self.watches.take(caller)?;
        self.limits.charge(place.user, self.clock.now()).map_err(|after| HubError::RateLimited { after })?;
        let world = self.snapshot.fresh()?;
        let interests = self.interests(&world, caller, entrance.endpoint, wish)?;
        let (outlet, news) = Outlet::new(self.drops());
        let ends = CancellationToken::new();
        let mut watch = Watch {
            news,
            // The hub itself knows which tools there are.
            honoured: Wish { tools: wish.tools, uris: wish.uris.clone(), ..Wish::default() },
            _outlet: outlet.clone(),
            _ends: ends.clone().drop_guard(),
            _place: place,
        };
        let opened = interests.into_iter().map(|(server, interest)| {
            let part = Part {
                caller: caller.clone(),
                endpoint: entrance.endpoint,
                path: entrance.path.to_owned(),
                client: entrance.client.clone(),
                server,
                interest,
            };
            async move { (Box::pin(self.listen(&part)).await, part) }
        });
        for (opened, part) in futures_util::future::join_all(opened).await {
            match opened {
                Err(error) if !part.interest.uris.is_empty() => return Err(error),
                opened => {
                    watch.honoured.prompts |= part.interest.prompts && opened.is_ok();
                    watch.honoured.resources |= part.interest.resources && opened.is_ok();
                    self.follow(part, opened.ok(), outlet.clone(), ends.clone());
                }
            }
        }
        Ok(watch)
    }

    /// Finds the servers that a wish is about, and what to hear of each.
    fn interests(
        &self,
        world: &World,
        caller: &Caller,
        endpoint: Endpoint,
        wish: &Wish,
    ) -> Result<Vec<(Arc<Server>, Interest)>, HubError> {
        let nobodys = || HubError::from(decide::refuse(caller.principal, Refusal::UnknownOffer, None));
        let readable = decide::readable(world, caller.principal, endpoint, self.clock.now());
        let mut interests: BTreeMap<ServerId, Interest> = BTreeMap::new();
        for id in &readable {
            let is_http = |id| {
                let server = world.server(id).map(|entry| entry.share());
                server.is_some_and(|server| matches!(server.definition.transport, Transport::Http(_)))
            };
            if matches!(endpoint, Endpoint::Server(_)) || is_http(*id) {
                let (tools, prompts, resources) = (wish.tools, wish.prompts, wish.resources);
                interests.insert(*id, Interest { tools, prompts, resources, uris: Vec::new() });
            }
        }
        interests.retain(|_, interest| interest.lists().next().is_some());
        if wish.uris.iter().any(String::is_empty) {
            return Err(nobodys());
        }
        for uri in &wish.uris {
            let (owner, own) = match endpoint {
                Endpoint::Server(id) => (id, uri.clone()),
                Endpoint::All | Endpoint::Group(_) => {
                    let (server, own) = own_uri(uri).ok_or_else(nobodys)?;
                    (decide::owner(world, endpoint, Some(server)).ok_or_else(nobodys)?, own)
                }
            };
            if !readable.contains(&owner) {
                return Err(nobodys());
            }
            interests.entry(owner).or_default().uris.push(own.into());
        }
        let shared = |(id, interest)| Some((world.server(id)?.share(), interest));
        Ok(interests.into_iter().filter_map(shared).take(SERVERS).collect())
    }
}

impl Heard {
    /// Writes the notification.
    pub fn to_bytes(&self, edit: &Edit) -> bytes::Bytes {
        match self {
            Self::List(kind) => message::notification(kind.changed(), None, edit),
            Self::Resource(notification) => {
                message::notification(&notification.method, notification.params.as_ref(), edit)
            }
        }
    }
}

impl Watches {
    fn take(&self, caller: &Caller) -> Result<PlaceGuard, HubError> {
        let nobody = || HubError::Invalid("only a person listens".to_owned());
        let user = caller.principal.user().ok_or_else(nobody)?;
        let mut counts = self.0.lock();
        let count = counts.entry(user).or_default();
        if *count >= PER_PERSON {
            return Err(HubError::Invalid(format!(
                "at most {PER_PERSON} streams of changes can be open at once"
            )));
        }
        *count += 1;
        Ok(PlaceGuard { counts: Arc::clone(&self.0), user })
    }
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}
