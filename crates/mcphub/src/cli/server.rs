//! `mcphub server`: the MCP servers behind the hub.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mcphub_domain::server::ServerState;
use mcphub_domain::{Sandbox, Server, ServerName, Slot, Transport};
use mcphub_hub::discovery::Tried;
use mcphub_hub::import::{ImportOutcome, Imported, LARGEST_FILE};
use mcphub_hub::read_log;
use mcphub_hub::servers::UpdateServer;
use serde_json::{Value, json};

use super::answer::{Answer, Table, list_or_dash, printable};
use super::desk::Desk;
use super::failure::Failure;
use super::input::{header, sandbox, variable};
use super::tool;

#[derive(Subcommand, Debug)]
pub(crate) enum ServerCommand {
    /// Import all servers of a file in the `mcpServers` shape; `-` is standard input
    Import { file: PathBuf },
    /// Add one server: `--url URL`, or `-- command arguments…`
    Add(Box<AddServer>),
    /// List all servers
    List,
    /// Show one server
    Show { name: ServerName },
    /// Use a server again
    Enable { name: ServerName },
    /// Use a server no more; its definition, grants and credentials stay
    Disable { name: ServerName },
    /// Remove a server with its tools, grants and credentials
    Remove { name: ServerName },
    /// Ask a server for its tools, with the shared values alone
    Test { name: ServerName },
    /// Show what a server's processes wrote to standard error
    Logs {
        name: ServerName,
        /// How many lines, the last ones
        #[arg(long, default_value_t = 100)]
        lines: usize,
    },
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["url", "command"]))]
pub(crate) struct AddServer {
    name: ServerName,
    /// The address of a Streamable HTTP server
    #[arg(long)]
    url: Option<String>,
    /// A header of every request, such as 'Authorization: Bearer ${USER_TOKEN}'
    #[arg(long = "header", value_name = "HEADER", value_parser = header, conflicts_with = "command")]
    headers: Vec<(String, String)>,
    /// A variable of the process, such as 'TOKEN=${USER_TOKEN}'
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable, conflicts_with = "url")]
    variables: Vec<(String, String)>,
    /// Who shares a connection: auto, person or session
    #[arg(long)]
    isolation: Option<mcphub_domain::server::Isolation>,
    /// Which tools need an approval: changes or always
    #[arg(long)]
    approval: Option<mcphub_domain::server::Approval>,
    /// How long a call may take
    #[arg(long, value_name = "MILLISECONDS")]
    timeout_ms: Option<u32>,
    /// A network that the name in the URL may resolve to beside public ones; can be given several times
    #[arg(long = "network", value_name = "CIDR")]
    networks: Vec<ipnet::IpNet>,
    /// What its process may do beyond the default profile, as JSON with read, write, hosts, memoryMb and
    /// processes; or `off`, so that it can do whatever the hub's own user can
    #[arg(long, value_name = "PROFILE", value_parser = sandbox, conflicts_with = "url")]
    sandbox: Option<Sandbox>,
    /// The program of a stdio server, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl ServerCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            Self::Import { file } => import(desk, &file).await,
            Self::Add(new) => add(desk, *new).await,
            Self::List => list(desk).await,
            Self::Show { name } => show(desk, &name).await,
            Self::Enable { name } => set_state(desk, &name, ServerState::Enabled).await,
            Self::Disable { name } => set_state(desk, &name, ServerState::Disabled).await,
            Self::Remove { name } => {
                let server = desk.server(&name).await?;
                desk.hub.remove_server(&desk.operator, server.id, server.revision).await?;
                Ok(Answer::new(format!("removed server {name}"), json!({ "id": server.id, "name": name })))
            }
            Self::Test { name } => test(desk, &name).await,
            Self::Logs { name, lines } => logs(desk, &name, lines).await,
        }
    }
}

async fn import(desk: &Desk, file: &Path) -> Result<Answer, Failure> {
    let text = if file == Path::new("-") {
        read_import(std::io::stdin()).map_err(|error| Failure::io("standard input", &error))?
    } else {
        let read = std::fs::File::open(file).and_then(read_import);
        read.map_err(|error| Failure::io(&file.display().to_string(), &error))?
    };
    let report = desk.hub.import_servers(&desk.operator, &text).await?;
    let lines: Vec<String> = report.iter().flat_map(describe).collect();
    let text = if lines.is_empty() { "the file names no server".to_owned() } else { lines.join("\n") };
    let answer = Answer::new(text, report.iter().map(imported_view).collect());
    let any_refused = report.iter().any(|imported| matches!(imported.outcome, ImportOutcome::Refused(_)));
    Ok(if any_refused { answer.failed() } else { answer })
}

/// Adds one server the way a file would, so that placeholders and secrets are treated alike.
async fn add(desk: &Desk, new: AddServer) -> Result<Answer, Failure> {
    if desk.servers().await?.iter().any(|server| server.name == new.name) {
        let message = format!("the name {:?} is taken: choose another", new.name.as_str());
        return Err(Failure::new("conflict", message));
    }
    let file = json!({ "mcpServers": { new.name.as_str(): entry(&new) } });
    let report = desk.hub.import_servers(&desk.operator, &file.to_string()).await?;
    let Some(imported) = report.first() else {
        return Err(Failure::new("internal", "the server was not taken over"));
    };
    if let ImportOutcome::Refused(reason) = &imported.outcome {
        return Err(Failure::new("invalid", reason.as_str()));
    }
    Ok(Answer::new(describe(imported).join("\n"), imported_view(imported)))
}

fn entry(new: &AddServer) -> Value {
    let table = |pairs: &[(String, String)]| -> Value {
        pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
    };
    let mut entry = match new.command.split_first() {
        Some((command, args)) => json!({ "command": command, "args": args, "env": table(&new.variables) }),
        None => json!({ "url": new.url, "headers": table(&new.headers) }),
    };
    let settings = [
        ("isolation", new.isolation.map(|isolation| json!(isolation))),
        ("approval", new.approval.map(|approval| json!(approval))),
        ("timeoutMs", new.timeout_ms.map(|timeout| json!(timeout))),
        ("sandbox", new.sandbox.as_ref().map(|sandbox| json!(sandbox))),
        ("networks", (!new.networks.is_empty()).then(|| json!(new.networks))),
    ];
    if let Some(fields) = entry.as_object_mut() {
        fields.extend(settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    entry
}

fn describe(imported: &Imported) -> Vec<String> {
    let name = imported.name.as_ref().map_or(imported.original.as_str(), ServerName::as_str);
    let first = match &imported.outcome {
        ImportOutcome::Refused(reason) => format!("refused {name}: {reason}"),
        outcome => format!("{} {name}", word(outcome)),
    };
    let notes = imported.notes.iter().map(|note| format!("  {note}"));
    std::iter::once(first).chain(notes).map(|line| printable(&line)).collect()
}

const fn word(outcome: &ImportOutcome) -> &'static str {
    match outcome {
        ImportOutcome::Added => "added",
        ImportOutcome::Updated => "updated",
        ImportOutcome::Unchanged => "unchanged",
        ImportOutcome::Refused(_) => "refused",
    }
}

fn imported_view(imported: &Imported) -> Value {
    let reason = match &imported.outcome {
        ImportOutcome::Refused(reason) => Some(reason),
        _ => None,
    };
    json!({
        "original": imported.original,
        "name": imported.name,
        "outcome": word(&imported.outcome),
        "reason": reason,
        "notes": imported.notes,
    })
}

async fn list(desk: &Desk) -> Result<Answer, Failure> {
    let servers = desk.servers().await?;
    let mut table = Table::new(
        &["NAME", "STATE", "TYPE", "SANDBOX", "TARGET", "SLOTS"],
        "no servers yet: import a file with `mcphub server import servers.json`",
    );
    for server in &servers {
        let (kind, target) = target(server);
        let slots = list_or_dash(server.definition.slots().iter().map(slot));
        let [name, state] = [server.name.to_string(), server.state.to_string()];
        table.row([name, state, kind.to_owned(), confinement(server), target, slots]);
    }
    Ok(Answer::table(&table, servers.iter().map(view).collect()))
}

async fn show(desk: &Desk, name: &ServerName) -> Result<Answer, Failure> {
    let id = desk.server(name).await?.id;
    let server = desk.hub.find_server(&desk.operator, id).await?;
    let (kind, target) = target(&server);
    let definition = &server.definition;
    let mut table = Table::new(&["NAME", server.name.as_str()], "");
    let rows = [
        ("ID", server.id.to_string()),
        ("STATE", server.state.to_string()),
        ("TYPE", kind.to_owned()),
        ("TARGET", target),
        ("SLOTS", list_or_dash(definition.slots().iter().map(slot))),
        ("SANDBOX", confinement(&server)),
        ("ISOLATION", definition.isolation.to_string()),
        ("APPROVAL", definition.approval.to_string()),
        ("TIMEOUT", format!("{} ms", definition.timeout_ms)),
        ("REVISION", server.revision.to_string()),
        ("ADDED", server.created_at.to_string()),
    ];
    rows.into_iter().for_each(|(label, value)| table.row([label.to_owned(), value]));
    Ok(Answer::new(table.to_string(), view(&server)))
}

/// Shows how a server's process is confined: `on`, `off`, or what it has beyond the default profile.
fn confinement(server: &Server) -> String {
    match (&server.definition.transport, &server.definition.sandbox) {
        (Transport::Http(_), _) => "-".to_owned(),
        (Transport::Stdio(_), Sandbox::Off) => "off".to_owned(),
        (Transport::Stdio(_), sandbox) if sandbox.is_default() => "on".to_owned(),
        (Transport::Stdio(_), Sandbox::On(profile)) => printable(&json!(profile).to_string()),
    }
}

async fn set_state(desk: &Desk, name: &ServerName, state: ServerState) -> Result<Answer, Failure> {
    let before = desk.server(name).await?;
    let update = UpdateServer { revision: before.revision, definition: None, state: Some(state) };
    let server = desk.hub.update_server(&desk.operator, before.id, update).await?;
    Ok(Answer::new(format!("{state} {name}"), view(&server)))
}

async fn test(desk: &Desk, name: &ServerName) -> Result<Answer, Failure> {
    let server = desk.server(name).await?;
    let listed = match desk.hub.test_server(&desk.operator, &server).await? {
        Tried::Listed(listed) => listed,
        Tried::Answers { needs } => {
            let needs: Vec<String> = needs.iter().map(slot).collect();
            let text = format!(
                "{name} answers. Its tools are taken up when the first person uses it who has filled in {}",
                needs.join(", ")
            );
            return Ok(Answer::new(text, json!({ "server": name, "answers": true, "needs": needs })));
        }
    };
    let tools = desk.hub.list_server_tools(&desk.operator, server.id).await?;
    let table = tool::table(&server, &tools);
    let text = format!("{name} answers: {} approved, {} pending\n{table}", listed.approved, listed.pending);
    let json = json!({
        "server": name,
        "answers": true,
        "approved": listed.approved,
        "pending": listed.pending,
        "removed": listed.removed,
        "tools": tools.iter().map(|one| tool::view(&server, one)).collect::<Vec<_>>(),
    });
    Ok(Answer::new(text, json))
}

/// Reads a little more than can be imported, so that more of it is noticed and not held.
fn read_import(source: impl Read) -> std::io::Result<String> {
    std::io::read_to_string(source.take(LARGEST_FILE as u64 + 1))
}

async fn logs(desk: &Desk, name: &ServerName, lines: usize) -> Result<Answer, Failure> {
    desk.server(name).await?;
    let folder = desk.config.logs_dir();
    let read = read_log(&folder, name, lines);
    let lines = read.map_err(|error| Failure::io(&folder.display().to_string(), &error))?;
    let text: Vec<String> = lines.iter().map(|line| printable(line)).collect();
    Ok(Answer::new(text.join("\n"), json!(lines)))
}

fn target(server: &Server) -> (&'static str, String) {
    match &server.definition.transport {
        Transport::Http(target) => ("http", target.url.to_string()),
        Transport::Stdio(target) => {
            let words =
                std::iter::once(target.command.clone()).chain(target.args.iter().map(ToString::to_string));
            ("stdio", words.collect::<Vec<_>>().join(" "))
        }
    }
}

/// Names a slot as it stands in a definition, without its brackets.
pub(crate) fn slot(slot: &Slot) -> String {
    match slot {
        Slot::Personal(name) => format!("USER_{name}"),
        Slot::Shared(name) => format!("SHARED_{name}"),
    }
}

fn view(server: &Server) -> Value {
    json!({
        "id": server.id,
        "name": server.name,
        "state": server.state,
        "definition": server.definition,
        "slots": server.definition.slots().iter().map(slot).collect::<Vec<_>>(),
        "revision": server.revision,
        "created_at": server.created_at.to_string(),
    })
}
