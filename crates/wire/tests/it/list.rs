//! Pages of lists.

use bytes::Bytes;
use mcphub_wire::list::{Item, ListKind, ListPage, list_result};
use mcphub_wire::{Limits, Raw};
use proptest::prelude::{any, prop_assert_eq, proptest};

use crate::json_text;

fn raw(text: &str) -> Raw {
    Raw::parse(Bytes::from(text.to_owned()), &Limits::RESPONSE).unwrap()
}

#[test]
fn items_keep_their_bytes_and_give_their_name() {
    let result = raw(
        r#"{"nextCursor":"c","tools":[ {"inputSchema":{"name":"x"}, "n\u0061me" : "a\u0062" }, {"name":"z"}],"ttlMs":1}"#,
    );
    let page = ListPage::parse(ListKind::Tools, &result).unwrap();
    assert_eq!(page.next_cursor.as_deref(), Some("c"));
    let names: Vec<_> = page.items.iter().map(Item::name).collect();
    assert_eq!(names, ["ab", "z"]);
    assert_eq!(page.items[0].raw().as_bytes(), br#"{"inputSchema":{"name":"x"}, "n\u0061me" : "a\u0062" }"#);
    assert_eq!(
        page.items[0].renamed("hub__ab").as_bytes(),
        br#"{"inputSchema":{"name":"x"}, "n\u0061me" : "hub__ab" }"#
    );
}

#[test]
fn each_kind_has_its_member_and_key() {
    for (kind, text) in [
        (ListKind::Tools, r#"{"tools":[{"name":"a"}]}"#),
        (ListKind::Prompts, r#"{"prompts":[{"name":"a"}]}"#),
        (ListKind::Resources, r#"{"resources":[{"name":"b","uri":"a"}]}"#),
        (ListKind::Templates, r#"{"resourceTemplates":[{"name":"b","uriTemplate":"a"}]}"#),
    ] {
        let page = ListPage::parse(kind, &raw(text)).unwrap();
        assert_eq!(page.items[0].name(), "a");
        let written = list_result(kind, page.items.iter().map(Item::raw), None);
        assert_eq!(written.as_bytes(), text.as_bytes());
    }
}

#[test]
fn the_last_page_has_no_cursor_and_an_empty_one_is_one() {
    let cursor = |text: &str| ListPage::parse(ListKind::Tools, &raw(text)).map(|page| page.next_cursor);
    assert_eq!(cursor(r#"{"tools":[]}"#), Ok(None));
    assert_eq!(cursor(r#"{"tools":[],"nextCursor":null}"#), Ok(None));
    assert_eq!(cursor(r#"{"tools":[],"nextCursor":""}"#), Ok(Some("".into())));
    assert!(cursor(r#"{"tools":[],"nextCursor":5}"#).is_err());
    assert_eq!(list_result(ListKind::Tools, [], Some("")).as_bytes(), br#"{"tools":[],"nextCursor":""}"#);
}

#[test]
fn what_is_not_a_list_is_refused() {
    for bad in
        ["{}", "[]", r#"{"tools":{}}"#, r#"{"tools":[1]}"#, r#"{"tools":[{}]}"#, r#"{"tools":[{"name":1}]}"#]
    {
        assert!(ListPage::parse(ListKind::Tools, &raw(bad)).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn renaming_changes_only_the_name(before in json_text::value(), after in json_text::value(), name in any::<String>(), new in any::<String>()) {
        let item = |name: &str| {
            let name = String::from_utf8(Raw::string(name).to_vec()).unwrap();
            format!(r#"{{ "b" :{before}, "name": {name} ,"a":{after}}}"#)
        };
        let parsed = Item::parse(ListKind::Tools, &raw(&item(&name))).unwrap();
        prop_assert_eq!(parsed.name(), &name);
        let (renamed, expected) = (parsed.renamed(&new), item(&new));
        prop_assert_eq!(renamed.as_bytes(), expected.as_bytes());
    }
}
