//! One server's part of a watch: its stream is opened as a call is, and anew whenever it ends.

use std::sync::{Arc, Weak};
use std::time::Duration;

use mcphub_domain::Server;
use mcphub_domain::audit::CallStatus;
use mcphub_policy::{Endpoint, decide};
use mcphub_store::audit::Question;
use mcphub_upstream::{Drops, Interest, News, UpstreamError, Watching};
use mcphub_wire::shared::shared_uri;
use mcphub_wire::{Edit, Notification, meta_key, method};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Heard;
use crate::caller::Caller;
use crate::client::Client;
use crate::discovery::FIRST_LIST;
use crate::error::{HubError, again_if_renewed};
use crate::hub::Hub;
use crate::lease::Lease;
use crate::running::{OutcomeRecord, status_of};

/// How long after its end a server's stream is opened anew, at first and at last.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];
/// How long a stream has to last before its end counts as the first one.
const LASTING: Duration = Duration::from_secs(60);
/// How much news waits for a client that reads slowly; what comes then is lost.
const WAITING: usize = 64;

/// Is an open stream of a server, the right to it, and its record.
pub(super) type Opened = (Watching, Lease, OutcomeRecord);

/// Is the way to the client of a watch.
#[derive(Clone)]
pub(super) struct Outlet {
    sender: mpsc::Sender<Heard>,
    drops: Drops,
}

/// Is one server's part of a watch.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) caller: Caller,
    pub(super) endpoint: Endpoint,
    pub(super) path: String,
    pub(super) client: Client,
    pub(super) server: Arc<Server>,
    pub(super) interest: Interest,
}

impl Hub {
    /// Opens a server's stream.
    pub(super) async fn listen(&self, part: &Part) -> Result<Opened, HubError> {
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
        let question = Question { method: method::LISTEN.into(), target: None };
        let recorded = self.record_question(permit, caller, &part.path, (question, asked.as_bytes())).await?;
        let outcome = OutcomeRecord::of_ask(self, recorded.permit(), caller, method::LISTEN.into());
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
    pub(super) fn follow(&self, part: Part, opened: Option<Opened>, outlet: Outlet, ends: CancellationToken) {
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
    hub: &Weak<Hub>,
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
    pub(super) fn new(drops: Drops) -> (Self, mpsc::Receiver<Heard>) {
        let (sender, news) = mpsc::channel(WAITING);
        (Self { sender, drops }, news)
    }

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

#[cfg(test)]
mod tests {
    use mcphub_wire::list::ListKind;

    use super::{Drops, Heard, Outlet, WAITING};

    #[test]
    fn so_much_news_waits_and_the_rest_is_lost() {
        let (outlet, mut news) = Outlet::new(Drops::default());
        let kinds = (0..WAITING).map(|_| ListKind::Tools).chain([ListKind::Prompts]);
        kinds.for_each(|kind| outlet.offer(Heard::List(kind)));
        for _ in 0..WAITING {
            assert_eq!(news.try_recv(), Ok(Heard::List(ListKind::Tools)));
        }
        assert!(news.try_recv().is_err());
        outlet.offer(Heard::List(ListKind::Resources));
        assert_eq!(news.try_recv(), Ok(Heard::List(ListKind::Resources)), "there is room again");
    }
}
