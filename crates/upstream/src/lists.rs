//! Lists of servers, to their end: tools for the hub's own look, prompts, resources and templates for a person.

use std::sync::Arc;

use mcphub_domain::{Server, ServerId, UserId};
use mcphub_policy::{AskPermit, LookPermit, Recorded};
use mcphub_wire::error::METHOD_NOT_FOUND;
use mcphub_wire::list::{Item, ListKind, ListPage};
use mcphub_wire::{Outcome, Raw};

use crate::catalog::{ToolDefinition, tidy};
use crate::error::{Blame, UpstreamError};
use crate::outgoing::Outgoing;
use crate::upstreams::{Access, Upstreams, send};

const PAGES: usize = 100;
const ITEMS: usize = 10_000;
const LIST_BYTES: usize = 32 * 1024 * 1024;

impl Upstreams {
    /// Asks the server that the permit allows to ask for all its prompts, resources or templates. One that
    /// doesn't know the method has none.
    pub async fn list(
        self: &Arc<Self>,
        recorded: Recorded<AskPermit>,
        server: &Arc<Server>,
        access: Access,
        kind: ListKind,
    ) -> Result<Vec<Item>, UpstreamError> {
        let reader = Reader::of_ask(recorded.permit());
        self.pages(&reader, server, access, kind).await
    }

    /// Asks the server that the permit allows a look at for all its tools.
    pub async fn list_tools(
        self: &Arc<Self>,
        recorded: Recorded<LookPermit>,
        server: &Arc<Server>,
        access: Access,
    ) -> Result<Vec<ToolDefinition>, UpstreamError> {
        let reader = Reader::of_look(recorded.permit());
        let items = self.pages(&reader, server, access, ListKind::Tools).await?;
        Ok(tidy(&server.name, &items))
    }

    /// Follows a list to its end.
    async fn pages(
        self: &Arc<Self>,
        reader: &Reader,
        server: &Arc<Server>,
        access: Access,
        kind: ListKind,
    ) -> Result<Vec<Item>, UpstreamError> {
        reader.check(server, &access)?;
        let (blame, key) = (Blame(server.name.clone()), access.key);
        let (mut items, mut bytes, mut cursor) = (Vec::new(), 0, None);
        let mut trial = self.admit(server, &key, reader.person)?;
        let lease = self.lease(server, access)?;
        for _ in 0..PAGES {
            let request = Outgoing::list(kind, cursor.as_deref());
            let answer = send(server, trial, lease.again(), request).await?.answer().await?;
            let Some(result) = list_of(&blame, kind, answer.outcome)? else { return Ok(items) };
            bytes += result.len();
            let page = ListPage::parse(kind, &result).map_err(|fault| blame.garbage(fault.to_string()))?;
            items.extend(page.items);
            if bytes > LIST_BYTES || items.len() > ITEMS {
                let what = kind.member();
                return Err(blame.garbage(format!("it lists more than {ITEMS} {what} or {LIST_BYTES} bytes")));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
            trial = self.admit(server, &key, reader.person)?;
        }
        Err(blame.garbage(format!("its list has more than {PAGES} pages")))
    }
}

/// Is whom a permit lets ask a server for more than a tool, and in which of its revisions.
pub(crate) struct Reader {
    server: ServerId,
    revision: i64,
    /// Whose values go with it; nobody's where the shared ones suffice.
    person: Option<UserId>,
}

impl Reader {
    pub(crate) const fn of_ask(permit: &AskPermit) -> Self {
        let (server, revision) = (permit.server(), permit.server_revision());
        Self { server, revision, person: Some(permit.user()) }
    }

    const fn of_look(permit: &LookPermit) -> Self {
        Self { server: permit.server(), revision: permit.server_revision(), person: permit.user() }
    }

    /// Checks that this is the server, and that the connection and the caller's identity are that person's.
    pub(crate) fn check(&self, server: &Server, access: &Access) -> Result<(), UpstreamError> {
        let key = &access.key;
        let same_server = self.server == server.id && key.server == server.id;
        let same_revision = self.revision == server.revision && key.revision == server.revision;
        let same_person = match key.scope.user() {
            Some(user) => self.person == Some(user),
            None => !server.definition.is_personal(),
        };
        let same_caller = access.caller.is_none_or(|caller| self.person == Some(caller));
        if same_server && same_revision && same_person && same_caller {
            Ok(())
        } else {
            Err(UpstreamError::WrongPermit { server: server.name.clone() })
        }
    }
}

/// Reads the answer to a list's method. A server without prompts or resources doesn't know it, and has none;
/// one without tools is no server.
fn list_of(blame: &Blame, kind: ListKind, outcome: Outcome) -> Result<Option<Raw>, UpstreamError> {
    match outcome {
        Outcome::Result(result) => Ok(Some(result)),
        Outcome::Error(error) if error.code == METHOD_NOT_FOUND && kind != ListKind::Tools => Ok(None),
        Outcome::Error(error) => {
            Err(blame.garbage(format!("it answered `{}` with error {}", kind.method(), error.code)))
        }
    }
}
