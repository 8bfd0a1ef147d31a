//! `mcphub database`: make a PostgreSQL database ready.

use clap::Subcommand;
use mcphub_domain::Entropy;
use mcphub_hub::{HubError, Roles, prepare};
use serde_json::json;

use super::answer::Answer;
use super::failure::Failure;

#[derive(Subcommand, Debug)]
pub(crate) enum DatabaseCommand {
    /// Make the logins, the database and the tables, and print the lines for the configuration
    Prepare {
        /// The address of a login that may make logins and databases; it is kept nowhere
        #[arg(long)]
        admin_url: String,
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
        let Self::Prepare { admin_url, name, role_prefix } = self;
        let roles = Roles::with_prefix(&role_prefix);
        let prepared = prepare(&admin_url, &name, &roles, entropy).await.map_err(HubError::from)?;
        let (app, worker) = (prepared.app, prepared.worker);
        let text = format!("[database]\nurl = \"{app}\"\nworker_url = \"{worker}\"");
        let answer = Answer::new(text, json!({ "url": app, "worker_url": worker }));
        let kept = app.password().is_none() || worker.password().is_none();
        Ok(if kept {
            answer.with_note("A login that was there before keeps its password: fill it in.")
        } else {
            answer
        })
    }
}
