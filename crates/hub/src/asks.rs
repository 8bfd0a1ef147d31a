//! What servers offer beside tools: prompts, resources, and completions for both.

use std::sync::Arc;

use mcphub_domain::Server;
use mcphub_domain::audit::Refusal;
use mcphub_domain::tool::{LONGEST_SHARED_NAME, shared_name};
use mcphub_policy::{AskPermit, Endpoint, Recorded, World, decide};
use mcphub_store::audit::{Intent, Question};
use mcphub_upstream::{Reply, Wanted};
use mcphub_wire::list::ListKind;
use mcphub_wire::shared::{Carrier, own_uri};
use mcphub_wire::{Edit, Params, Reference, ReferenceKind, method};
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::client::Client;
use crate::error::HubError;
use crate::hub::Hub;
use crate::lease::Lease;
use crate::limits::Place;
use crate::offers::Entrance;
use crate::running::{OutcomeRecord, Running, SharedBy, status_of};
use crate::tasks::Task;
use crate::values::SealedValues;

/// How much of a prompt's name or a resource's URI a record repeats, in characters.
const LONGEST_TARGET: usize = 160;
/// From which length on a name may be a shortened one: it is cut between two characters.
const SHORTENED: usize = LONGEST_SHARED_NAME - 3;

/// Is a question as it came in, its envelope parsed.
#[derive(Debug)]
pub struct Ask {
    /// The endpoint that it came to.
    pub endpoint: Endpoint,
    /// The endpoint's path, for the log.
    pub path: String,
    /// What is asked for, by its name on that endpoint.
    pub about: About,
    /// The request's parameters.
    pub params: Params,
    /// Whom the server may ask something in return.
    pub client: Client,
}

/// Says what a question is about.
#[derive(Debug)]
pub enum About {
    /// A prompt, by its name.
    Prompt(String),
    /// A resource, by its URI.
    Resource(String),
    /// A completion for an argument of either.
    Completion(Reference),
    /// A task that a call began, by the id that the hub gave it.
    Task {
        /// What is to be done: the method.
        method: &'static str,
        /// Its id.
        id: String,
    },
    /// Something that the hub doesn't know, on one server's own endpoint: the method.
    Other(String),
}

/// Says what a server calls the thing that is asked for.
enum Own {
    /// What its own endpoint calls it.
    Same,
    /// What is left of its name on an endpoint that servers share, without the server.
    Rest(String),
    /// The task that its name holds, with which something is to be done: the method.
    Task(&'static str, Task),
}

/// Is a question that may be sent.
struct Allowed {
    permit: AskPermit,
    server: Arc<Server>,
    wanted: Wanted,
    values: SealedValues,
    place: Place,
}

impl Hub {
    /// Asks a server for a prompt, a resource or a completion on behalf of `caller`.
    ///
    /// The order is that of a call: decide, record, unseal, send.
    pub async fn ask(&self, caller: &Caller, ask: Ask) -> Result<Running, HubError> {
        let world = self.snapshot.fresh()?; // too old to trust = refuse
        let allowed = self.allow(&world, caller, &ask).await?; // owner, rights, limits, credentials; a refusal is recorded inside
        let Allowed { permit, server, wanted, values, place } = allowed;
        let lease = self.lease_ask(&permit);
        let shared = ask.about.carrier().and_then(|carrier| SharedBy::of(ask.endpoint, &server, carrier));
        let recorded = self.record_ask(permit, caller, &ask, &wanted).await?; // durable before anything leaves the hub
        let outcome = OutcomeRecord::of_ask(self, recorded.permit(), caller, wanted.method());
        let reply = tokio::select! {
            biased;
            () = lease.revoked() => Err(HubError::Revoked),
            reply = self.send_ask(recorded, (server, values), wanted, ask) => reply, // unseal, send
        };
        match reply {
            Ok(reply) => Ok(Running { reply, lease, outcome, shared, began: None, _place: place }),
            Err(error) => {
                outcome.end(status_of(&error));
                Err(error)
            }
        }
    }

    async fn allow(&self, world: &World, caller: &Caller, ask: &Ask) -> Result<Allowed, HubError> {
        let allowed = self.clear_ask(world, caller, ask).await;
        if let Err(error) = &allowed {
            self.record_ask_refusal(caller, ask, error).await;
        }
        allowed
    }

    async fn clear_ask(&self, world: &World, caller: &Caller, ask: &Ask) -> Result<Allowed, HubError> {
        self.seal.open()?;
        let now = self.clock.now();
        let nobodys = || decide::refuse(caller.principal, Refusal::UnknownOffer, Some(&ask.about.target()));
        let (permit, server, own) = match &ask.about {
            About::Task { method, id } => {
                let task = self.open_task(caller, ask.entrance(), id).ok_or_else(nobodys)?;
                let permit = decide::task(world, caller.principal, ask.endpoint, &task.tool, now)?;
                let entry = world
                    .server(permit.server())
                    .filter(|entry| entry.server().id.to_string() == task.server);
                (permit, entry.ok_or_else(nobodys)?.share(), Own::Task(method, task))
            }
            about => {
                let (server, own) = owner(world, ask).ok_or_else(nobodys)?;
                let permit = match about {
                    About::Other(_) => decide::ask_anything(world, caller.principal, server.id, now)?,
                    _ => decide::ask(world, caller.principal, ask.endpoint, server.id, now)?,
                };
                (permit, server, own)
            }
        };
        let place =
            self.limits.charge(permit.user(), now).map_err(|after| HubError::RateLimited { after })?;
        let values = self.find_values(permit.user(), &server, &server.definition.needs()).await?;
        let wanted = match own {
            Own::Same => ask.about.unchanged(),
            Own::Rest(own) => {
                let whole = self.unshortened(caller, ask, &server).await?;
                ask.about.renamed(&whole.unwrap_or(own))?
            }
            Own::Task(method, task) => self.ask_about(task, method)?,
        };
        Ok(Allowed { permit, server, wanted, values, place })
    }

    /// Finds the prompt that a name stands for which may have been too long for a shared endpoint.
    async fn unshortened(
        &self,
        caller: &Caller,
        ask: &Ask,
        server: &Arc<Server>,
    ) -> Result<Option<String>, HubError> {
        let name = ask.about.whole_target();
        let is_prompt = matches!(&ask.about, About::Prompt(_))
            || matches!(&ask.about, About::Completion(about) if about.kind() == ReferenceKind::Prompt);
        if !is_prompt || name.len() < SHORTENED {
            return Ok(None);
        }
        let listed = Box::pin(self.offers_of(caller, ask.entrance(), server, ListKind::Prompts)).await?;
        let is_meant = |prompt: &&str| shared_name(&server.name, prompt) == name;
        Ok(listed.items.iter().map(|prompt| prompt.name()).find(is_meant).map(str::to_owned))
    }

    async fn record_ask_refusal(&self, caller: &Caller, ask: &Ask, error: &HubError) {
        let reason = match error {
            HubError::Denied(denial) => denial.reason(),
            HubError::RateLimited { .. } => Refusal::RateLimited,
            HubError::MissingCredential(_) => Refusal::MissingCredential,
            HubError::Sealed => Refusal::Sealed,
            _ => return,
        };
        let server = owner(&self.snapshot.newest(), ask).map(|(server, _)| server.id);
        let denial = decide::refuse(caller.principal, reason, Some(&ask.about.target())).of_server(server);
        let method = ask.about.unchanged().method();
        match reason {
            Refusal::RateLimited => self.floods.note_known(self, caller, denial, &method).await,
            _ => self.record(caller, denial.into_event(&method)).await,
        }
    }

    async fn record_ask(
        &self,
        permit: AskPermit,
        caller: &Caller,
        ask: &Ask,
        wanted: &Wanted,
    ) -> Result<Recorded<AskPermit>, HubError> {
        // All that is asked: which member says what is not for the client to choose.
        let asked = Edit::new().remove("_meta").apply_to_params(Some(&ask.params));
        let asked = asked.as_ref().map_or(&b""[..], |raw| raw.as_bytes());
        // A task's own name says nothing to who reads the log; the tool that began it does.
        let target = permit.task_of().map_or_else(|| ask.about.target(), str::to_owned);
        let question = Question { method: wanted.method(), target: Some(target) };
        self.record_question(permit, caller, &ask.path, (question, asked)).await
    }

    /// Makes the record of a question durable, with a digest of what is asked, before anything leaves the hub.
    pub(crate) async fn record_question(
        &self,
        permit: AskPermit,
        caller: &Caller,
        path: &str,
        (question, asked): (Question, &[u8]),
    ) -> Result<Recorded<AskPermit>, HubError> {
        let intent = Intent {
            request: caller.request,
            endpoint: path.to_owned(),
            arguments: hex::encode(Sha256::digest(asked)),
            personal: self.personal_of(caller).await?,
        };
        let recorded = self.audit.open_ask(permit, question, intent).await?;
        caller.note_record();
        Ok(recorded)
    }

    async fn send_ask(
        &self,
        recorded: Recorded<AskPermit>,
        (server, values): (Arc<Server>, SealedValues),
        wanted: Wanted,
        ask: Ask,
    ) -> Result<Reply, HubError> {
        let user = recorded.permit().user();
        let (used, at) = (values.account().map(|row| row.revision), Arc::clone(&server));
        let client = self.within(ask.client.about);
        let access = self.access(&server, Some(user), &client, values)?;
        let question = mcphub_upstream::Question { server, access, wanted, params: ask.params, client };
        match self.upstreams.ask(recorded, question).await {
            Ok(reply) => Ok(reply),
            Err(error) => Err(Box::pin(self.explain_refusal(user, &at, (used, error))).await),
        }
    }

    /// Leases the question, and decides it once more if the world moved on since the permit.
    pub(crate) fn lease_ask(&self, permit: &AskPermit) -> Lease {
        let lease = self.leases.ask(permit);
        let newest = self.snapshot.newest();
        if newest.revision() != permit.world() {
            self.leases.review_one(&lease, &newest, self.clock.now());
        }
        lease
    }
}

/// Finds whose the thing is that is asked for, and what that server calls it.
fn owner(world: &World, ask: &Ask) -> Option<(Arc<Server>, Own)> {
    let share = |server| Some(world.server(decide::owner(world, ask.endpoint, server)?)?.share());
    if let Endpoint::Server(_) = ask.endpoint {
        return Some((share(None)?, Own::Same));
    }
    let target = ask.about.whole_target();
    let (server, own) = match ask.about.kind() {
        ReferenceKind::Resource => own_uri(target)?,
        ReferenceKind::Prompt => target.split_once("__").map(|(server, own)| (server, own.to_owned()))?,
    };
    Some((share(Some(server))?, Own::Rest(own)))
}

impl Ask {
    fn entrance(&self) -> Entrance<'_> {
        Entrance { endpoint: self.endpoint, path: &self.path, client: &self.client }
    }
}

impl About {
    const fn kind(&self) -> ReferenceKind {
        match self {
            Self::Prompt(_) | Self::Task { .. } | Self::Other(_) => ReferenceKind::Prompt,
            Self::Resource(_) => ReferenceKind::Resource,
            Self::Completion(reference) => reference.kind(),
        }
    }

    fn whole_target(&self) -> &str {
        match self {
            Self::Prompt(target) | Self::Resource(target) => target,
            Self::Task { id, .. } => id,
            Self::Completion(reference) => reference.target(),
            Self::Other(_) => "",
        }
    }

    /// Is what a record shows of the target.
    fn target(&self) -> String {
        let target = self.whole_target();
        let shown = match self.kind() {
            ReferenceKind::Prompt => target.to_owned(),
            ReferenceKind::Resource => without_secrets(target),
        };
        shown.chars().take(LONGEST_TARGET).collect()
    }

    fn unchanged(&self) -> Wanted {
        match self {
            Self::Prompt(name) => Wanted::Prompt(name.as_str().into()),
            Self::Resource(uri) => Wanted::Resource(uri.as_str().into()),
            Self::Completion(reference) => Wanted::Completion(reference.raw().clone()),
            Self::Task { method, id } => Wanted::Task { method, id: id.as_str().into(), progress: None },
            Self::Other(method) => Wanted::Other(method.as_str().into()),
        }
    }

    fn renamed(&self, own: &str) -> Result<Wanted, HubError> {
        Ok(match self {
            Self::Prompt(_) => Wanted::Prompt(own.into()),
            Self::Resource(_) => Wanted::Resource(own.into()),
            Self::Task { .. } | Self::Other(_) => self.unchanged(),
            Self::Completion(reference) => {
                let renamed = reference.renamed(own);
                Wanted::Completion(renamed.map_err(|fault| HubError::Internal(fault.to_string()))?)
            }
        })
    }

    fn carrier(&self) -> Option<Carrier> {
        match self {
            Self::Prompt(_) => Some(Carrier::Messages),
            Self::Resource(_) => Some(Carrier::Contents),
            Self::Task { method: method::TASKS_RESULT, .. } => Some(Carrier::Content),
            Self::Task { .. } => Some(Carrier::Task),
            Self::Completion(_) | Self::Other(_) => None,
        }
    }
}

/// Leaves out of a URI what may hold what nobody should log: who somebody is there, the query, the fragment.
fn without_secrets(uri: &str) -> String {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = uri.split_once("//") else { return uri.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}//{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn a_record_shows_no_uri_with_its_secrets() {
        for (uri, shown) in [
            ("repo://owner/name", "repo://owner/name"),
            ("git+postgres://bob:p@ss@db/x?sslkey=k#f", "git+postgres://db/x"),
            ("https://token@host", "https://host"),
            ("https://host/a@b", "https://host/a@b"),
            ("urn:x?token=1", "urn:x"),
            ("file:///a", "file:///a"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(uri), shown);
        }
    }
}
