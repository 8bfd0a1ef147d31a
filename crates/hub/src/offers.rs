//! Lists of what servers offer beside tools.

use std::sync::Arc;
use std::time::Duration;

use mcphub_domain::audit::{CallStatus, Refusal};
use mcphub_domain::tool::shared_name;
use mcphub_domain::{Server, ServerName};
use mcphub_policy::{Endpoint, World, decide};
use mcphub_store::audit::Question;
use mcphub_upstream::UpstreamError;
use mcphub_wire::Raw;
use mcphub_wire::list::{Item, ListKind};
use mcphub_wire::shared::shared_uri;
use tokio::time::{Instant, timeout};

use crate::caller::Caller;
use crate::client::Client;
use crate::discovery::FIRST_LIST;
use crate::error::{HubError, again_if_renewed};
use crate::hub::Hub;
use crate::limits::Place;
use crate::listing::{Absence, absence, endpoint_name};
use crate::running::{OutcomeRecord, status_of};
use crate::shelf::{Shelved, UNSAID};

/// Is a list of prompts, resources or templates, whole and in a fixed order.
#[derive(Debug, Default)]
pub struct Offers {
    /// The items, by their names on the endpoint.
    pub items: Vec<Offer>,
    /// The servers whose items are not there.
    pub absent: Vec<Absence>,
    /// For how long all of it is good, as far as the servers say, and at most a minute: rights may change.
    pub fresh: Duration,
}

/// Is a prompt, a resource or a template as an endpoint shows it.
#[derive(Debug)]
pub struct Offer {
    /// Its name there.
    pub name: Box<str>,
    /// The whole of it.
    pub item: Raw,
}

/// Is the endpoint that a request came to.
#[derive(Clone, Copy, Debug)]
pub struct Entrance<'a> {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its path, for the log.
    pub path: &'a str,
    /// The client, whose abilities may decide what a server offers.
    pub client: &'a Client,
}

impl Hub {
    /// Lists the prompts, resources or templates that the caller may read on an endpoint; it counts as a call.
    ///
    /// What servers let the hub keep isn't asked for again. All others are asked at the same time, for at most ten
    /// seconds, so that one that doesn't answer hides only its own. What the caller may not read any more when the last has answered is not in the list.
    pub async fn list_offers(
        &self,
        caller: &Caller,
        entrance: Entrance<'_>,
        kind: ListKind,
    ) -> Result<Offers, HubError> {
        self.seal.open()?;
        let _place = self.charge_list(caller, kind).await?;
        let readable =
            |world: &World| decide::readable(world, caller.principal, entrance.endpoint, self.clock.now());
        let world = self.snapshot.fresh()?;
        let servers = readable(&world).into_iter().filter_map(|id| Some(world.server(id)?.share()));
        let asked = servers.map(|server| async move {
            (Box::pin(self.offers_of(caller, entrance, &server, kind)).await, server)
        });
        let answers = futures_util::future::join_all(asked).await;
        let still = readable(&*self.snapshot.fresh()?);
        let mut offers = Offers { fresh: UNSAID, ..Offers::default() };
        for (listed, server) in answers.into_iter().filter(|(_, server)| still.contains(&server.id)) {
            match listed {
                Ok(Shelved { items, fresh }) => {
                    offers.items.extend(items.iter().map(|item| shown(entrance, &server.name, kind, item)));
                    offers.fresh = offers.fresh.min(fresh);
                }
                Err(error) => {
                    offers.absent.push(absence(server.name.clone(), error));
                    offers.fresh = Duration::ZERO;
                }
            }
        }
        let target = endpoint_name(&world, entrance.endpoint);
        self.record_read(caller, kind.method(), target.as_deref(), offers.items.len()).await;
        Ok(offers)
    }

    async fn charge_list(&self, caller: &Caller, kind: ListKind) -> Result<Option<Place>, HubError> {
        let Some(user) = caller.principal.user() else { return Ok(None) };
        match self.limits.charge(user, self.clock.now()) {
            Ok(place) => Ok(Some(place)),
            Err(after) => {
                let denial = decide::refuse(caller.principal, Refusal::RateLimited, None);
                self.floods.note_known(self, caller, denial, kind.method()).await;
                Err(HubError::RateLimited { after })
            }
        }
    }

    /// Lists what one server offers.
    pub(crate) async fn offers_of(
        &self,
        caller: &Caller,
        entrance: Entrance<'_>,
        server: &Arc<Server>,
        kind: ListKind,
    ) -> Result<Shelved, HubError> {
        again_if_renewed(|| Box::pin(self.offers_once(caller, entrance, server, kind))).await
    }

    /// Lists it once, in the order of a call: decide, record, unseal, send. Nothing is sent for what is on the shelf.
    async fn offers_once(
        &self,
        caller: &Caller,
        entrance: Entrance<'_>,
        server: &Arc<Server>,
        kind: ListKind,
    ) -> Result<Shelved, HubError> {
        let world = self.snapshot.fresh()?;
        let permit = decide::ask(&world, caller.principal, entrance.endpoint, server.id, self.clock.now())?;
        let values = self.find_values(permit.user(), server, &server.definition.needs()).await?;
        let user = permit.user();
        let used = values.account().map(|row| row.revision);
        let access = self.access(server, Some(user), &entrance.client.about, values)?;
        let place = (access.key, kind);
        let asked = match self.shelf.find(place, Instant::now()) {
            Ok(shelved) => return Ok(shelved),
            Err(asked) => asked,
        };
        let lease = self.lease_ask(&permit);
        let question = Question { method: kind.method().into(), target: None };
        let recorded = self.record_question(permit, caller, entrance.path, (question, b"")).await?;
        let mut outcome = OutcomeRecord::of_ask(self, recorded.permit(), caller, kind.method().into());
        let listed = async {
            match self.upstreams.list(recorded, server, access, kind).await {
                Ok(list) => Ok(list),
                Err(error) => Err(Box::pin(self.explain_refusal(user, server, (used, error))).await),
            }
        };
        let late = || UpstreamError::TimedOut { server: server.name.clone(), after: FIRST_LIST };
        let listed = async { timeout(FIRST_LIST, listed).await.unwrap_or_else(|_| Err(late().into())) };
        let listed = tokio::select! {
            biased;
            () = lease.revoked() => Err(HubError::Revoked),
            listed = listed => listed,
        };
        if let Ok(list) = &listed {
            outcome.add(list.items.iter().map(|item| item.raw().len()).sum());
        }
        outcome.end(listed.as_ref().map_or_else(status_of, |_| CallStatus::Ok));
        listed.map(|list| self.shelf.keep(place, list, (asked, Instant::now())))
    }
}

/// Writes an item under its name on an endpoint.
fn shown(entrance: Entrance<'_>, server: &ServerName, kind: ListKind, item: &Item) -> Offer {
    if let Endpoint::Server(_) = entrance.endpoint {
        return Offer { name: item.name().into(), item: item.raw().clone() };
    }
    let name = match kind {
        ListKind::Tools | ListKind::Prompts => shared_name(server, item.name()),
        ListKind::Resources | ListKind::Templates => shared_uri(server.as_str(), item.name()),
    };
    Offer { item: item.renamed(&name), name: name.into() }
}
