//! `mcphub tool`: what the tools of a server are and do.

use clap::Subcommand;
use mcphub_domain::{Effect, Server, ServerName, Tool, ToolName, ToolState};
use mcphub_hub::servers::UpdateTool;
use serde_json::{Value, json};

use super::answer::{Answer, Table};
use super::desk::{Desk, unknown};
use super::failure::Failure;

#[derive(Subcommand, Debug)]
pub(crate) enum ToolCommand {
    /// List the tools of a server, those that wait for an approval included
    List { server: ServerName },
    /// Say what a tool does to the world: read, write or execute
    Effect { server: ServerName, tool: ToolName, effect: Effect },
    /// Approve a tool as it is now
    Approve { server: ServerName, tool: ToolName },
    /// Take the approval back: the tool is hidden until somebody approves it again
    Disable { server: ServerName, tool: ToolName },
}

impl ToolCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            Self::List { server } => list(desk, &server).await,
            Self::Effect { server, tool, effect } => {
                update(desk, &server, &tool, |update| UpdateTool { effect: Some(effect), ..update }).await
            }
            Self::Approve { server, tool } => {
                let approve = |update| UpdateTool { state: Some(ToolState::Approved), ..update };
                update(desk, &server, &tool, approve).await
            }
            Self::Disable { server, tool } => {
                let hide = |update| UpdateTool { state: Some(ToolState::Pending), ..update };
                update(desk, &server, &tool, hide).await
            }
        }
    }
}

async fn list(desk: &Desk, server: &ServerName) -> Result<Answer, Failure> {
    let server = desk.server(server).await?;
    let tools = desk.hub.list_server_tools(&desk.operator, server.id).await?;
    Ok(Answer::table(&table(&server, &tools), tools.iter().map(|tool| view(&server, tool)).collect()))
}

/// Changes a tool in the definition that is known now: one that comes in between is not approved.
async fn update(
    desk: &Desk,
    server: &ServerName,
    name: &ToolName,
    change: impl FnOnce(UpdateTool) -> UpdateTool,
) -> Result<Answer, Failure> {
    let server = desk.server(server).await?;
    let tools = desk.hub.list_server_tools(&desk.operator, server.id).await?;
    let list = format!("tool list {}", server.name);
    let known = || tools.iter().map(|tool| tool.name.as_str());
    let before = tools.iter().find(|tool| tool.name == *name);
    let before = before.ok_or_else(|| unknown("tool", name.as_str(), known(), &list))?;
    let update =
        change(UpdateTool { revision: before.revision, digest: before.digest, effect: None, state: None });
    let tool = desk.hub.update_tool(&desk.operator, server.id, name, update).await?;
    let text = format!("{} of {} is {} with effect {}", tool.name, server.name, tool.state, tool.effect);
    Ok(Answer::new(text, view(&server, &tool)))
}

/// Shows tools to people.
pub(crate) fn table(server: &Server, tools: &[Tool]) -> Table {
    let mut table = Table::new(
        &["TOOL", "EFFECT", "STATE", "DEFINITION"],
        "no tools known yet: the server is listed when it is first used, or by `mcphub server test NAME`",
    );
    for tool in tools {
        let digest: String = tool.digest.to_string().chars().take(12).collect();
        table.row([tool.name.to_string(), tool.effect.to_string(), state(server, tool).to_owned(), digest]);
    }
    table
}

/// Shows a tool to programs.
pub(crate) fn view(server: &Server, tool: &Tool) -> Value {
    json!({
        "server": server.name,
        "name": tool.name,
        "effect": tool.effect,
        "state": state(server, tool),
        "digest": tool.digest,
    })
}

fn state(server: &Server, tool: &Tool) -> &'static str {
    if server.definition.disabled_tools.contains(&tool.name) { "disabled" } else { tool.state.as_str() }
}
