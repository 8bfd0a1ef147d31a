//! What servers tell by themselves: that a list or a resource has changed.
//!
//! A modern server is asked for a stream of its own. A legacy one tells its session, which several watchers share.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use mcphub_domain::{Server, ServerId, UserId};
use mcphub_policy::{AskPermit, Recorded};
use mcphub_wire::error::METHOD_NOT_FOUND;
use mcphub_wire::list::ListKind;
use mcphub_wire::{Edit, Notification, Object, Outcome, Params, Raw, method};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{timeout, timeout_at};

use crate::bearer::Bearer;
use crate::counters::Drops;
use crate::deadline::Deadline;
use crate::error::UpstreamError;
use crate::http::BEST_EFFORT;
use crate::key::ConnectionKey;
use crate::outgoing::Outgoing;
use crate::pool::{Connection, Lease};
use crate::reply::{Reply, Sent, Step, Stream};
use crate::trial::Trial;
use crate::upstreams::{Access, Upstreams, connected};

/// How much news of a session may wait for a watcher; older news is lost, and she is told as if everything had changed.
const WAITING: usize = 64;
/// How many bytes a notification of a changed resource may have to be handed on whole.
const LONGEST: usize = 16 << 10;

/// Says what to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// The list of tools.
    pub tools: bool,
    /// The list of prompts.
    pub prompts: bool,
    /// The list of resources.
    pub resources: bool,
    /// Resources, by their URIs.
    pub uris: Vec<Box<str>>,
}

/// Is what a server tells.
#[derive(Clone, Debug)]
pub enum News {
    /// A list has changed.
    List(ListKind),
    /// A resource has changed.
    Resource(Notification),
}

/// Hears what a server tells. Dropped, it listens no more.
pub struct Watching {
    interest: Interest,
    source: Source,
    /// What is still to be told, because some of it was lost.
    lost: VecDeque<News>,
    drops: Drops,
    lease: Lease,
    _told: Vec<Subscribed>,
}

enum Source {
    /// A stream that the server opened for this watcher.
    Own(Stream),
    /// What the server tells its session.
    Session(broadcast::Receiver<Option<News>>),
    /// The server tells nothing.
    Silent,
}

/// Says that a list of a server has changed, whoever heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The server.
    pub server: ServerId,
    /// The list.
    pub kind: ListKind,
    /// Whose connection it was said on; nobody's if people share it.
    pub user: Option<UserId>,
}

/// Tells of every list that a server said has changed, on whatever stream it said so, and however often: once.
#[derive(Clone, Default)]
pub(crate) struct Bus(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    changed: Mutex<HashMap<(ServerId, ListKind), Option<UserId>>>,
    told: Notify,
}

impl Bus {
    /// Waits for the next changes; one listens.
    pub(crate) async fn next(&self) -> Vec<Changed> {
        loop {
            let changed = std::mem::take(&mut *self.0.changed.lock());
            if !changed.is_empty() {
                let changes = changed.into_iter();
                return changes.map(|((server, kind), user)| Changed { server, kind, user }).collect();
            }
            self.0.told.notified().await;
        }
    }

    /// Hands on what a server told, if that is that a list has changed.
    pub(crate) fn tell(&self, key: &ConnectionKey, notification: &Notification) {
        if let Some(News::List(kind)) = News::of(notification) {
            self.0.changed.lock().insert((key.server, kind), key.scope.user());
            self.0.told.notify_one();
        }
    }
}

/// Is what comes from a source.
enum Told {
    News(News),
    /// So much came faster than it was taken.
    Lost(u64),
}

/// Is where a session's news goes.
pub(crate) struct Feed {
    /// Nothing is the end: the session or its process is gone.
    pub(crate) news: broadcast::Sender<Option<News>>,
    /// How many watchers there are for each resource. The server is told of the first and the last, and whoever tells it
    /// holds the lock meanwhile, so that no other is told what isn't so yet.
    watched: tokio::sync::Mutex<HashMap<Box<str>, usize>>,
}

/// Keeps a session told of a resource.
struct Subscribed {
    connection: Connection,
    feed: Arc<Feed>,
    uri: Box<str>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { news: broadcast::Sender::new(WAITING), watched: tokio::sync::Mutex::default() }
    }
}

impl Feed {
    /// Hands on what a server told; what nobody wants to hear goes nowhere.
    pub(crate) fn tell(&self, notification: &Notification) {
        if let Some(news) = News::of(notification)
            && self.news.send(Some(news)).is_err()
        {
            tracing::trace!("nobody listens");
        }
    }

    /// Tells all watchers that nothing more comes.
    pub(crate) fn end(&self) {
        if self.news.send(None).is_err() {
            tracing::trace!("nobody listens");
        }
    }
}

impl News {
    /// Reads a notification of a changed resource. Of a long one, which would wait for many, only the URI is kept.
    fn resource(notification: &Notification) -> Option<Self> {
        let params = notification.params.as_ref()?;
        match params.size() <= LONGEST {
            true => Some(Self::Resource(notification.clone())),
            false => Self::changed(params.uri().filter(|uri| uri.len() <= LONGEST)?),
        }
    }

    /// Says of a resource that it has changed, and nothing else.
    fn changed(uri: &str) -> Option<Self> {
        let params = Params::default().edited(&Edit::new().uri(uri)).ok()?;
        Some(Self::Resource(Notification { method: method::RESOURCE_UPDATED.into(), params: Some(params) }))
    }

    fn of(notification: &Notification) -> Option<Self> {
        match &*notification.method {
            method::TOOLS_CHANGED => Some(Self::List(ListKind::Tools)),
            method::PROMPTS_CHANGED => Some(Self::List(ListKind::Prompts)),
            method::RESOURCES_CHANGED => Some(Self::List(ListKind::Resources)),
            method::RESOURCE_UPDATED => Self::resource(notification),
            _ => None,
        }
    }
}

impl Interest {
    /// Reads of which lists a server says that it tells when they change, if of any.
    pub(crate) fn declared(capabilities: &Raw) -> Option<Self> {
        let capabilities = Object::parse(capabilities).ok()?;
        let tells = |of: &str| {
            let declared = capabilities.get(of).filter(|declared| declared.is_object());
            let declared = declared.and_then(|declared| Object::parse(declared).ok());
            declared.is_some_and(|one| one.get("listChanged").is_some_and(|told| told.as_bytes() == b"true"))
        };
        let [tools, prompts, resources] = ["tools", "prompts", "resources"].map(tells);
        (tools || prompts || resources).then_some(Self { tools, prompts, resources, uris: Vec::new() })
    }

    /// Lists the lists among what is to be heard of.
    pub fn lists(&self) -> impl Iterator<Item = ListKind> {
        let lists = [
            (self.tools, ListKind::Tools),
            (self.prompts, ListKind::Prompts),
            (self.resources, ListKind::Resources),
        ];
        lists.into_iter().filter(|(wanted, _)| *wanted).map(|(_, kind)| kind)
    }

    /// Lists all that can be told, for whoever may have missed some of it.
    pub fn everything(&self) -> impl Iterator<Item = News> {
        let resources = self.uris.iter().filter_map(|uri| News::changed(uri));
        self.lists().map(News::List).chain(resources)
    }

    fn wants(&self, news: &News) -> bool {
        match news {
            News::List(kind) => self.lists().any(|wanted| wanted == *kind),
            News::Resource(notification) => {
                let uri = notification.params.as_ref().and_then(|params| params.uri());
                // A server may tell of what lies below what was asked for.
                let is_below = |uri: &str, wanted: &str| {
                    uri.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                uri.is_some_and(|uri| self.uris.iter().any(|wanted| is_below(uri, wanted)))
            }
        }
    }
}

impl Upstreams {
    /// Hears what a server tells by itself, as far as the permit's person may read it.
    pub async fn watch(
        self: &Arc<Self>,
        recorded: Recorded<AskPermit>,
        server: &Arc<Server>,
        access: Access,
        interest: Interest,
    ) -> Result<Watching, UpstreamError> {
        let bearer = Bearer::of_ask(recorded.permit());
        bearer.check(server, &access)?;
        let trial = self.admit(server, &access.key, bearer.person)?;
        let lease = self.lease(server, access)?;
        let deadline = Deadline::starting(server.definition.timeout());
        let connection = connected(&lease, deadline).await?;
        let (source, told) = match connection.feed().await? {
            None => (listen(&connection, (trial, &lease), deadline, &interest).await?, Vec::new()),
            Some(feed) => {
                let news = feed.news.subscribe();
                connection.hear();
                trial.end(Ok(()));
                let mut told = Vec::new();
                for uri in &interest.uris {
                    let trial = self.admit(server, &lease.key(), bearer.person)?;
                    told.push(subscribe(&connection, (trial, &lease), deadline, (&feed, uri)).await?);
                }
                // What is told to a session that has ended meanwhile, nobody hears.
                if !connection.feed().await?.is_some_and(|now| Arc::ptr_eq(&now, &feed)) {
                    return Err(lease.blame().unreachable("its session ended"));
                }
                (Source::Session(news), told)
            }
        };
        let drops = connection.shared().drops;
        Ok(Watching { interest, source, lost: VecDeque::new(), drops, lease, _told: told })
    }
}

/// Opens a stream at a modern server, and waits until the server says so.
async fn listen(
    connection: &Connection,
    (trial, lease): (Trial, &Lease),
    deadline: Deadline,
    interest: &Interest,
) -> Result<Source, UpstreamError> {
    let Sent { mut stream, .. } = connection.send(&Outgoing::listen(interest)).await?;
    let first = tokio::select! {
        biased;
        () = lease.closed() => Err(lease.blame().closed()),
        first = timeout_at(deadline.at(), stream.next()) => {
            first.unwrap_or_else(|_| Err(lease.blame().timed_out(deadline.span())))
        }
    };
    let source = match first? {
        Step::Notification(first) if &*first.method == method::LISTEN_ACKNOWLEDGED => Source::Own(stream),
        Step::Final(answer) if matches!(&answer.outcome, Outcome::Error(error) if error.code == METHOD_NOT_FOUND) => {
            Source::Silent
        }
        _ => return Err(lease.blame().garbage("it did not acknowledge `subscriptions/listen`")),
    };
    trial.end(Ok(()));
    Ok(source)
}

/// Sees to it that a legacy server tells its session of a resource.
async fn subscribe(
    connection: &Connection,
    (trial, lease): (Trial, &Lease),
    deadline: Deadline,
    (feed, uri): (&Arc<Feed>, &str),
) -> Result<Subscribed, UpstreamError> {
    let mut watched = feed.watched.lock().await;
    if !watched.contains_key(uri) {
        let request = Outgoing::subscription(method::RESOURCES_SUBSCRIBE, uri);
        let sent = connection.send(&request).await?;
        let answer = Reply::new(sent, request, deadline, trial, lease.again()).answer().await?;
        if let Outcome::Error(error) = answer.outcome {
            let reason = format!("it refused `resources/subscribe` with error {}", error.code);
            return Err(lease.blame().garbage(reason));
        }
    }
    *watched.entry(uri.into()).or_default() += 1;
    Ok(Subscribed { connection: connection.clone(), feed: Arc::clone(feed), uri: uri.into() })
}

impl Watching {
    /// Waits for what the server tells next; nothing when it tells no more.
    pub async fn next(&mut self) -> Option<News> {
        loop {
            if let Some(news) = self.lost.pop_front() {
                return Some(news);
            }
            let told = tokio::select! {
                biased;
                () = self.lease.closed() => return None,
                told = self.source.next() => told?,
            };
            match told {
                Told::News(news) if self.interest.wants(&news) => return Some(news),
                Told::News(_) => {}
                Told::Lost(count) => {
                    self.drops.count(count);
                    self.lost = self.interest.everything().collect();
                }
            }
        }
    }
}

impl Source {
    async fn next(&mut self) -> Option<Told> {
        loop {
            match self {
                Self::Silent => std::future::pending().await,
                Self::Own(stream) => match stream.next().await {
                    Ok(Step::Notification(notification)) => {
                        if let Some(news) = News::of(&notification) {
                            return Some(Told::News(news));
                        }
                    }
                    Ok(Step::Inquiry(inquiry)) => inquiry.refuse("nobody can be asked outside of a call"),
                    Ok(Step::Final(_)) | Err(_) => return None,
                },
                Self::Session(news) => match news.recv().await {
                    Ok(news) => return news.map(Told::News),
                    Err(RecvError::Lagged(count)) => return Some(Told::Lost(count)),
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        let (connection, feed, uri) = (self.connection.clone(), Arc::clone(&self.feed), self.uri.clone());
        self.connection.shared().spawn(async move {
            let mut watched = feed.watched.lock().await;
            match watched.get_mut(&uri) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    watched.remove(&uri);
                    let request = Outgoing::subscription(method::RESOURCES_UNSUBSCRIBE, &uri);
                    let told = timeout(BEST_EFFORT, connection.send(&request)).await;
                    tracing::debug!(arrived = matches!(told, Ok(Ok(_))), "unsubscribed");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use mcphub_wire::{Envelope, Params};

    use super::{Feed, LONGEST, ListKind, News, Notification, Source, Told, WAITING, method};

    /// Returns what is handed on of a notification with a URI and so much more.
    fn told(uri: &str, more: usize) -> Option<Params> {
        let params = format!(r#"{{"uri":"{uri}","more":"{}"}}"#, "x".repeat(more));
        let body =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{params}}}"#);
        let Ok(Envelope::Notification(notification)) = Envelope::parse(&body.into()) else {
            panic!("no notification")
        };
        match News::of(&notification)? {
            News::Resource(told) => told.params,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_a_long_notification_only_the_uri_is_kept() {
        let most = LONGEST - told("a:b", 0).unwrap().size();
        assert!(told("a:b", most).unwrap().get("more").is_some());
        let long = told("a:b", most + 1).unwrap();
        assert_eq!((long.uri(), long.get("more")), (Some("a:b"), None));
        assert!(told(&"u".repeat(LONGEST), 0).is_some());
        assert!(told(&"u".repeat(LONGEST + 1), 0).is_none());
    }

    #[tokio::test]
    async fn so_much_news_waits_for_a_watcher_and_what_is_more_is_lost() {
        let feed = Feed::default();
        let mut source = Source::Session(feed.news.subscribe());
        let tell = || feed.tell(&Notification { method: method::TOOLS_CHANGED.into(), params: None });
        (0..WAITING).for_each(|_| tell());
        for _ in 0..WAITING {
            assert!(matches!(source.next().await, Some(Told::News(News::List(ListKind::Tools)))));
        }
        (0..=WAITING).for_each(|_| tell());
        assert!(matches!(source.next().await, Some(Told::Lost(1))));
    }
}
