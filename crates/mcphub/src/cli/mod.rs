//! The command line: what can be said, and who does it.

mod answer;
mod audit;
mod backup;
mod connect;
mod credential;
mod database;
mod desk;
mod evidence;
mod failure;
mod grant;
mod group;
mod input;
mod key;
mod log;
mod serve;
mod server;
mod tool;
mod user;
mod vault;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mcphub_hub::LastHead;
use tokio::runtime::Builder;

pub(crate) use answer::Answer;
pub(crate) use failure::Failure;
pub(crate) use serve::Running;

use crate::config::{Config, DatabaseFlags, Flags, Sources};
use crate::demo_server::{self, Transport};
use crate::memory::give_back_when_parked;
use crate::{Machine, demo, http};

use desk::Desk;

/// The one address where people's AI clients reach every MCP server of an organisation.
#[derive(Parser, Debug)]
#[command(name = "mcphub", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone, Debug)]
struct Options {
    /// The folder of the data [default: $XDG_DATA_HOME/mcphub]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// The PostgreSQL login that requests run as, instead of SQLite
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// The PostgreSQL login that loads the world
    #[arg(long, global = true, value_name = "URL")]
    worker_url: Option<String>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve people's clients
    Serve(Listen),
    /// Serve with a demo server and two demo people, and print how to connect
    Demo(Listen),
    /// Connect a client that only speaks stdio to a running hub
    Connect(connect::Connect),
    /// Add, list and change people
    #[command(subcommand)]
    User(user::UserCommand),
    /// Say who belongs together
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Say what groups may do on servers
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// Add, import, try and remove MCP servers
    #[command(subcommand)]
    Server(server::ServerCommand),
    /// List and approve the tools of a server
    #[command(subcommand)]
    Tool(tool::ToolCommand),
    /// Fill in the values that servers need from a person
    #[command(subcommand)]
    Credential(credential::CredentialCommand),
    /// Set the values that all people share
    #[command(subcommand)]
    Shared(credential::SharedCommand),
    /// Make and revoke the keys that people's clients sign in with
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Search and check the audit log, and hand it out as evidence
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Rotate the key that everything is sealed under, and see what lies under which
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// Copy everything but the key into an encrypted file, while the hub runs
    Backup(backup::Backup),
    /// Fill an empty data directory, or an empty PostgreSQL database, from a backup
    Restore(backup::Restore),
    /// Make a PostgreSQL database ready
    #[command(subcommand)]
    Database(database::DatabaseCommand),
    /// Print the description of the REST API
    Openapi,
    /// Run the MCP server that the demo uses
    DemoServer {
        /// Listen here instead of on standard input
        #[arg(long, value_name = "ADDRESS")]
        http: Option<SocketAddr>,
    },
}

#[derive(Args, Debug)]
struct Listen {
    /// Where to listen [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Say that TLS ends at a proxy before the hub
    #[arg(long)]
    behind_proxy: bool,
}

/// Does what the command line says.
pub(crate) fn main(machine: Machine) -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.run(machine),
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == OsStr::new("--json")) => {
            let text = error.to_string();
            let sentence = text.lines().next().unwrap_or_default();
            Failure::usage(sentence.strip_prefix("error: ").unwrap_or(sentence)).print(true)
        }
        Err(error) => error.exit(),
    }
}

impl Cli {
    fn run(self, machine: Machine) -> ExitCode {
        let Self { options, command } = self;
        let serves = matches!(command, Command::Serve(_) | Command::Demo(_));
        log::start(serves, options.json);
        let mut runtime = if serves { Builder::new_multi_thread() } else { Builder::new_current_thread() };
        let json = options.json;
        let done = match runtime.enable_all().on_thread_park(give_back_when_parked).build() {
            Ok(runtime) => runtime.block_on(command.run(options, machine)),
            Err(error) => Err(Failure::io("the runtime", &error)),
        };
        match done {
            Ok(answer) => answer.print(json),
            Err(failure) => failure.print(json),
        }
    }
}

impl Command {
    async fn run(self, options: Options, machine: Machine) -> Result<Answer, Failure> {
        match self {
            Self::Openapi => openapi(),
            Self::DemoServer { http } => run_demo_server(http, &machine).await,
            Self::Database(command) => command.run(&machine.entropy).await,
            Self::Serve(listen) => {
                let json = options.json;
                let running = Running::start(options.load(&machine, Some(listen))?, &machine).await?;
                serve::run(running, json).await
            }
            Self::Demo(listen) => {
                let json = options.json;
                demo::run(options.load(&machine, Some(listen))?, &machine, json).await
            }
            Self::Connect(connect) => connect.run(options, &machine).await,
            Self::Backup(backup) => backup.run(options.load(&machine, None)?, &machine).await,
            Self::Restore(restore) => {
                let again = options.clone();
                restore.run([options.load(&machine, None)?, again.load(&machine, None)?], &machine).await
            }
            command => command.run_at_desk(options, &machine).await,
        }
    }

    /// Does one thing with the data, beside a running hub or without one.
    async fn run_at_desk(self, options: Options, machine: &Machine) -> Result<Answer, Failure> {
        let config = options.load(machine, None)?;
        let desk = match self {
            Self::Audit(_) | Self::Vault(_) => Desk::open_existing(config, machine).await?,
            _ => Desk::open(config, machine).await?,
        };
        // What is about to be checked isn't signed before.
        let last = match self {
            Self::Audit(audit::AuditCommand::Verify { .. }) => LastHead::Left,
            _ => LastHead::Signed,
        };
        let done = self.run_command(&desk).await;
        let closed = desk.close(last).await;
        let answer = done?;
        closed?;
        Ok(answer)
    }

    async fn run_command(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            Self::User(command) => command.run(desk).await,
            Self::Group(command) => command.run(desk).await,
            Self::Grant(command) => command.run(desk).await,
            Self::Server(command) => command.run(desk).await,
            Self::Tool(command) => command.run(desk).await,
            Self::Credential(command) => command.run(desk).await,
            Self::Shared(command) => command.run(desk).await,
            Self::Key(command) => command.run(desk).await,
            Self::Audit(command) => command.run(desk).await,
            Self::Vault(command) => command.run(desk).await,
            Self::Serve(_)
            | Self::Demo(_)
            | Self::Connect(_)
            | Self::Database(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Openapi
            | Self::DemoServer { .. } => Err(Failure::usage("this command needs no data")),
        }
    }
}

impl Options {
    /// Reads the configuration.
    fn load(self, machine: &Machine, listen: Option<Listen>) -> Result<Config, Failure> {
        let file = match self.config {
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(error) => {
                    return Err(Failure::io(&format!("the configuration {}", path.display()), &error));
                }
            },
            None => None,
        };
        let flags = Flags {
            data_dir: self.data_dir,
            behind_proxy: listen.as_ref().and_then(|listen| listen.behind_proxy.then_some(true)),
            listen: listen.and_then(|listen| listen.listen),
            database: DatabaseFlags { url: self.database_url, worker_url: self.worker_url },
        };
        Ok(Config::load(&Sources { file, environment: machine.environment.clone(), flags })?)
    }
}

fn openapi() -> Result<Answer, Failure> {
    let failed = |error: serde_json::Error| Failure::new("internal", error.to_string());
    let description = serde_json::to_value(http::openapi()).map_err(failed)?;
    let text = serde_json::to_string_pretty(&description).map_err(failed)?;
    Ok(Answer::new(text, description))
}

async fn run_demo_server(http: Option<SocketAddr>, machine: &Machine) -> Result<Answer, Failure> {
    let transport = http.map_or(Transport::Stdio, Transport::Http);
    let token = machine.variable("DEMO_TOKEN").map(str::to_owned);
    demo_server::run(transport, token).await.map_err(|error| Failure::io("the demo server", &error))?;
    Ok(Answer::silent())
}
