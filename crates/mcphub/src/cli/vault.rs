//! `mcphub vault`: the keys that everything is sealed under.

use clap::Subcommand;
use mcphub_hub::vault::{KeyState, KeyStatus, Rotated, VaultStatus};
use serde_json::{Value, json};

use super::answer::{Answer, Table};
use super::desk::Desk;
use super::failure::Failure;

#[derive(Subcommand, Debug)]
pub(crate) enum VaultCommand {
    /// Show the keys and how much is sealed under each; exit code 1 if something is to be done
    Status,
    /// Make a new key and move everything under it, while the hub runs; goes on where it stopped
    Rotate {
        /// Give up a rotation whose new key is lost before it sealed anything
        #[arg(long)]
        abandon: bool,
    },
    /// Take away the old keys that nothing is sealed under; backups made before still need them
    Retire,
}

impl VaultCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            Self::Status => status(desk).await,
            Self::Rotate { abandon: false } => Ok(rotated(&desk.hub.rotate_vault(&desk.operator).await?)),
            Self::Rotate { abandon: true } => {
                let key = desk.hub.abandon_rotation(&desk.operator).await?;
                Ok(Answer::new(format!("the rotation to key {key} is given up"), json!({ "abandoned": key })))
            }
            Self::Retire => retire(desk).await,
        }
    }
}

async fn status(desk: &Desk) -> Result<Answer, Failure> {
    let status = desk.hub.vault_status(&desk.operator).await?;
    let faults = faults(&status, desk.config.key_lies_in_data());
    let json = json!({
        "provider": if status.provider.file.is_some() { "file" } else { "env" },
        "file": status.provider.file,
        "sealed": status.sealed,
        "unfinished": status.unfinished,
        "damaged": status.damaged,
        "keys": status.keys.iter().map(view).collect::<Vec<_>>(),
        "faults": faults,
    });
    let place = status.provider.file.as_ref().map_or_else(
        || "the keys come from the environment".to_owned(),
        |file| format!("the keys come from {}", file.display()),
    );
    let mut table = Table::new(&["KEY", "STATE", "SINCE", "HERE", "VALUES"], "no key is known yet");
    for key in &status.keys {
        let held = if key.held { "yes" } else { "no" };
        let cells = [
            key.id.to_string(),
            word(key.state).to_owned(),
            key.created_at.to_string(),
            held.to_owned(),
            key.values.to_string(),
        ];
        table.row(cells);
    }
    let seal = if status.sealed { "sealed" } else { "unsealed" };
    let lines: Vec<String> =
        [format!("{seal}; {place}"), table.to_string()].into_iter().chain(faults).collect();
    let answer = Answer::new(lines.join("\n"), json);
    Ok(if lines.len() > 2 { answer.failed() } else { answer })
}

/// Says what is to be done about the vault.
fn faults(status: &VaultStatus, lies_in_data: bool) -> Vec<String> {
    let mut faults: Vec<String> = status.provider.fault.iter().cloned().collect();
    if lies_in_data {
        let text = "the key lies in the data directory: a copy of the data is readable; set vault.key_dir";
        faults.push(text.to_owned());
    }
    for key in status.keys.iter().filter(|key| !key.held && (key.values > 0 || key.state != KeyState::Old)) {
        faults.push(format!("key {} is not here: {} values don't open", key.id, key.values));
    }
    if status.unfinished {
        faults.push("a rotation is unfinished: run `mcphub vault rotate`".to_owned());
    }
    if status.damaged > 0 {
        faults.push(format!("{} sealed values are damaged: restore them from a backup", status.damaged));
    }
    faults
}

fn rotated(rotated: &Rotated) -> Answer {
    let Rotated { key, resumed, moved, left } = *rotated;
    let json = json!({ "key": key, "resumed": resumed, "moved": moved, "left": left });
    let what = if resumed { "the rotation that was begun before is done" } else { "rotated" };
    let text = format!("{what}: {moved} values moved, key {key} seals");
    if left > 0 {
        let text = format!(
            "{text}; {left} values are left, which don't open or were changed meanwhile: see `mcphub vault status`"
        );
        return Answer::new(text, json).failed();
    }
    Answer::new(text, json).with_note(
        "Copy the key file to where you keep its copy: what is sealed from now on needs the new key. Keep the old \
         one as long as you keep backups that were made before; `mcphub vault retire` takes it away here.",
    )
}

async fn retire(desk: &Desk) -> Result<Answer, Failure> {
    let gone = desk.hub.retire_keys(&desk.operator).await?;
    let text = match gone.as_slice() {
        [] => "nothing to take away: no old key is without values".to_owned(),
        gone => gone.iter().map(|key| format!("key {key} is taken away")).collect::<Vec<_>>().join("\n"),
    };
    Ok(Answer::new(text, json!({ "retired": gone })))
}

fn view(key: &KeyStatus) -> Value {
    json!({
        "id": key.id,
        "state": word(key.state),
        "since": key.created_at.to_string(),
        "held": key.held,
        "values": key.values,
    })
}

const fn word(state: KeyState) -> &'static str {
    match state {
        KeyState::Current => "current",
        KeyState::Next => "next",
        KeyState::Old => "old",
    }
}
