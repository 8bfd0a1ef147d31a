//! What clients hear of by itself: that a list or a resource of a server has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::audit::{CallStatus, Refusal};
use mcphub_domain::{Server, ServerId, Transport, UserId};
use mcphub_policy::{Endpoint, World, decide};
use mcphub_store::audit::Question;
use mcphub_upstream::{Drops, Interest, News, UpstreamError, Watching};
use mcphub_wire::list::ListKind;
use mcphub_wire::shared::{own_uri, shared_uri};
use mcphub_wire::{Edit, Notification, message, meta_key, method};
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::caller::Caller;
use crate::client::Client;
use crate::discovery::FIRST_LIST;
use crate::error::{HubError, again_if_renewed};
use crate::hub::Hub;
use crate::lease::Lease;
use crate::offers::Entrance;
use crate::running::{OutcomeRecord, status_of};

/// How many watches one person may have.
const PER_PERSON: usize = 256;
/// How many servers one watch listens to; others are left out, which the client is told.
const SERVERS: usize = 64;
/// How many resources one watch may hear of.
pub const RESOURCES: usize = 100;
/// How much news waits for a client that reads slowly; what comes then is lost.
const WAITING: usize = 64;
/// How long after its end a server's stream is opened anew, at first and at last.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];
/// How long a stream has to last before its end counts as the first one.
const LASTING: Duration = Duration::from_secs(60);

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
    _sender: mpsc::Sender<Heard>,
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

/// Is an open stream of a server, the right to it, and its record.
type Opened = (Watching, Lease, OutcomeRecord);

/// Is the way to the client of a watch.
#[derive(Clone)]
struct Outlet {
    sender: mpsc::Sender<Heard>,
    drops: Drops,
}

/// Is one server's part of a watch.
#[derive(Clone)]
struct Part {
    caller: Caller,
    endpoint: Endpoint,
    path: String,
    client: Client,
    server: Arc<Server>,
    interest: Interest,
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
        let (sender, news) = mpsc::channel(WAITING);
        let outlet = Outlet { sender: sender.clone(), drops: self.drops() };
        let ends = CancellationToken::new();
        let mut watch = Watch {
            news,
            // The hub itself knows which tools there are.
            honoured: Wish { tools: wish.tools, uris: wish.uris.clone(), ..Wish::default() },
            _sender: sender,
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

    /// Opens a server's stream.
    async fn listen(&self, part: &Part) -> Result<Opened, HubError> {
        again_if_renewed(|| Box::pin(self.listen_once(part))).await
    }

    /// Opens it once: decided, recorded, with the person's own values.
    async fn listen_once(&self, part: &Part) -> Result<Opened, HubError> {
        let (caller, server) = (&part.caller, &part.server);
        let world = self.snapshot.fresh()?;
        let permit = decide::ask(&world, caller.principal, part.endpoint, server.id, self.clock.now())?;
        let values = self.find_values(permit.user(), server, &server.definition.needs()).await?;
        let Interest { tools, prompts, resources, uris } = &part.interest;
        let asked =
            serde_json::json!({ "tools": tools, "prompts": prompts, "resources": resources, "uris": uris })
                .to_string();
        let (user, lease) = (permit.user(), self.lease_ask(&permit));
        let outcome = OutcomeRecord::of_ask(self, &permit, caller, method::LISTEN.into());
        let question = Question { method: method::LISTEN.into(), target: None };
        let recorded =
            match self.record_question(permit, caller, &part.path, (question, asked.as_bytes())).await {
                Ok(recorded) => recorded,
                Err(error) => {
                    outcome.forget();
                    return Err(error);
                }
            };
        let used = values.account().map(|row| row.revision);
        let opened = async {
            let access = self.access(server, Some(user), &part.client.about, values)?;
            let watching = self.upstreams.watch(recorded, server, access, part.interest.clone());
            let slow = || UpstreamError::TimedOut { server: server.name.clone(), after: FIRST_LIST };
            match timeout(FIRST_LIST, watching).await.unwrap_or_else(|_| Err(slow())) {
                Ok(watching) => Ok(watching),
                Err(error) => Err(self.explain_refusal(user, server, (used, error)).await),
            }
        };
        let opened: Result<Watching, HubError> = tokio::select! {
            biased;
            () = lease.revoked() => Err(HubError::Revoked),
            opened = opened => opened,
        };
        match opened {
            Ok(watching) => Ok((watching, lease, outcome)),
            Err(error) => {
                outcome.end(status_of(&error));
                Err(error)
            }
        }
    }

    /// Hands on what a server tells, and opens its stream anew when it ends, until nobody listens any more.
    fn follow(&self, part: Part, opened: Option<Opened>, outlet: Outlet, ends: CancellationToken) {
        let (handle, stop) = (self.handle(), self.stop.clone());
        let mut part = part;
        let followed = async move {
            let (mut opened, mut pause) = (opened, PAUSE[0]);
            loop {
                if let Some((watching, lease, outcome)) = opened.take() {
                    let begun = Instant::now();
                    let status = hear_out(&handle, &part, watching, &lease, &outlet).await;
                    outcome.end(status);
                    pause = if begun.elapsed() < LASTING { pause } else { PAUSE[0] };
                }
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE[1]);
                let Some(hub) = handle.upgrade() else { return };
                // The server may be another one by now, or gone.
                let Some(now) = hub.snapshot.newest().server(part.server.id).map(|entry| entry.share())
                else {
                    return;
                };
                part.server = now;
                match Box::pin(hub.listen(&part)).await {
                    Ok(again) => {
                        opened = Some(again);
                        // Nobody knows what was told meanwhile.
                        part.interest.everything().for_each(|news| part.tell(news, &outlet));
                    }
                    Err(HubError::Denied(denial)) => {
                        hub.record(&part.caller, denial.into_event(method::LISTEN)).await;
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "a server can't be listened to"),
                }
            }
        };
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = ends.cancelled() => {}
                () = followed => {}
            }
        });
    }
}

/// Hands on what a server tells until its stream ends.
async fn hear_out(
    hub: &std::sync::Weak<Hub>,
    part: &Part,
    mut watching: Watching,
    lease: &Lease,
    outlet: &Outlet,
) -> CallStatus {
    loop {
        let news = tokio::select! {
            biased;
            () = lease.revoked() => return CallStatus::Revoked,
            news = watching.next() => news,
        };
        let Some(news) = news else { return CallStatus::Unreachable };
        // Who asks for a list when she is told of it, gets it anew.
        if let (News::List(kind), Some(hub)) = (&news, hub.upgrade()) {
            hub.shelf.take_off(part.server.id, *kind);
        }
        part.tell(news, outlet);
    }
}

impl Outlet {
    /// Gives a client what is to be told, unless too much waits for her already: then it is lost, and counted.
    fn offer(&self, heard: Heard) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(heard) {
            self.drops.count(1);
        }
    }
}

impl Part {
    /// Tells the client what the server told.
    fn tell(&self, news: News, outlet: &Outlet) {
        match news {
            News::List(kind) => outlet.offer(Heard::List(kind)),
            News::Resource(notification) => {
                if let Some(notification) = self.shown(notification) {
                    outlet.offer(Heard::Resource(notification));
                }
            }
        }
    }

    /// Writes a server's notification with the resource's name on the endpoint.
    fn shown(&self, notification: Notification) -> Option<Notification> {
        let params = notification.params?;
        // The stream is the hub's own.
        let edit = Edit::new().remove_meta(meta_key::SUBSCRIPTION_ID);
        let edit = match self.endpoint {
            Endpoint::Server(_) => edit,
            Endpoint::All | Endpoint::Group(_) => {
                edit.uri(&shared_uri(self.server.name.as_str(), params.uri()?))
            }
        };
        let params = params.edited(&edit).ok()?;
        Some(Notification { params: Some(params), ..notification })
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
