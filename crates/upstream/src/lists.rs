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

/// Is a list as far as it has come.
#[derive(Default)]
struct Collected {
    list: List,
    bytes: usize,
    pages: usize,
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
        let (mut collected, mut cursor) = (Collected::default(), None);
        let mut trial = self.admit(server, &key, bearer.person)?;
        let lease = self.lease(server, access)?;
        loop {
            let request = Outgoing::list(kind, cursor.as_deref());
            let answer = send(server, trial, lease.again(), request).await?.answer().await?;
            let is_modern = answer.version.is_modern();
            let Some(result) = list_of(&blame, kind, answer.outcome)? else { return Ok(collected.list) };
            let mut page =
                ListPage::parse(kind, &result).map_err(|fault| blame.garbage(fault.to_string()))?;
            page.cache = page.cache.or(is_modern.then_some(Cache::NONE));
            cursor = collected.take(kind, page, result.len()).map_err(|reason| blame.garbage(reason))?;
            if cursor.is_none() {
                return Ok(collected.list);
            }
            trial = self.admit(server, &key, bearer.person)?;
        }
    }
}

impl Collected {
    /// Takes in a page of so many bytes and returns where the next one begins, or says what is too much.
    fn take(&mut self, kind: ListKind, page: ListPage, size: usize) -> Result<Option<Box<str>>, String> {
        let list = &mut self.list;
        self.bytes += size;
        self.pages += 1;
        list.items.extend(page.items);
        list.cache = list.cache.zip(page.cache).map(|(one, other)| one.and(other)).or(page.cache);
        if self.bytes > LIST_BYTES || list.items.len() > ITEMS {
            return Err(format!("it lists more than {ITEMS} {} or {LIST_BYTES} bytes", kind.member()));
        }
        match page.next_cursor {
            Some(_) if self.pages == PAGES => Err(format!("its list has more than {PAGES} pages")),
            next => Ok(next),
        }
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

#[cfg(test)]
mod tests {
    use super::{Collected, ITEMS, Item, LIST_BYTES, ListKind, ListPage, PAGES, Raw};

    /// Is a page of so many items.
    fn page(items: usize) -> ListPage {
        let tool = Raw::json(&serde_json::json!({ "name": "a" })).unwrap();
        let item = Item::parse(ListKind::Tools, &tool).unwrap();
        ListPage { items: vec![item; items], ..ListPage::default() }
    }

    /// Takes pages of so many items and bytes, one after the other, and says what came of the last one.
    fn taken(pages: &[(usize, usize)]) -> Result<usize, String> {
        let mut collected = Collected::default();
        for (items, size) in pages {
            collected.take(ListKind::Tools, page(*items), *size)?;
        }
        Ok(collected.list.items.len())
    }

    #[test]
    fn a_list_is_as_long_as_it_may_be_and_no_longer() {
        let refused = Err(format!("it lists more than {ITEMS} tools or {LIST_BYTES} bytes"));
        assert_eq!(taken(&[(ITEMS, 1)]), Ok(ITEMS));
        assert_eq!(taken(&[(ITEMS - 1, 1), (1, 1)]), Ok(ITEMS));
        assert_eq!(taken(&[(ITEMS + 1, 1)]), refused);
        assert_eq!(taken(&[(ITEMS - 1, 1), (2, 1)]), refused);
        assert_eq!(taken(&[(1, LIST_BYTES)]), Ok(1));
        assert_eq!(taken(&[(1, LIST_BYTES - 1), (1, 1)]), Ok(2));
        assert_eq!(taken(&[(1, LIST_BYTES + 1)]), refused);
        assert_eq!(taken(&[(1, LIST_BYTES - 1), (1, 2)]), refused);
    }

    #[test]
    fn a_list_has_so_many_pages_and_no_more() {
        let next = || Some(Box::from("next"));
        let last = |next_cursor: Option<Box<str>>| {
            let mut collected = Collected::default();
            let mut take = |page| collected.take(ListKind::Tools, page, 1);
            for _ in 1..PAGES {
                assert_eq!(take(ListPage { next_cursor: next(), ..page(1) }), Ok(next()));
            }
            take(ListPage { next_cursor, ..page(1) })
        };
        assert_eq!(last(None), Ok(None));
        assert_eq!(last(next()), Err(format!("its list has more than {PAGES} pages")));
    }
}
