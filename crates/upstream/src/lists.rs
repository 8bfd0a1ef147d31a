//! Lists of servers, to their end: tools for the hub's own look, prompts, resources and templates for a person.

use std::sync::Arc;

use mcphub_domain::Server;
use mcphub_policy::{AskPermit, LookPermit, Recorded};
use mcphub_wire::answer::Cache;
use mcphub_wire::error::METHOD_NOT_FOUND;
use mcphub_wire::list::{Item, ListKind, ListPage};
use mcphub_wire::{Outcome, Raw};

use crate::bearer::Bearer;
use crate::catalog::{ToolDefinition, tidy};
use crate::error::{Blame, UpstreamError};
use crate::outgoing::Outgoing;
use crate::upstreams::{Access, Upstreams, send};

const PAGES: usize = 100;
const ITEMS: usize = 10_000;
const LIST_BYTES: usize = 32 * 1024 * 1024;

/// Is a whole list of a server.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The items, in the server's order.
    pub items: Vec<Item>,
    /// How long it may be kept, and by whom; a legacy server says nothing of it.
    pub cache: Option<Cache>,
}

impl Upstreams {
    /// Asks the server that the permit allows to ask for all its prompts, resources or templates. One that
    /// doesn't know the method has none.
    pub async fn list(
        self: &Arc<Self>,
        recorded: Recorded<AskPermit>,
        server: &Arc<Server>,
        access: Access,
        kind: ListKind,
    ) -> Result<List, UpstreamError> {
        let bearer = Bearer::of_ask(recorded.permit());
        self.pages(&bearer, server, access, kind).await
    }

    /// Asks the server that the permit allows a look at for all its tools.
    pub async fn list_tools(
        self: &Arc<Self>,
        recorded: Recorded<LookPermit>,
        server: &Arc<Server>,
        access: Access,
    ) -> Result<Vec<ToolDefinition>, UpstreamError> {
        let bearer = Bearer::of_look(recorded.permit());
        let List { items, .. } = self.pages(&bearer, server, access, ListKind::Tools).await?;
        Ok(tidy(server, &items))
    }

    /// Follows a list to its end.
    async fn pages(
        self: &Arc<Self>,
        bearer: &Bearer,
        server: &Arc<Server>,
        access: Access,
        kind: ListKind,
    ) -> Result<List, UpstreamError> {
        bearer.check(server, &access)?;
        let (blame, key) = (Blame(server.name.clone()), access.key);
        let (mut list, mut bytes, mut cursor) = (List::default(), 0, None);
        let mut trial = self.admit(server, &key, bearer.person)?;
        let lease = self.lease(server, access)?;
        for _ in 0..PAGES {
            let request = Outgoing::list(kind, cursor.as_deref());
            let answer = send(server, trial, lease.again(), request).await?.answer().await?;
            let is_modern = answer.version.is_modern();
            let Some(result) = list_of(&blame, kind, answer.outcome)? else { return Ok(list) };
            bytes += result.len();
            let page = ListPage::parse(kind, &result).map_err(|fault| blame.garbage(fault.to_string()))?;
            list.items.extend(page.items);
            let cache = page.cache.or(is_modern.then_some(Cache::NONE));
            list.cache = list.cache.zip(cache).map(|(one, other)| one.and(other)).or(cache);
            if bytes > LIST_BYTES || list.items.len() > ITEMS {
                let what = kind.member();
                return Err(blame.garbage(format!("it lists more than {ITEMS} {what} or {LIST_BYTES} bytes")));
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(list);
            }
            trial = self.admit(server, &key, bearer.person)?;
        }
        Err(blame.garbage(format!("its list has more than {PAGES} pages")))
    }
}

/// Reads the answer to a list's method. A server that doesn't know it has none of the kind.
fn list_of(blame: &Blame, kind: ListKind, outcome: Outcome) -> Result<Option<Raw>, UpstreamError> {
    match outcome {
        Outcome::Result(result) => Ok(Some(result)),
        Outcome::Error(error) if error.code == METHOD_NOT_FOUND => Ok(None),
        Outcome::Error(error) => {
            Err(blame.garbage(format!("it answered `{}` with error {}", kind.method(), error.code)))
        }
    }
}
