//! Endpoints that several servers share: there a URI says whose it is.

use crate::edit::Edit;
use crate::fault::Fault;
use crate::json::Scanner;
use crate::limits::Limits;
use crate::raw::Raw;

/// Where the pages of MCP Apps live; hosts look for this scheme.
const UI: &str = "ui://";

/// Says where a result holds URIs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// In the blocks of `content`, as a tool's result does.
    Content,
    /// In the block of each of the `messages`, as a prompt does.
    Messages,
    /// In each of the `contents`, as a resource does.
    Contents,
    /// In the tool's result inside a task.
    Task,
}

/// Writes a server's URI, or URI template, for a shared endpoint: the server's name begins its scheme, as in
/// `github+repo://x`; `ui://x` becomes `ui://github/x`.
#[must_use]
pub fn shared_uri(server: &str, uri: &str) -> String {
    match uri.strip_prefix(UI) {
        Some(rest) => format!("{UI}{server}/{rest}"),
        None => format!("{server}+{uri}"),
    }
}

/// Takes a shared endpoint's URI apart: the server's name, and the URI as that server has it.
#[must_use]
pub fn own_uri(uri: &str) -> Option<(&str, String)> {
    match uri.strip_prefix(UI) {
        Some(rest) => rest.split_once('/').map(|(server, rest)| (server, format!("{UI}{rest}"))),
        None => uri.split_once('+').map(|(server, rest)| (server, rest.to_owned())),
    }
}

/// Writes the URIs in a server's result for a shared endpoint. Texts, arguments and whatever else only looks
/// like a URI keep their bytes.
///
/// # Errors
/// Refuses what was not read as a message before.
pub fn share(result: &Raw, carrier: Carrier, server: &str) -> Result<Raw, Fault> {
    let member = match carrier {
        Carrier::Content => "content",
        Carrier::Messages => "messages",
        Carrier::Contents => "contents",
        Carrier::Task => {
            let inner = change(result, "result", |inner| share(inner, Carrier::Content, server).map(Some))?;
            return Ok(inner.unwrap_or_else(|| result.clone()));
        }
    };
    let renamed = change(result, member, |list| {
        each(list, |item| match carrier {
            Carrier::Content | Carrier::Task => share_block(item, server),
            Carrier::Messages => change(item, "content", |block| share_block(block, server)),
            Carrier::Contents => rename(item, server),
        })
    })?;
    Ok(renamed.unwrap_or_else(|| result.clone()))
}

/// Writes the URI in the data of a server's error for a shared endpoint.
///
/// # Errors
/// Refuses what was not read as a message before.
pub fn share_data(data: &Raw, server: &str) -> Result<Raw, Fault> {
    Ok(rename(data, server)?.unwrap_or_else(|| data.clone()))
}

/// Writes a tool's definition for a shared endpoint: the page that shows its results is its server's.
///
/// # Errors
/// Refuses what was not read as a message before.
pub fn share_tool(definition: &Raw, server: &str) -> Result<Raw, Fault> {
    let renamed = change(definition, "_meta", |meta| {
        let nested = change(meta, "ui", |ui| change(ui, "resourceUri", |uri| Ok(shared(uri, server))))?;
        let flat = change(nested.as_ref().unwrap_or(meta), "ui/resourceUri", |uri| Ok(shared(uri, server)))?;
        Ok(flat.or(nested))
    })?;
    Ok(renamed.unwrap_or_else(|| definition.clone()))
}

/// Writes one block of content: a link to a resource, or a resource itself.
fn share_block(block: &Raw, server: &str) -> Result<Option<Raw>, Fault> {
    if !block.is_object() {
        return Ok(None);
    }
    match block.member("type")?.as_ref().and_then(Raw::text).as_deref() {
        Some("resource_link") => rename(block, server),
        Some("resource") => change(block, "resource", |resource| rename(resource, server)),
        _ => Ok(None),
    }
}

fn rename(holder: &Raw, server: &str) -> Result<Option<Raw>, Fault> {
    change(holder, "uri", |uri| Ok(shared(uri, server)))
}

fn shared(uri: &Raw, server: &str) -> Option<Raw> {
    uri.text().map(|uri| Raw::string(&shared_uri(server, &uri)))
}

/// Changes a member of an object, if it is one and has it; nothing if nothing changes.
fn change(
    object: &Raw,
    member: &'static str,
    how: impl FnOnce(&Raw) -> Result<Option<Raw>, Fault>,
) -> Result<Option<Raw>, Fault> {
    if !object.is_object() {
        return Ok(None);
    }
    let Some(before) = object.member(member)? else { return Ok(None) };
    how(&before)?.map(|after| Edit::new().set(member, after).apply(object)).transpose()
}

/// Changes the elements of an array, if it is one; nothing if nothing changes.
fn each(array: &Raw, how: impl Fn(&Raw) -> Result<Option<Raw>, Fault>) -> Result<Option<Raw>, Fault> {
    if !array.starts_with(b"[") {
        return Ok(None);
    }
    let bytes = array.clone().into_bytes();
    let mut scanner = Scanner::new(&bytes, &Limits::CHECKED)?;
    let (mut out, mut changed) = (Vec::with_capacity(bytes.len() + 64), false);
    scanner.array(|scanner| {
        let before = scanner.value()?;
        let after = how(&before)?;
        out.push(if out.is_empty() { b'[' } else { b',' });
        changed |= after.is_some();
        out.extend_from_slice(after.as_ref().unwrap_or(&before));
        Ok(())
    })?;
    scanner.finish()?;
    out.push(b']');
    Ok(changed.then(|| Raw::checked(out.into())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use serde_json::json;

    use super::{Carrier, own_uri, share, share_data, share_tool, shared_uri};
    use crate::Raw;

    fn written(raw: &str, carrier: Carrier) -> String {
        let raw = Raw::parse(raw.to_owned().into(), &crate::Limits::RESPONSE).unwrap();
        String::from_utf8(share(&raw, carrier, "git").unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_uri_says_whose_it_is() {
        for (own, here) in [
            ("repo://x", "git+repo://x"),
            ("git+ssh://x", "git+git+ssh://x"),
            ("file:///a+b", "git+file:///a+b"),
            ("ui://panel", "ui://git/panel"),
            ("ui://a/b", "ui://git/a/b"),
            ("repo://{owner}/{name}", "git+repo://{owner}/{name}"),
            ("relative", "git+relative"),
        ] {
            assert_eq!(shared_uri("git", own), here);
            assert_eq!(own_uri(here), Some(("git", own.to_owned())));
        }
        for nobodys in ["", "repo://x", "ui://panel"] {
            assert_eq!(own_uri(nobodys), None, "{nobodys}");
        }
    }

    #[test]
    fn uris_are_written_where_the_protocol_has_them_and_nowhere_else() {
        let result = r#"{"content":[{"type":"text","text":"repo://x", "uri":"repo://x"}, {"uri":"repo://\u0078","type":"resource_link","n":1.0},{"type":"resource","resource":{"uri":"ui://p","text":"uri"}},7],"structuredContent":{"uri":"repo://x"}}"#;
        assert_eq!(
            written(result, Carrier::Content),
            r#"{"content":[{"type":"text","text":"repo://x", "uri":"repo://x"},{"uri":"git+repo://x","type":"resource_link","n":1.0},{"type":"resource","resource":{"uri":"ui://git/p","text":"uri"}},7],"structuredContent":{"uri":"repo://x"}}"#
        );
        let prompt = r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:b"}}},{"content":"a:b"}]}"#;
        assert_eq!(
            written(prompt, Carrier::Messages),
            r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"git+a:b"}}},{"content":"a:b"}]}"#
        );
        let read = r#"{"contents":[{"uri":"a:b","text":"a:b"}],"x":1e2}"#;
        assert_eq!(
            written(read, Carrier::Contents),
            r#"{"contents":[{"uri":"git+a:b","text":"a:b"}],"x":1e2}"#
        );
    }

    #[test]
    fn what_holds_no_uri_keeps_every_byte() {
        for raw in [
            r#"{ "content" : [ {"type":"text","text":"x"} ] }"#,
            r#"{"content":"none"}"#,
            r#"{"content":[{"type":"resource","resource":"none"}, {"type":"resource_link"}, {"type":"resource_link","uri":7}]}"#,
            "[1 ]",
            r#""text""#,
        ] {
            assert_eq!(written(raw, Carrier::Content), raw);
            assert_eq!(written(raw, Carrier::Contents), raw);
        }
    }

    #[test]
    fn an_errors_uri_is_written_and_its_other_data_are_not() {
        let shared = |raw: &str| {
            let raw = Raw::parse(raw.to_owned().into(), &crate::Limits::RESPONSE).unwrap();
            String::from_utf8(share_data(&raw, "git").unwrap().to_vec()).unwrap()
        };
        assert_eq!(shared(r#"{"uri":"a:b","text":"a:b"}"#), r#"{"uri":"git+a:b","text":"a:b"}"#);
        for untouched in [r#"{"uri": 7}"#, r#""a:b""#, "[1 ]"] {
            assert_eq!(shared(untouched), untouched);
        }
    }

    #[test]
    fn a_tools_page_is_its_servers() {
        let shared = |value| {
            let raw = share_tool(&Raw::json(&value).unwrap(), "git").unwrap();
            serde_json::from_slice::<serde_json::Value>(&raw).unwrap()
        };
        assert_eq!(
            shared(
                json!({ "name": "a", "_meta": { "ui": { "resourceUri": "ui://p", "x": 1 }, "ui/resourceUri": "ui://p" } })
            ),
            json!({ "name": "a", "_meta": { "ui": { "resourceUri": "ui://git/p", "x": 1 }, "ui/resourceUri": "ui://git/p" } })
        );
        for untouched in [json!({ "name": "a" }), json!({ "name": "a", "_meta": { "ui": 1 } })] {
            assert_eq!(shared(untouched.clone()), untouched);
        }
    }

    proptest! {
        #[test]
        fn every_uri_comes_back(server in "[a-z][a-z0-9-]{0,31}", uri in any::<String>()) {
            let here = shared_uri(&server, &uri);
            prop_assert_eq!(own_uri(&here), Some((&*server, uri)));
        }
    }
}
