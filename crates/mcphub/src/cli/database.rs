//! `mcphub database`: make a PostgreSQL database ready.

use std::path::PathBuf;

use clap::Subcommand;
use mcphub_domain::{Entropy, SecretText};
use mcphub_hub::{HubError, Roles, prepare};
use serde_json::json;

use super::answer::Answer;
use super::failure::Failure;
use super::input;
use crate::config::holds_password;

#[derive(Subcommand, Debug)]
pub(crate) enum DatabaseCommand {
    /// Make the logins, the database and the tables, and print the lines for the configuration
    #[command(group = clap::ArgGroup::new("admin").required(true))]
    Prepare {
        /// The address, best without its password, of a login that may make logins and databases
        #[arg(long, value_name = "URL", group = "admin")]
        admin_url: Option<String>,
        /// A file with that address, which may hold the password too; `-` is standard input
        #[arg(long, value_name = "FILE", group = "admin")]
        admin_url_file: Option<PathBuf>,
        /// The name of the database
        #[arg(long, default_value = "mcphub")]
        name: String,
        /// What the names of the logins begin with
        #[arg(long, default_value = "mcphub")]
        role_prefix: String,
    },
}

impl DatabaseCommand {
    pub(crate) async fn run(self, entropy: &Entropy) -> Result<Answer, Failure> {
        let Self::Prepare { admin_url, admin_url_file, name, role_prefix } = self;
        let roles = Roles::with_prefix(&role_prefix);
        let mut notes: Vec<&str> = Vec::new();
        notes.extend(admin_url.as_deref().filter(|url| holds_password(url)).map(|_| EXPOSED));
        let admin_url = admin(admin_url, admin_url_file)?;
        let prepared = prepare(admin_url.expose(), &name, &roles, entropy).await.map_err(HubError::from)?;
        let (app, worker) = (prepared.app, prepared.worker);
        let text = format!("[database]\nurl = \"{app}\"\nworker_url = \"{worker}\"");
        let answer = Answer::new(text, json!({ "url": app, "worker_url": worker }));
        if app.password().is_none() || worker.password().is_none() {
            notes.push("A login that was there before keeps its password: fill it in.");
        }
        Ok(if notes.is_empty() { answer } else { answer.with_note(notes.join("\n")) })
    }
}

/// Warns of what was done already: the command runs for a moment, so the warning suffices.
const EXPOSED: &str = "--admin-url held a password, and everybody on this machine could read it while the command \
    ran: write the address into a file and say --admin-url-file FILE (- is standard input), or leave the \
    password out and keep it in ~/.pgpass or PGPASSWORD.";

/// Finds the administrator's address: an argument, which everybody on the machine can read, or a file.
fn admin(argument: Option<String>, file: Option<PathBuf>) -> Result<SecretText, Failure> {
    match (argument, file) {
        (Some(url), _) => Ok(SecretText::new(url)),
        (None, Some(file)) => input::secret_in(&file),
        (None, None) => Err(Failure::usage("say --admin-url URL or --admin-url-file FILE")),
    }
}
