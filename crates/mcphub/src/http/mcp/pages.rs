//! Pages of lists. A cursor names the last item of its page, so that a list may change between two pages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcphub_hub::Absence;
use mcphub_wire::list::{ListKind, list_result};
use mcphub_wire::{Edit, Fault, Raw};

use super::methods::MethodError;

/// How many items one page of a list holds.
const PAGE: usize = 1_000;
/// Where a list says which servers are not in it.
const ABSENT: &str = "mcphub/absent";

/// Is where a page begins: behind an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where the item stood.
    place: usize,
    /// What it is called.
    name: String,
}

impl Mark {
    /// Reads a cursor, if it is one of this list.
    pub(super) fn read(kind: ListKind, cursor: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let (place, name) = text.strip_prefix(kind.member())?.strip_prefix(':')?.split_once(':')?;
        Some(Self { place: place.parse().ok()?, name: name.to_owned() })
    }

    fn write(&self, kind: ListKind) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}:{}", kind.member(), self.place, self.name))
    }
}

/// Is a page.
pub(super) struct Page<'a, T> {
    items: &'a [T],
    /// Where the next one begins.
    next: Option<Mark>,
}

impl<'a, T> Page<'a, T> {
    /// Takes the page that begins behind a mark, wherever its item stands now.
    pub(super) fn after(
        mark: Option<&Mark>,
        all: &'a [T],
        name: impl Fn(&T) -> &str,
    ) -> Result<Self, MethodError> {
        const GONE: MethodError =
            MethodError::Params("the list has changed since this cursor was given: begin anew");
        let start = match mark {
            None => 0,
            Some(mark) if all.get(mark.place).is_some_and(|item| name(item) == mark.name) => mark.place + 1,
            Some(mark) => all.iter().rposition(|item| name(item) == mark.name).ok_or(GONE)? + 1,
        };
        let rest = all.get(start..).unwrap_or_default();
        let items = rest.get(..PAGE).unwrap_or(rest);
        let last = items.last().filter(|_| items.len() < rest.len());
        let next = last.map(|last| Mark { place: start + items.len() - 1, name: name(last).to_owned() });
        Ok(Self { items, next })
    }

    /// Writes the page, and which servers are not in the list.
    pub(super) fn write(
        &self,
        kind: ListKind,
        write: impl Fn(&T) -> Result<Raw, Fault>,
        absent: &[Absence],
    ) -> Result<Raw, MethodError> {
        let items: Vec<Raw> = self.items.iter().map(write).collect::<Result<_, _>>()?;
        let next = self.next.as_ref().map(|mark| mark.write(kind));
        let result = list_result(kind, &items, next.as_deref());
        if absent.is_empty() {
            return Ok(result);
        }
        let absent: Vec<serde_json::Value> = absent.iter().map(Absence::to_json).collect();
        Ok(Edit::new().set_meta(ABSENT, Raw::json(&absent)?).apply(&result)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{ListKind, Mark, PAGE, Page};

    fn names(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("name:{number}")).collect()
    }

    #[test]
    fn only_the_hubs_own_cursors_of_the_same_list_are_read() {
        let mark = || Mark { place: 999, name: "a:b\u{e9}".to_owned() };
        for kind in ListKind::ALL {
            assert_eq!(Mark::read(kind, &mark().write(kind)), Some(mark()));
        }
        assert_eq!(Mark::read(ListKind::Tools, &mark().write(ListKind::Prompts)), None);
        for text in ["", "1000", "dG9vbHM6LTE", "dG9vbHM6MA", "\u{e9}"] {
            assert_eq!(Mark::read(ListKind::Tools, text), None, "{text}");
        }
    }

    #[test]
    fn a_page_holds_so_many_items_and_the_rest_is_on_the_next() {
        for (items, is_all) in [(PAGE, true), (PAGE + 1, false)] {
            let all = names(0..items);
            let page = Page::after(None, &all, |name| name).ok().unwrap();
            assert_eq!((page.items.len(), page.next.is_none()), (PAGE, is_all), "of {items}");
        }
    }

    #[test]
    fn pages_follow_each_other_though_the_list_changes_between_them() {
        let all = names(0..2 * PAGE + 1);
        let read = |all: &[String], mark: Option<Mark>| {
            let page = Page::after(mark.as_ref(), all, |name| name).ok()?;
            Some((page.items.first()?.clone(), page.items.len(), page.next))
        };
        let (first, length, next) = read(&all, None).unwrap();
        assert_eq!((first.as_str(), length), ("name:0", PAGE));
        // Some are gone before, some have come.
        let changed = [names(5_000..5_007), names(500..2 * PAGE + 1)].concat();
        for list in [&all, &changed] {
            let mark = next.as_ref().map(|mark| Mark { place: mark.place, name: mark.name.clone() });
            let (second, length, next) = read(list, mark).unwrap();
            assert_eq!((second.as_str(), length), ("name:1000", PAGE));
            let (third, length, next) = read(list, next).unwrap();
            assert_eq!((third.as_str(), length, next), ("name:2000", 1, None));
        }
        assert!(Page::after(next.as_ref(), &names(5_000..5_007), |name| name).is_err(), "its item is gone");
        assert!(
            Page::after(next.as_ref(), &names(0..PAGE), |name| name).is_ok_and(|page| page.items.is_empty())
        );
    }
}
