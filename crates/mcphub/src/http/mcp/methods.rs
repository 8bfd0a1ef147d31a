//! What clients of both eras ask for.

use std::time::Duration;

use mcphub_domain::audit::Refusal;
use mcphub_hub::{
    About, AboutClient, Ask, Client, Endpoint, Entrance, HubError, ListedTool, Listing, Offers, Prefers,
    Running, ToolCall,
};
use mcphub_wire::answer::{Cache, CacheScope, to_modern};
use mcphub_wire::capabilities::TASKS;
use mcphub_wire::list::ListKind;
use mcphub_wire::task::without_support;
use mcphub_wire::{Fault, Params, Raw, Reference, ReferenceKind, Request, method};

use super::answer::{Words, server_info};
use super::pages::{Mark, Page};
use super::visit::Visit;

/// How long the name of a method may be that only a server knows.
const LONGEST_METHOD: usize = 128;

/// Says why a method has no result.
pub(super) enum MethodError {
    /// The hub refused or failed.
    Hub(HubError),
    /// The parameters are wrong.
    Params(&'static str),
    /// The tool has changed since it was approved.
    ChangedTool(String),
    /// The tool doesn't exist, as far as the caller may know.
    UnknownTool(String),
    /// Neither does the prompt.
    UnknownPrompt(String),
    /// Nor the resource.
    UnknownResource(String),
    /// Nor the task.
    UnknownTask,
    /// Nor the method.
    UnknownMethod(String),
    /// The client can't do what the method is about; this is what it has to declare.
    Incapable(&'static str),
}

impl From<HubError> for MethodError {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

impl From<Fault> for MethodError {
    fn from(fault: Fault) -> Self {
        Self::Hub(HubError::Internal(fault.to_string()))
    }
}

/// Lists a page of what the caller may call or read.
pub(super) async fn list(
    visit: &Visit,
    request: &Request,
    kind: ListKind,
    (client, words): (&Client, Words),
) -> Result<Raw, MethodError> {
    let mark = match request.params.as_ref().and_then(Params::cursor) {
        None => None,
        Some(cursor) => {
            Some(Mark::read(kind, cursor).ok_or(MethodError::Params("the cursor is not one of this list"))?)
        }
    };
    let (result, fresh) = match kind {
        ListKind::Tools => {
            let Listing { tools, absent } = visit.hub.list_tools(&visit.caller, visit.endpoint).await?;
            let is_own = matches!(visit.endpoint, Endpoint::Server(_));
            let write = |tool: &ListedTool| {
                let definition = if is_own { tool.original() } else { tool.renamed() }?;
                if words == Words::Modern { without_support(definition) } else { Ok(definition) }
            };
            let page = Page::after(mark.as_ref(), &tools, |tool| &tool.name)?;
            (page.write(kind, write, &absent)?, Duration::ZERO)
        }
        ListKind::Prompts | ListKind::Resources | ListKind::Templates => {
            let entrance = Entrance { endpoint: visit.endpoint, path: &visit.path, client };
            let Offers { items, absent, fresh } =
                visit.hub.list_offers(&visit.caller, entrance, kind).await?;
            let page = Page::after(mark.as_ref(), &items, |offer| &offer.name)?;
            (page.write(kind, |offer| Ok(offer.item.clone()), &absent)?, fresh)
        }
    };
    match words {
        Words::Modern => {
            // Whatever servers say, the hub gave it to this caller alone.
            let ttl_ms = u64::try_from(fresh.as_millis()).unwrap_or(u64::MAX);
            let cache = Cache { ttl_ms, scope: CacheScope::Private };
            Ok(to_modern(&result, Some(cache), &Raw::json(&server_info())?)?)
        }
        Words::Legacy => Ok(result),
    }
}

/// Says whether a method asks a server for something, as `begin` does.
pub(super) fn asks_a_server(method: &str, words: Words) -> bool {
    let is_about_task = match words {
        Words::Modern => method::is_about_task(method),
        Words::Legacy => method::is_about_legacy_task(method),
    };
    is_about_task
        || matches!(
            method,
            method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ | method::COMPLETE
        )
}

/// Says whether a method that the hub doesn't know may be one that its server does: there is only one whom it can mean.
pub(super) fn may_be_a_servers(visit: &Visit, method: &str) -> bool {
    matches!(visit.endpoint, Endpoint::Server(_)) && is_name(method) && !method::is_known(method)
}

fn is_name(method: &str) -> bool {
    method.len() <= LONGEST_METHOD && method.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Starts a call of a tool, or asks for a prompt, a resource or a completion.
pub(super) async fn begin(
    visit: &Visit,
    method: &str,
    params: Option<Params>,
    client: Client,
) -> Result<Running, MethodError> {
    match method {
        method::TOOLS_CALL => call_tool(visit, params, client).await,
        _ => Box::pin(ask(visit, method, params, client)).await,
    }
}

async fn ask(
    visit: &Visit,
    method: &str,
    params: Option<Params>,
    client: Client,
) -> Result<Running, MethodError> {
    let is_known = method::is_known(method);
    let params = match params {
        Some(params) => params,
        None if is_known => return Err(MethodError::Params("the method needs params")),
        None => Params::parse(&Raw::empty_object())?,
    };
    let about = match method {
        _ if !is_known => Some(About::Other(method.to_owned())),
        method::PROMPTS_GET => params.name().map(|name| About::Prompt(name.to_owned())),
        method::RESOURCES_READ => params.uri().map(|uri| About::Resource(uri.to_owned())),
        method::TASKS_GET => task(method::TASKS_GET, &params),
        method::TASKS_UPDATE => task(method::TASKS_UPDATE, &params),
        method::TASKS_CANCEL => task(method::TASKS_CANCEL, &params),
        method::TASKS_RESULT => task(method::TASKS_RESULT, &params),
        _ => Reference::read(&params).ok().map(About::Completion),
    };
    let AboutClient { prefers, abilities, .. } = &client.about;
    if matches!(about, Some(About::Task { .. })) && *prefers == Prefers::Modern && !abilities.takes_tasks() {
        return Err(MethodError::Incapable(TASKS));
    }
    let about = about.ok_or(MethodError::Params(match method {
        method::PROMPTS_GET => "params.name must be a string",
        method::RESOURCES_READ => "params.uri must be a string",
        method::COMPLETE => "params.ref must name a prompt or a resource",
        _ => "params.taskId must be a string",
    }))?;
    let unknown = match &about {
        About::Prompt(name) => MethodError::UnknownPrompt(name.clone()),
        About::Resource(uri) => MethodError::UnknownResource(uri.clone()),
        About::Task { .. } => MethodError::UnknownTask,
        About::Other(method) => MethodError::UnknownMethod(method.clone()),
        About::Completion(reference) => match reference.kind() {
            ReferenceKind::Prompt => MethodError::UnknownPrompt(reference.target().to_owned()),
            ReferenceKind::Resource => MethodError::UnknownResource(reference.target().to_owned()),
        },
    };
    let ask = Ask { endpoint: visit.endpoint, path: visit.path.clone(), about, params, client };
    match visit.hub.ask(&visit.caller, ask).await {
        Ok(running) => Ok(running),
        Err(HubError::Denied(_) | HubError::NotFound { .. }) => Err(unknown),
        Err(error) => Err(error.into()),
    }
}

fn task(method: &'static str, params: &Params) -> Option<About> {
    params.text("taskId").map(|id| About::Task { method, id: id.into_owned() })
}

/// Starts a call of a tool.
async fn call_tool(visit: &Visit, params: Option<Params>, client: Client) -> Result<Running, MethodError> {
    let params = params.ok_or(MethodError::Params("tools/call needs params"))?;
    let name = params.name().ok_or(MethodError::Params("params.name must be a string"))?.to_owned();
    let path = visit.path.clone();
    let call = ToolCall { endpoint: visit.endpoint, path, name: name.clone(), params, client };
    // Boxed: else its state would be moved with that of each function around it.
    match Box::pin(visit.hub.call_tool(&visit.caller, call)).await {
        Ok(running) => Ok(running),
        Err(HubError::Denied(denial)) if denial.reason() == Refusal::ChangedTool => {
            Err(MethodError::ChangedTool(name))
        }
        Err(HubError::Denied(_) | HubError::NotFound { .. }) => Err(MethodError::UnknownTool(name)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_METHOD, is_name};

    #[test]
    fn a_method_that_only_a_server_knows_has_a_name_of_so_many_characters() {
        assert!(is_name("vendor/own"));
        assert!(is_name(&"x".repeat(LONGEST_METHOD)));
        assert!(!is_name(&"x".repeat(LONGEST_METHOD + 1)));
        for strange in ["vendor own", "vendor/\u{e9}", "vendor/\n"] {
            assert!(!is_name(strange), "{strange:?}");
        }
    }
}
