//! Tasks (an extension of 2026-07-28, and part of 2025-11-25): a call that goes on at its server, and is asked after
//! by an id.
//!
//! The id that a client gets is sealed for its person and endpoint and says whose task it is, so nobody asks after
//! another's, and no table is needed. The eras understand nothing of each other's tasks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcphub_domain::ServerId;
use mcphub_upstream::{Prefers, TaskProgress, Wanted};
use mcphub_vault::{Context, Sealed};
use mcphub_wire::{Limits, Raw};
use serde::{Deserialize, Serialize};

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;
use crate::offers::Entrance;

/// How long an id can be that a server gives, in bytes.
pub(crate) const LONGEST_ID: usize = 1_024;
/// How long a client's progress token can be, in bytes, to serve as long as a task goes on.
pub(crate) const LONGEST_TOKEN: usize = 1_024;

/// Is a call that became a task.
#[derive(Debug)]
pub struct Began<'a> {
    /// Its server.
    pub server: ServerId,
    /// Its tool, by its name on the endpoint.
    pub tool: &'a str,
    /// What its progress is told under, if its client wants to hear of that.
    pub progress: Option<TaskProgress>,
}

/// Says whose a task is.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Task {
    /// The server that has it.
    pub(crate) server: String,
    /// The tool whose call began it, by its name on the endpoint.
    pub(crate) tool: String,
    /// The server's own id.
    pub(crate) id: String,
    /// What its progress is told under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Tokens>,
}

/// Are both tokens of a call.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Tokens {
    /// The run of the hub whose token it is.
    pub(crate) run: String,
    /// The hub's token.
    there: i64,
    /// The client's, as JSON.
    here: String,
}

impl Hub {
    /// Names a task for the client whose call of a tool began it.
    pub fn seal_task(
        &self,
        caller: &Caller,
        entrance: Entrance<'_>,
        began: Began<'_>,
        id: &str,
    ) -> Result<String, HubError> {
        let owner = caller
            .principal()
            .user()
            .ok_or_else(|| HubError::Invalid("only a person has tasks".to_owned()))?;
        if id.len() > LONGEST_ID {
            return Err(HubError::Invalid("the task's id is too long".to_owned()));
        }
        let Began { server, tool, progress } = began;
        let progress = progress.filter(|progress| progress.here.len() <= LONGEST_TOKEN);
        let progress = progress.map(|progress| self.tokens(progress)).transpose()?;
        let task = Task { server: server.to_string(), tool: tool.to_owned(), id: id.to_owned(), progress };
        let plain = serde_json::to_vec(&task).map_err(internal)?;
        let vault = &self.seal.open()?.vault;
        let sealed = vault.seal(&place(&owner.to_string(), entrance), &plain, &self.entropy)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed.as_bytes()))
    }

    /// Reads a task's name: nothing if it is none of this person's on this endpoint.
    pub(crate) fn open_task(&self, caller: &Caller, entrance: Entrance<'_>, name: &str) -> Option<Task> {
        let owner = caller.principal().user()?.to_string();
        let sealed = Sealed::from_bytes(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        let plain = self.seal.open().ok()?.vault.open(&place(&owner, entrance), &sealed).ok()?;
        serde_json::from_slice(plain.expose()).ok()
    }

    /// Asks a task's server to do something with it.
    pub(crate) fn ask_about(&self, task: Task, method: &'static str) -> Result<Wanted, HubError> {
        // Another run of the hub counts its tokens from one as well: the same token would be another call's.
        let progress = task.progress.filter(|tokens| tokens.run == self.run);
        let progress = progress.map(|Tokens { there, here, .. }| {
            let here = Raw::parse(here.into(), &Limits::REQUEST).map_err(internal)?;
            Ok::<_, HubError>(TaskProgress { here, there })
        });
        Ok(Wanted::Task { method, id: task.id.into(), progress: progress.transpose()? })
    }

    fn tokens(&self, TaskProgress { here, there }: TaskProgress) -> Result<Tokens, HubError> {
        let here = String::from_utf8(here.to_vec()).map_err(internal)?;
        Ok(Tokens { run: self.run.clone(), there, here })
    }
}

fn internal(error: impl std::fmt::Display) -> HubError {
    HubError::Internal(error.to_string())
}

/// Says where the name of a task is sealed for: one person at one endpoint, in one era.
const fn place<'a>(owner: &'a str, entrance: Entrance<'a>) -> Context<'a> {
    let name = match entrance.client.about.prefers {
        Prefers::Modern => "",
        Prefers::Legacy => "session",
    };
    Context { table: "tasks", column: "id", row: entrance.path, owner, name, version: 1, destination: None }
}
