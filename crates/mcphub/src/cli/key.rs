//! `mcphub key`: what people's clients sign in with.

use std::time::Duration;

use clap::Subcommand;
use mcphub_domain::{HubKey, KeyId, KeyName, Timestamp, UserName};
use mcphub_hub::keys::NewKey;
use serde_json::{Value, json};

use super::answer::{Answer, Table};
use super::desk::Desk;
use super::failure::Failure;

const DAY: u64 = 86_400;

#[derive(Subcommand, Debug)]
pub(crate) enum KeyCommand {
    /// Make a hub key for a person; it is shown this once
    Create {
        user: UserName,
        /// What she calls it
        #[arg(long)]
        name: KeyName,
        /// How many days it lives, up to 90
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=90))]
        days: u64,
    },
    /// List a person's keys, the newest first
    List { user: UserName },
    /// Revoke a key by the id that `key list` shows; what is open with it ends within a second
    Revoke { id: KeyId },
}

impl KeyCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            Self::Create { user, name, days } => {
                let owner = desk.user(&user).await?.id;
                let life = Duration::from_secs(days * DAY);
                let shown = desk.hub.create_key(&desk.operator, NewKey { owner, name, life }).await?;
                let mut json = view(&shown.key, desk.now);
                if let Some(fields) = json.as_object_mut() {
                    fields.insert("key".to_owned(), json!(shown.text.as_str()));
                }
                let note = format!("It is shown this once, and lives until {}.", shown.key.expires_at);
                Ok(Answer::new(shown.text.as_str(), json).with_note(note))
            }
            Self::List { user } => list(desk, &user).await,
            Self::Revoke { id } => {
                let gone = || Failure::new("not_found", format!("key {id} does not exist"));
                let key = desk.hub.key(&desk.operator, id)?.ok_or_else(gone)?;
                desk.hub.revoke_key(&desk.operator, id, key.revision).await?;
                Ok(Answer::new(format!("revoked key {id}"), json!({ "id": id })))
            }
        }
    }
}

async fn list(desk: &Desk, user: &UserName) -> Result<Answer, Failure> {
    let owner = desk.user(user).await?.id;
    let keys = desk.hub.list_keys(&desk.operator, owner).await?;
    let mut table = Table::new(
        &["ID", "NAME", "STATE", "CREATED", "ENDS"],
        "no keys yet: make one with `mcphub key create USER --name NAME`",
    );
    for key in &keys {
        table.row([
            key.id.to_string(),
            key.name.to_string(),
            state(key, desk.now).to_owned(),
            key.created_at.to_string(),
            key.expires_at.to_string(),
        ]);
    }
    Ok(Answer::table(&table, keys.iter().map(|key| view(key, desk.now)).collect()))
}

fn state(key: &HubKey, now: Timestamp) -> &'static str {
    match key {
        HubKey { revoked_at: Some(_), .. } => "revoked",
        HubKey { exposed_at: Some(_), .. } => "exposed",
        HubKey { expires_at, .. } if *expires_at <= now => "expired",
        _ => "valid",
    }
}

fn view(key: &HubKey, now: Timestamp) -> Value {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    json!({
        "id": key.id,
        "name": key.name,
        "state": state(key, now),
        "created_at": key.created_at.to_string(),
        "expires_at": key.expires_at.to_string(),
        "revoked_at": time(key.revoked_at),
        "exposed_at": time(key.exposed_at),
    })
}
