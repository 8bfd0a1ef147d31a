//! What clients of both eras ask for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcphub_domain::audit::Refusal;
use mcphub_hub::{Absence, Endpoint, HubError, Listing, Running, ToolCall};
use mcphub_wire::answer::{Cache, to_modern};
use mcphub_wire::list::{ListKind, list_result};
use mcphub_wire::{Edit, Fault, Params, Raw, Request};

use super::answer::{Words, server_info};
use super::visit::Visit;

/// How many tools one page holds.
const PAGE: usize = 1_000;
/// Where a list says which servers are not in it.
const ABSENT: &str = "mcphub/absent";

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

/// Lists a page of the tools that the caller may call.
pub(super) async fn list_tools(visit: &Visit, request: &Request, words: Words) -> Result<Raw, MethodError> {
    let start = match request.params.as_ref().and_then(Params::cursor) {
        None => 0,
        Some(cursor) => {
            read_cursor(cursor).ok_or(MethodError::Params("the cursor is not one of this list"))?
        }
    };
    let listing = visit.hub.list_tools(&visit.caller, visit.endpoint).await?;
    let result = page(&listing, start, visit.endpoint)?;
    match words {
        Words::Modern => Ok(to_modern(&result, Some(Cache::NONE), &Raw::json(&server_info())?)?),
        Words::Legacy => Ok(result),
    }
}

/// Starts a call of a tool.
pub(super) async fn call_tool(
    visit: &Visit,
    params: Option<Params>,
    session: Option<[u8; 32]>,
) -> Result<Running, MethodError> {
    let params = params.ok_or(MethodError::Params("tools/call needs params"))?;
    let name = params.name().ok_or(MethodError::Params("params.name must be a string"))?.to_owned();
    let path = visit.path.clone();
    let call = ToolCall { endpoint: visit.endpoint, path, name: name.clone(), params, session };
    match visit.hub.call_tool(&visit.caller, call).await {
        Ok(running) => Ok(running),
        Err(HubError::Denied(denial)) if denial.reason() == Refusal::ChangedTool => {
            Err(MethodError::ChangedTool(name))
        }
        Err(HubError::Denied(_) | HubError::NotFound { .. }) => Err(MethodError::UnknownTool(name)),
        Err(error) => Err(error.into()),
    }
}

fn page(listing: &Listing, start: usize, endpoint: Endpoint) -> Result<Raw, MethodError> {
    let tools = listing.tools.iter().skip(start).take(PAGE);
    let items: Vec<Raw> = tools
        .map(|tool| if matches!(endpoint, Endpoint::Server(_)) { tool.original() } else { tool.renamed() })
        .collect::<Result<_, _>>()?;
    let end = start + items.len();
    let next = (end < listing.tools.len()).then(|| write_cursor(end));
    let result = list_result(ListKind::Tools, &items, next.as_deref());
    if listing.absent.is_empty() {
        return Ok(result);
    }
    let absent: Vec<serde_json::Value> = listing.absent.iter().map(Absence::to_json).collect();
    Ok(Edit::new().set_meta(ABSENT, Raw::json(&absent)?).apply(&result)?)
}

fn write_cursor(start: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("tools:{start}"))
}

fn read_cursor(cursor: &str) -> Option<usize> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    text.strip_prefix("tools:")?.parse().ok().filter(|start| *start > 0)
}

#[cfg(test)]
mod tests {
    use super::{read_cursor, write_cursor};

    #[test]
    fn only_the_hubs_own_cursors_are_read() {
        assert_eq!(read_cursor(&write_cursor(1_000)), Some(1_000));
        for text in ["", "1000", "dG9vbHM6LTE", "dG9vbHM6MA", "\u{e9}"] {
            assert_eq!(read_cursor(text), None, "{text}");
        }
    }
}
