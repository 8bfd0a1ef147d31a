//! Tasks: calls that go on at their server. Each end may know a task by a name of its own, and every message about one
//! says it where its revision has it.

use std::borrow::Cow;
use std::time::Duration;

use crate::edit::Edit;
use crate::fault::Fault;
use crate::meta_key;
use crate::object::Object;
use crate::params::Params;
use crate::raw::Raw;
use crate::version::Version;

/// The member that names a task.
const ID: &str = "taskId";
/// The member that holds the task in a `CreateTaskResult` of 2025-11-25.
const TASK: &str = "task";

/// Tells whether a legacy result says that its call became a task.
#[must_use]
pub fn is_begun(result: &Raw) -> bool {
    result.member(TASK).is_ok_and(|task| task.as_ref().is_some_and(Raw::is_object))
}

/// Returns the name of the task that parameters are about.
#[must_use]
pub fn named(params: &Params) -> Option<Cow<'_, str>> {
    params.text(ID)
}

/// Returns the name of the task in whose course something is said.
#[must_use]
pub fn related(params: &Params) -> Option<Box<str>> {
    let related = params.meta().get(meta_key::RELATED_TASK)?;
    related.member(ID).ok()??.text().map(Into::into)
}

/// Returns the name of the task that a call became, as its result in the words of `version` has it.
///
/// # Errors
/// Refuses a result without one.
pub fn begun(result: &Raw, version: Version) -> Result<Box<str>, Fault> {
    const NAMELESS: Fault = Fault::Invalid("a task must have an id");
    let mut task = Object::parse(result)?;
    if !version.is_modern() {
        task = Object::parse(task.get(TASK).ok_or(NAMELESS)?)?;
    }
    task.text(ID).map(Into::into).ok_or(NAMELESS)
}

/// Returns for how long at most the task of such a result is kept, if it says so.
#[must_use]
pub fn lifetime(result: &Raw, version: Version) -> Option<Duration> {
    let task = Object::parse(result).ok()?;
    let millis = match version.is_modern() {
        true => task.get("ttlMs")?.as_integer(),
        false => Object::parse(task.get(TASK)?).ok()?.get("ttl")?.as_integer(),
    };
    millis.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis)
}

/// Writes such a result with another name for the task.
///
/// # Errors
/// Refuses a result that holds no task.
pub fn begun_as(result: &Raw, version: Version, name: &str) -> Result<Raw, Fault> {
    let result = rename(result, &begun(result, version)?, name)?;
    if version.is_modern() {
        return Ok(result);
    }
    let outer = Object::parse(&result)?;
    let task = outer.get(TASK).ok_or(Fault::Invalid("the result holds no task"))?;
    Edit::new().set(TASK, Edit::new().set(ID, Raw::string(name)).apply(task)?).apply(&result)
}

/// Writes a result with another name for a task, wherever it names that one.
///
/// # Errors
/// Refuses what is no object.
pub fn rename(result: &Raw, from: &str, to: &str) -> Result<Raw, Fault> {
    let object = Object::parse(result)?;
    let meta = object.get("_meta").filter(|meta| meta.is_object()).map(Object::parse).transpose()?;
    let related = meta.as_ref().and_then(|meta| meta.get(meta_key::RELATED_TASK));
    match renaming(object.get(ID), related, from, to)? {
        edit if edit.is_empty() => Ok(result.clone()),
        edit => edit.apply(result),
    }
}

/// Writes parameters with another name for a task, wherever they name that one.
///
/// # Errors
/// Refuses what was not read as a message before.
pub fn rename_in_params(params: &Params, from: &str, to: &str) -> Result<Params, Fault> {
    let related = params.meta().get(meta_key::RELATED_TASK);
    match renaming(params.get(ID), related, from, to)? {
        edit if edit.is_empty() => Ok(params.clone()),
        edit => params.edited(&edit),
    }
}

fn renaming(id: Option<&Raw>, related: Option<&Raw>, from: &str, to: &str) -> Result<Edit, Fault> {
    let is_meant = |id: Option<&Raw>| id.and_then(Raw::text).as_deref() == Some(from);
    let edit = if is_meant(id) { Edit::new().set(ID, Raw::string(to)) } else { Edit::new() };
    let Some(related) = related.filter(|related| related.is_object()) else { return Ok(edit) };
    if !is_meant(related.member(ID)?.as_ref()) {
        return Ok(edit);
    }
    let renamed = Edit::new().set(ID, Raw::string(to)).apply(related)?;
    Ok(edit.set_meta(meta_key::RELATED_TASK, renamed))
}

/// Takes from a tool's definition what it says of tasks of 2025-11-25, which mean nothing to a modern client.
///
/// # Errors
/// Refuses what is no object.
pub fn without_support(definition: Raw) -> Result<Raw, Fault> {
    const EXECUTION: &str = "execution";
    const SUPPORT: &str = "taskSupport";
    if memchr::memmem::find(definition.as_bytes(), SUPPORT.as_bytes()).is_none() {
        return Ok(definition);
    }
    let tool = Object::parse(&definition)?;
    let Some(execution) = tool.get(EXECUTION).filter(|execution| execution.is_object()) else {
        return Ok(definition);
    };
    let rest = Edit::new().remove(SUPPORT).apply(execution)?;
    match rest.as_bytes() {
        b"{}" => Edit::new().remove(EXECUTION),
        _ => Edit::new().set(EXECUTION, rest),
    }
    .apply(&definition)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Duration, begun, begun_as, is_begun, lifetime, rename, rename_in_params, without_support};
    use crate::{Params, Raw, Version};

    const MODERN: Version = Version::V2026_07_28;
    const LEGACY: Version = Version::V2025_11_25;

    fn raw(value: &Value) -> Raw {
        Raw::json(value).unwrap()
    }

    fn value(raw: &Raw) -> Value {
        serde_json::from_slice(raw.as_bytes()).unwrap()
    }

    #[test]
    fn a_call_that_became_a_task_names_it_where_its_revision_does() {
        let (modern, legacy) =
            (json!({ "taskId": "a", "task": {} }), json!({ "task": { "taskId": "a", "ttl": 1 } }));
        assert!(
            is_begun(&raw(&legacy))
                && !is_begun(&raw(&json!({ "task": "a" })))
                && !is_begun(&raw(&json!({})))
        );
        for (result, version) in [(&modern, MODERN), (&legacy, LEGACY)] {
            assert_eq!(&*begun(&raw(result), version).unwrap(), "a");
        }
        assert!(
            begun(&raw(&legacy), MODERN).is_err() && begun(&raw(&json!({ "taskId": "a" })), LEGACY).is_err()
        );
        let lasts = |result: Value, version| lifetime(&raw(&result), version);
        assert_eq!(lasts(json!({ "taskId": "a", "ttlMs": 5 }), MODERN), Some(Duration::from_millis(5)));
        assert_eq!(lasts(json!({ "task": { "ttl": 5 } }), LEGACY), Some(Duration::from_millis(5)));
        assert_eq!(lasts(json!({ "task": { "ttl": null } }), LEGACY), None);
        let renamed = |result, version| value(&begun_as(&raw(result), version, "b").unwrap());
        assert_eq!(renamed(&modern, MODERN), json!({ "taskId": "b", "task": {} }));
        assert_eq!(renamed(&legacy, LEGACY), json!({ "task": { "taskId": "b", "ttl": 1 } }));
    }

    #[test]
    fn a_message_names_the_task_that_is_meant_and_no_other() {
        let related =
            |id: &str| json!({ "io.modelcontextprotocol/related-task": { "taskId": id, "x": 1 }, "y": 2 });
        for (before, after) in [
            (json!({ "taskId": "a", "status": "working" }), json!({ "taskId": "b", "status": "working" })),
            (
                json!({ "content": [], "_meta": related("a") }),
                json!({ "content": [], "_meta": related("b") }),
            ),
            (
                json!({ "taskId": "c", "_meta": related("c") }),
                json!({ "taskId": "c", "_meta": related("c") }),
            ),
            (json!({ "taskId": 1, "_meta": {} }), json!({ "taskId": 1, "_meta": {} })),
        ] {
            assert_eq!(value(&rename(&raw(&before), "a", "b").unwrap()), after);
            let params = rename_in_params(&Params::parse(&raw(&before)).unwrap(), "a", "b").unwrap();
            assert_eq!(params, Params::parse(&raw(&after)).unwrap());
        }
    }

    #[test]
    fn a_tool_says_nothing_of_older_tasks_to_whom_they_mean_nothing() {
        let without = |tool: &Value| value(&without_support(raw(tool)).unwrap());
        let (support, more) =
            (json!({ "taskSupport": "required" }), json!({ "taskSupport": "required", "x": 1 }));
        assert_eq!(without(&json!({ "name": "a", "execution": support })), json!({ "name": "a" }));
        assert_eq!(
            without(&json!({ "name": "a", "execution": more })),
            json!({ "name": "a", "execution": { "x": 1 } })
        );
        for same in [json!({ "name": "taskSupport" }), json!({ "name": "a", "execution": "taskSupport" })] {
            assert_eq!(without(&same), same);
        }
    }
}
