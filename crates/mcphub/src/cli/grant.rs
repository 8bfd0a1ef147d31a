//! `mcphub grant`: what groups may do on servers.

use std::time::Duration;

use clap::Subcommand;
use mcphub_domain::{Grant, GrantId, GroupName, Rights, ServerName, ToolPattern, Verdict};
use mcphub_hub::groups::NewGrant;
use serde_json::{Value, json};

use super::answer::{Answer, Table, or_dash};
use super::desk::Desk;
use super::failure::Failure;
use super::input::span;

#[derive(Subcommand, Debug)]
pub(crate) enum GrantCommand {
    /// Let a group do something on a server
    Add {
        group: GroupName,
        server: ServerName,
        /// Any of read, write and execute, with commas between them
        #[arg(long)]
        rights: Rights,
        /// Only tools whose name matches, such as 'get_*'; can be given several times
        #[arg(long = "tools", value_name = "PATTERN")]
        tools: Vec<ToolPattern>,
        /// Take the rights away instead, whatever other grants give
        #[arg(long)]
        deny: bool,
        /// End the grant after a while, such as 30d
        #[arg(long, value_name = "SPAN", value_parser = span)]
        expires: Option<Duration>,
    },
    /// List all grants, or those of one group
    List { group: Option<GroupName> },
    /// Remove a grant by the id that `grant list` shows
    Remove { id: GrantId },
}

impl GrantCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            Self::Add { group, server, rights, tools, deny, expires } => {
                let new = NewGrant {
                    group: desk.group(&group).await?.id,
                    server: desk.server(&server).await?.id,
                    verdict: if deny { Verdict::Deny } else { Verdict::Allow },
                    rights,
                    tools,
                    expires_at: expires.map(|span| desk.now.plus(span)),
                };
                let grant = desk.hub.add_grant(&desk.operator, new).await?;
                let text = format!("{} {} on {server} to {group}", past(grant.verdict), grant.rights);
                Ok(Answer::new(text, view(&grant, group.as_str(), server.as_str())))
            }
            Self::List { group } => list(desk, group.as_ref()).await,
            Self::Remove { id } => {
                let gone = || Failure::new("not_found", format!("grant {id} does not exist"));
                let grant = desk.hub.grant(&desk.operator, id)?.ok_or_else(gone)?;
                desk.hub.remove_grant(&desk.operator, id, grant.revision).await?;
                Ok(Answer::new(format!("removed grant {id}"), json!({ "id": id })))
            }
        }
    }
}

async fn list(desk: &Desk, only: Option<&GroupName>) -> Result<Answer, Failure> {
    if let Some(name) = only {
        desk.group(name).await?;
    }
    let (groups, servers) = (desk.groups().await?, desk.servers().await?);
    let mut table = Table::new(
        &["ID", "GROUP", "SERVER", "VERDICT", "RIGHTS", "TOOLS", "ENDS"],
        "no grants yet: add one with `mcphub grant add GROUP SERVER --rights read,write,execute`",
    );
    let mut json = Vec::new();
    for details in groups.iter().filter(|details| only.is_none_or(|name| details.group.name == *name)) {
        for grant in &details.grants {
            let server = servers.iter().find(|server| server.id == grant.server);
            let server = server.map_or_else(|| grant.server.to_string(), |server| server.name.to_string());
            table.row([
                grant.id.to_string(),
                details.group.name.to_string(),
                server.clone(),
                grant.verdict.to_string(),
                grant.rights.to_string(),
                tools(grant),
                or_dash(grant.expires_at),
            ]);
            json.push(view(grant, details.group.name.as_str(), &server));
        }
    }
    Ok(Answer::table(&table, json))
}

fn tools(grant: &Grant) -> String {
    let patterns: Vec<String> = grant.tools.iter().map(ToString::to_string).collect();
    if patterns.is_empty() { "all".to_owned() } else { patterns.join(", ") }
}

const fn past(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "granted",
        Verdict::Deny => "denied",
    }
}

fn view(grant: &Grant, group: &str, server: &str) -> Value {
    json!({
        "id": grant.id,
        "group": group,
        "server": server,
        "verdict": grant.verdict,
        "author": grant.author,
        "rights": grant.rights,
        "tools": grant.tools,
        "expires_at": grant.expires_at.map(|end| end.to_string()),
        "revision": grant.revision,
    })
}
