//! The main job: one tool call.

use std::collections::BTreeMap;
use std::sync::Arc;

use mcphub_domain::audit::Refusal;
use mcphub_domain::{Principal, Server, Timestamp, UserId};
use mcphub_policy::{Denial, Endpoint, Permit, Recorded, World, decide};
use mcphub_store::audit::Intent;
use mcphub_upstream::{Client as AboutClient, Reply};
use mcphub_wire::mirror::Arguments;
use mcphub_wire::shared::Carrier;
use mcphub_wire::{Edit, Params, input};
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::client::Client;
use crate::error::HubError;
use crate::hub::Hub;
use crate::lease::Lease;
use crate::limits::Place;
use crate::running::{OutcomeRecord, Running, SharedBy, status_of};
use crate::values::SealedValues;

/// Is a `tools/call` as it came in, its envelope parsed, its arguments raw.
#[derive(Debug)]
pub struct ToolCall {
    /// The endpoint that it came to.
    pub endpoint: Endpoint,
    /// The endpoint's path, for the log.
    pub path: String,
    /// The tool, by its name on that endpoint.
    pub name: String,
    /// The request's parameters.
    pub params: Params,
    /// Whom the server may ask something in return.
    pub client: Client,
}

/// Is a call that may be sent: decided, charged, and with its sealed values at hand.
pub(crate) struct Cleared {
    pub(crate) permit: Permit,
    pub(crate) values: SealedValues,
    pub(crate) server: Arc<Server>,
    place: Place,
}

impl Hub {
    /// Runs one tool on behalf of `caller`.
    ///
    /// The order is the security argument: decide, record, unseal, send.
    pub async fn call_tool(&self, caller: &Caller, mut call: ToolCall) -> Result<Running, HubError> {
        let now = self.clock.now();
        let world = self.snapshot.fresh()?; // too old to trust = refuse
        let cleared = self.permit(&world, caller, &call, now).await?; // route, rights, limits, credentials; a refusal is recorded inside
        let lease = self.lease(&cleared.permit, &call.name);
        let shared = SharedBy::of(call.endpoint, &cleared.server, Carrier::Content);
        let began = Some((cleared.server.id, std::mem::take(&mut call.name)));
        let recorded = self.record_intent(cleared.permit, caller, &call).await?; // durable before the effect
        let outcome = OutcomeRecord::of(self, recorded.permit(), caller, now);
        let reply = tokio::select! {
            biased;
            () = lease.revoked() => Err(HubError::Revoked),
            reply = self.dispatch(recorded, cleared.server, cleared.values, call) => reply, // unseal, send
        };
        match reply {
            Ok(reply) => Ok(Running { reply, lease, outcome, shared, began, _place: cleared.place }),
            Err(error) => {
                outcome.end(status_of(&error));
                Err(error)
            }
        }
    }

    pub(crate) async fn permit(
        &self,
        world: &World,
        caller: &Caller,
        call: &ToolCall,
        now: Timestamp,
    ) -> Result<Cleared, HubError> {
        let mut cleared = self.clear(world, caller, call, now).await;
        if is_unknown(&cleared) {
            match Box::pin(self.take_up_first(caller, call.endpoint, &call.name)).await {
                Ok(false) => {}
                Ok(true) => {
                    let world = self.snapshot.fresh()?;
                    cleared = Box::pin(self.clear(&world, caller, call, self.clock.now())).await;
                }
                Err(error) => cleared = Err(error),
            }
        }
        if let Err(error) = &cleared
            && let Some(denial) = denial_of(error, &self.snapshot.newest(), caller.principal, call)
        {
            match denial.reason() {
                Refusal::RateLimited => {
                    Box::pin(self.floods.note_known(self, caller, denial, "tools/call")).await;
                }
                _ => Box::pin(self.record(caller, denial.into_event("tools/call"))).await,
            }
        }
        cleared
    }

    async fn clear(
        &self,
        world: &World,
        caller: &Caller,
        call: &ToolCall,
        now: Timestamp,
    ) -> Result<Cleared, HubError> {
        self.seal.open()?;
        let permit = decide::call(world, caller.principal, call.endpoint, &call.name, now)?;
        let place =
            self.limits.charge(permit.user(), now).map_err(|after| HubError::RateLimited { after })?;
        self.compare_headers(&permit, call)?;
        let entry = world.server(permit.route().server).ok_or_else(|| gone(&permit))?;
        let server = entry.share();
        let values = self.find_values(permit.user(), &server, entry.needs()).await?;
        self.look_again(permit.user(), &server);
        Ok(Cleared { permit, values, server, place })
    }

    /// Refuses a call whose headers say something else than its arguments which they repeat.
    fn compare_headers(&self, permit: &Permit, call: &ToolCall) -> Result<(), HubError> {
        let Some(headers) = &call.client.headers else { return Ok(()) };
        let route = permit.route();
        let Some(mirrored) = self.catalog.mirrored(route.server, &route.tool) else { return Ok(()) };
        let arguments = Arguments::read(call.params.arguments());
        mirrored.iter().try_for_each(|one| one.check(&arguments, headers)).map_err(HubError::HeaderMismatch)
    }

    pub(crate) async fn record_intent(
        &self,
        permit: Permit,
        caller: &Caller,
        call: &ToolCall,
    ) -> Result<Recorded, HubError> {
        // What a further round brings back reaches the server as well.
        let whole = input::is_further_round(&call.params)
            .then(|| Edit::new().remove("_meta").apply_to_params(Some(&call.params)))
            .flatten();
        let asked = whole.as_ref().or(call.params.arguments());
        let arguments = asked.map_or(&b""[..], |raw| raw.as_bytes());
        let intent = Intent {
            request: caller.request,
            endpoint: call.path.clone(),
            arguments: hex::encode(Sha256::digest(arguments)),
            personal: self.personal_of(caller).await?,
        };
        let recorded = self.audit.open(permit, intent).await?;
        caller.note_record();
        Ok(recorded)
    }

    /// Unseals and sends. It is no async function, which would hold its arguments twice, and yet does nothing before it is
    /// polled: a right that has ended is noticed before.
    pub(crate) fn dispatch(
        &self,
        recorded: Recorded,
        server: Arc<Server>,
        sealed: SealedValues,
        call: ToolCall,
    ) -> impl Future<Output = Result<Reply, HubError>> {
        let (user, at) = (recorded.permit().user(), Arc::clone(&server));
        async move {
            let used = sealed.account().map(|row| row.revision);
            let call = self.prepare(recorded.permit(), server, sealed, call)?;
            // Boxed: else its state would be moved with that of each function around it.
            match Box::pin(self.upstreams.call_tool(recorded, call)).await {
                Ok(reply) => Ok(reply),
                Err(error) => Err(Box::pin(self.explain_refusal(user, &at, (used, error))).await),
            }
        }
    }

    /// Finds the way to the server, and what the call says there.
    fn prepare(
        &self,
        permit: &Permit,
        server: Arc<Server>,
        sealed: SealedValues,
        call: ToolCall,
    ) -> Result<mcphub_upstream::ToolCall, HubError> {
        let client = self.within(call.client.about);
        let access = self.access(&server, Some(permit.user()), &client, sealed)?;
        let route = permit.route();
        let mirrored = self.catalog.mirrored(route.server, &route.tool);
        Ok(mcphub_upstream::ToolCall { server, access, params: call.params, mirrored, client })
    }

    /// Begins a span of the hub's own within the trace that a request belongs to.
    pub(crate) fn within(&self, client: AboutClient) -> AboutClient {
        let trace = client.trace.map(|trace| {
            let span = trace.child(self.entropy.bytes());
            tracing::debug!(within = %trace.parent(), span = %span.parent(), "a request goes to a server");
            span
        });
        AboutClient { trace, ..client }
    }

    /// Leases the call, and decides it once more if the world moved on since the permit.
    fn lease(&self, permit: &Permit, name: &str) -> Lease {
        let lease = self.leases.call(permit, name);
        let newest = self.snapshot.newest();
        if newest.revision() != permit.world() {
            self.leases.review_one(&lease, &newest, self.clock.now());
        }
        lease
    }

    pub(crate) async fn personal_of(&self, caller: &Caller) -> Result<BTreeMap<UserId, String>, HubError> {
        let Some(user) = caller.principal.user() else { return Ok(BTreeMap::new()) };
        let vault = &self.seal.open()?.vault;
        self.personal.seal(vault, user, caller.personal_fields()).await
    }
}

/// Says whether a call failed because nobody has listed its server yet, or the tool doesn't exist.
fn is_unknown<T>(cleared: &Result<T, HubError>) -> bool {
    matches!(cleared, Err(HubError::Denied(denial)) if denial.reason() == Refusal::UnknownTool)
}

/// Says which refusal an error is, for the log. What isn't a refusal is no record of its own.
fn denial_of(error: &HubError, world: &World, principal: Principal, call: &ToolCall) -> Option<Denial> {
    let refuse = |reason| Some(decide::refuse_call(world, principal, call.endpoint, reason, &call.name));
    match error {
        HubError::Denied(denial) => Some(denial.clone()),
        HubError::RateLimited { .. } => refuse(Refusal::RateLimited),
        HubError::MissingCredential(_) => refuse(Refusal::MissingCredential),
        HubError::Sealed => refuse(Refusal::Sealed),
        HubError::HeaderMismatch(_) => refuse(Refusal::Malformed),
        // Nobody knows what tools its server has, so there was nothing to decide.
        HubError::Upstream(_) => refuse(Refusal::UnknownTool),
        _ => None,
    }
}

fn gone(permit: &Permit) -> HubError {
    HubError::NotFound { what: format!("server {}", permit.route().server_name) }
}
