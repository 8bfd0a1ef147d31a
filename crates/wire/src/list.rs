//! Pages of lists: items as bytes, each with the name that identifies it.

use std::ops::Range;

use crate::answer::Cache;
use crate::fault::Fault;
use crate::json::Scanner;
use crate::limits::Limits;
use crate::method;
use crate::raw::Raw;
use crate::write::{self, ObjectWriter};

/// Says what a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// Holds tools, identified by name.
    Tools,
    /// Holds prompts, identified by name.
    Prompts,
    /// Holds resources, identified by URI.
    Resources,
    /// Holds resource templates, identified by URI template.
    Templates,
}

/// Holds one item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    raw: Raw,
    name: Box<str>,
    /// Where the name stands in the bytes, quotes included.
    name_at: Range<usize>,
}

/// Holds one page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Holds the items in the server's order.
    pub items: Vec<Item>,
    /// Says where the next page begins; `None` on the last one.
    pub next_cursor: Option<Box<str>>,
    /// Says how long the page may be kept, and by whom; nothing if it says nothing of it.
    pub cache: Option<Cache>,
}

impl ListKind {
    /// Lists all kinds.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// Finds the list that a method asks for.
    #[must_use]
    pub fn of_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }

    /// Returns the method that asks for this list.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Tools => method::TOOLS_LIST,
            Self::Prompts => method::PROMPTS_LIST,
            Self::Resources => method::RESOURCES_LIST,
            Self::Templates => method::TEMPLATES_LIST,
        }
    }

    /// Returns the notification that says that the list changed; one says it of resources and templates.
    #[must_use]
    pub const fn changed(self) -> &'static str {
        match self {
            Self::Tools => method::TOOLS_CHANGED,
            Self::Prompts => method::PROMPTS_CHANGED,
            Self::Resources | Self::Templates => method::RESOURCES_CHANGED,
        }
    }

    /// Returns the member of the result that holds the items.
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// Returns the member of an item that identifies it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

impl Item {
    /// Returns the name, URI or URI template.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the whole item.
    #[must_use]
    pub fn raw(&self) -> &Raw {
        &self.raw
    }

    /// Writes the item under another name; every other byte stays.
    #[must_use]
    pub fn renamed(&self, name: &str) -> Raw {
        let bytes = self.raw.as_bytes();
        let mut out = Vec::with_capacity(bytes.len() + name.len());
        out.extend_from_slice(bytes.get(..self.name_at.start).unwrap_or_default());
        write::string(&mut out, name);
        out.extend_from_slice(bytes.get(self.name_at.end..).unwrap_or_default());
        Raw::checked(out.into())
    }

    /// Reads one item, for instance one that was stored.
    ///
    /// # Errors
    /// Refuses what is not an object with a name.
    pub fn parse(kind: ListKind, raw: &Raw) -> Result<Self, Fault> {
        let bytes = raw.clone().into_bytes();
        let mut scanner = Scanner::new(&bytes, &Limits::CHECKED)?;
        let item = Self::read(kind, &mut scanner)?;
        scanner.finish()?;
        Ok(item)
    }

    fn read(kind: ListKind, scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
        let start = scanner.position();
        let mut found = None;
        scanner.object(|scanner, key| {
            if key != kind.key() {
                return scanner.skip();
            }
            let at = scanner.position() - start;
            let value = scanner.value()?;
            found = value.text().map(|name| (Box::from(name), at..at + value.len()));
            Ok(())
        })?;
        let (name, name_at) = found.ok_or(Fault::Invalid("an item of a list has no name"))?;
        Ok(Self { raw: scanner.since(start), name, name_at })
    }
}

impl ListPage {
    /// Reads the result of a list request.
    ///
    /// # Errors
    /// Refuses a result without the list, items without a name, and a cursor that is not a string.
    pub fn parse(kind: ListKind, result: &Raw) -> Result<Self, Fault> {
        let bytes = result.clone().into_bytes();
        let mut scanner = Scanner::new(&bytes, &Limits::CHECKED)?;
        let mut items = None;
        let mut next_cursor = None;
        let (mut ttl, mut scope) = (None, None);
        scanner.object(|scanner, key| {
            if key == kind.member() {
                items = Some(read_items(kind, scanner)?);
            } else if key == "nextCursor" {
                next_cursor = read_cursor(&scanner.value()?)?;
            } else if key == "ttlMs" {
                ttl = Some(scanner.value()?);
            } else if key == "cacheScope" {
                scope = Some(scanner.value()?);
            } else {
                scanner.skip()?;
            }
            Ok(())
        })?;
        scanner.finish()?;
        let items = items.ok_or(Fault::Invalid("the result holds no such list"))?;
        let cache = ttl.map(|ttl| Cache::of(Some(&ttl), scope.as_ref()));
        Ok(Self { items, next_cursor, cache })
    }
}

fn read_items(kind: ListKind, scanner: &mut Scanner<'_>) -> Result<Vec<Item>, Fault> {
    let mut items = Vec::new();
    scanner.array(|scanner| {
        items.push(Item::read(kind, scanner)?);
        Ok(())
    })?;
    Ok(items)
}

/// Reads a cursor; some servers write `null` on the last page.
fn read_cursor(value: &Raw) -> Result<Option<Box<str>>, Fault> {
    if value.as_bytes() == b"null" {
        return Ok(None);
    }
    value.text().map(|text| Some(text.into())).ok_or(Fault::Invalid("nextCursor must be a string"))
}

/// Writes the result of a list request, for `answer::to_modern` to complete where needed.
#[must_use]
pub fn list_result<'a, I>(kind: ListKind, items: I, next_cursor: Option<&str>) -> Raw
where
    I: IntoIterator<Item = &'a Raw, IntoIter: Clone>,
{
    let items = items.into_iter();
    let mut result = ObjectWriter::new(items.clone().map(|item| item.len() + 1).sum());
    result.array(kind.member(), items.map(Raw::as_bytes));
    if let Some(cursor) = next_cursor {
        result.text("nextCursor", cursor);
    }
    result.finish_raw()
}
