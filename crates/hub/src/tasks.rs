//! Tasks (an extension of 2026-07-28, and part of 2025-11-25): a call that goes on at its server, and is asked after
//! by an id.
//!
//! The id that a client gets is sealed for its person and endpoint and says whose task it is, so nobody asks after
//! another's, and no table is needed. The eras understand nothing of each other's tasks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcphub_domain::ServerId;
use mcphub_upstream::Prefers;
use mcphub_vault::{Context, Sealed};
use serde::{Deserialize, Serialize};

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;

/// How long an id can be that a server gives, in bytes.
const LONGEST_ID: usize = 1_024;

/// Says whose a task is.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
pub(crate) struct Task {
    /// The server that has it.
    pub(crate) server: String,
    /// The tool whose call began it, by its name on the endpoint.
    pub(crate) tool: String,
    /// The server's own id.
    pub(crate) id: String,
}

impl Hub {
    /// Names a task for the client whose call of a tool began it.
    pub fn seal_task(
        &self,
        caller: &Caller,
        (path, era): (&str, Prefers),
        (server, tool): (ServerId, &str),
        id: &str,
    ) -> Result<String, HubError> {
        let owner = caller
            .principal()
            .user()
            .ok_or_else(|| HubError::Invalid("only a person has tasks".to_owned()))?;
        if id.len() > LONGEST_ID {
            return Err(HubError::Invalid("the task's id is too long".to_owned()));
        }
        let task = Task { server: server.to_string(), tool: tool.to_owned(), id: id.to_owned() };
        let plain = serde_json::to_vec(&task).map_err(|error| HubError::Internal(error.to_string()))?;
        let sealed =
            self.seal.open()?.vault.seal(&place(&owner.to_string(), path, era), &plain, &self.entropy)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed.as_bytes()))
    }

    /// Reads a task's name: nothing if it is none of this person's on this endpoint.
    pub(crate) fn open_task(
        &self,
        caller: &Caller,
        (path, era): (&str, Prefers),
        name: &str,
    ) -> Option<Task> {
        let owner = caller.principal().user()?.to_string();
        let sealed = Sealed::from_bytes(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        let plain = self.seal.open().ok()?.vault.open(&place(&owner, path, era), &sealed).ok()?;
        serde_json::from_slice(plain.expose()).ok()
    }
}

/// Says where the name of a task is sealed for: one person at one endpoint, in one era.
const fn place<'a>(owner: &'a str, path: &'a str, era: Prefers) -> Context<'a> {
    let name = match era {
        Prefers::Modern => "",
        Prefers::Legacy => "session",
    };
    Context { table: "tasks", column: "id", row: path, owner, name, version: 1, destination: None }
}
