//! The names of methods, and what the protocol says about each.

/// Opens a session (legacy).
pub const INITIALIZE: &str = "initialize";
/// Tells that the session is open (legacy).
pub const INITIALIZED: &str = "notifications/initialized";
/// Asks whether the other side is there (legacy).
pub const PING: &str = "ping";
/// Asks what a server can do (modern).
pub const DISCOVER: &str = "server/discover";
/// Lists tools.
pub const TOOLS_LIST: &str = "tools/list";
/// Calls a tool.
pub const TOOLS_CALL: &str = "tools/call";
/// Lists prompts.
pub const PROMPTS_LIST: &str = "prompts/list";
/// Fills in a prompt.
pub const PROMPTS_GET: &str = "prompts/get";
/// Lists resources.
pub const RESOURCES_LIST: &str = "resources/list";
/// Lists resource templates.
pub const TEMPLATES_LIST: &str = "resources/templates/list";
/// Reads a resource.
pub const RESOURCES_READ: &str = "resources/read";
/// Asks to hear of changes of one resource (legacy).
pub const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
/// Asks to hear no more of it (legacy).
pub const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";
/// Opens a stream of notifications (modern).
pub const LISTEN: &str = "subscriptions/listen";
/// Completes an argument.
pub const COMPLETE: &str = "completion/complete";
/// Sets the lowest level of log messages for the session (legacy).
pub const SET_LEVEL: &str = "logging/setLevel";
/// Asks the client's model (legacy, sent by servers).
pub const SAMPLING: &str = "sampling/createMessage";
/// Asks the person (legacy, sent by servers).
pub const ELICITATION: &str = "elicitation/create";
/// Asks for the client's folders (legacy, sent by servers).
pub const ROOTS_LIST: &str = "roots/list";
/// Asks how a task stands.
pub const TASKS_GET: &str = "tasks/get";
/// Gives a task the input that it waits for (modern extension).
pub const TASKS_UPDATE: &str = "tasks/update";
/// Ends a task early.
pub const TASKS_CANCEL: &str = "tasks/cancel";
/// Lists tasks (2025-11-25 only).
pub const TASKS_LIST: &str = "tasks/list";
/// Fetches what a task produced (2025-11-25 only).
pub const TASKS_RESULT: &str = "tasks/result";

/// Tells that a request is given up.
pub const CANCELLED: &str = "notifications/cancelled";
/// Tells how far a request is.
pub const PROGRESS: &str = "notifications/progress";
/// Carries a log message.
pub const MESSAGE: &str = "notifications/message";
/// Tells that the list of tools changed.
pub const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
/// Tells that the list of prompts changed.
pub const PROMPTS_CHANGED: &str = "notifications/prompts/list_changed";
/// Tells that the list of resources changed.
pub const RESOURCES_CHANGED: &str = "notifications/resources/list_changed";
/// Tells that one resource changed.
pub const RESOURCE_UPDATED: &str = "notifications/resources/updated";
/// Tells that the client's folders changed (legacy).
pub const ROOTS_CHANGED: &str = "notifications/roots/list_changed";
/// Tells that the person finished what a link asked for (2025-11-25 only).
pub const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";
/// Tells which notifications a stream will carry (modern).
pub const LISTEN_ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// Tells how a task stands.
pub const TASK_STATUS: &str = "notifications/tasks/status";

/// Names the parameter that the `Mcp-Name` header repeats for this method, if there is one.
#[must_use]
pub fn named_param(method: &str) -> Option<&'static str> {
    match method {
        TOOLS_CALL | PROMPTS_GET => Some("name"),
        RESOURCES_READ => Some("uri"),
        TASKS_GET | TASKS_UPDATE | TASKS_CANCEL => Some("taskId"),
        _ => None,
    }
}

/// Tells whether a modern result must say how long it may be kept.
#[must_use]
pub fn is_cacheable(method: &str) -> bool {
    matches!(method, DISCOVER | TOOLS_LIST | PROMPTS_LIST | RESOURCES_LIST | TEMPLATES_LIST | RESOURCES_READ)
}

/// Tells whether a modern server may answer this method by asking for input.
#[must_use]
pub fn may_require_input(method: &str) -> bool {
    matches!(method, TOOLS_CALL | PROMPTS_GET | RESOURCES_READ)
}

/// Tells whether this is a method of the tasks extension (2026-07-28).
#[must_use]
pub fn is_about_task(method: &str) -> bool {
    matches!(method, TASKS_GET | TASKS_UPDATE | TASKS_CANCEL)
}

/// Tells whether this is a method of tasks within a session (2025-11-25). The list of all tasks is none: the hub can't
/// tell a server's tasks of one person from those of another.
#[must_use]
pub fn is_about_legacy_task(method: &str) -> bool {
    matches!(method, TASKS_GET | TASKS_RESULT | TASKS_CANCEL)
}

/// Tells whether some revision of the protocol, or an extension that the hub knows, has this request.
#[must_use]
pub fn is_known(method: &str) -> bool {
    let current = [
        DISCOVER,
        TOOLS_LIST,
        TOOLS_CALL,
        PROMPTS_LIST,
        PROMPTS_GET,
        RESOURCES_LIST,
        TEMPLATES_LIST,
        RESOURCES_READ,
        LISTEN,
        COMPLETE,
    ];
    current.contains(&method) || is_about_task(method) || is_legacy_only(method)
}

/// Tells whether the modern protocol took this method away.
#[must_use]
pub fn is_legacy_only(method: &str) -> bool {
    matches!(
        method,
        INITIALIZE
            | INITIALIZED
            | PING
            | SET_LEVEL
            | RESOURCES_SUBSCRIBE
            | RESOURCES_UNSUBSCRIBE
            | SAMPLING
            | ELICITATION
            | ROOTS_LIST
            | ROOTS_CHANGED
            | ELICITATION_COMPLETE
            | TASKS_LIST
            | TASKS_RESULT
    )
}

#[cfg(test)]
mod tests {
    use super::{
        DISCOVER, PING, PROMPTS_GET, RESOURCES_READ, TASKS_GET, TOOLS_CALL, TOOLS_LIST, is_cacheable,
        is_known, is_legacy_only, may_require_input, named_param,
    };

    #[test]
    fn methods_have_their_properties() {
        assert_eq!(named_param(TOOLS_CALL), Some("name"));
        assert_eq!(named_param(PROMPTS_GET), Some("name"));
        assert_eq!(named_param(RESOURCES_READ), Some("uri"));
        assert_eq!(named_param(TASKS_GET), Some("taskId"));
        assert_eq!(named_param(TOOLS_LIST), None);
        assert!(is_cacheable(DISCOVER) && is_cacheable(RESOURCES_READ) && !is_cacheable(TOOLS_CALL));
        assert!(may_require_input(TOOLS_CALL) && !may_require_input(TOOLS_LIST));
        assert!(is_legacy_only(PING) && !is_legacy_only(DISCOVER));
        assert!(is_known(PING) && is_known(TASKS_GET) && is_known(TOOLS_CALL) && !is_known("vendor/own"));
    }
}
