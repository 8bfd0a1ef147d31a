//! What the client and the server call the task that a request is about.

use mcphub_wire::{Fault, Notification, Outcome, Params, method, task};

/// Holds both names of a task.
#[derive(Clone, Debug)]
pub(crate) struct TaskNames {
    /// What the client calls it: the hub's name.
    pub(crate) here: Box<str>,
    /// What its server calls it.
    pub(crate) there: Box<str>,
}

impl TaskNames {
    /// Writes parameters of the server's for the client. They were read as a message, and another name changes nothing in that.
    pub(crate) fn to_client(&self, params: &Params) -> Params {
        task::rename_in_params(params, &self.there, &self.here).unwrap_or_else(|_| params.clone())
    }

    /// Writes a notification for the client; nothing if it tells how another task stands.
    pub(crate) fn notification_to_client(&self, notification: &Notification) -> Option<Notification> {
        let params = notification.params.as_ref()?;
        let is_other = params.text("taskId").is_none_or(|id| *id != *self.there);
        if &*notification.method == method::TASK_STATUS && is_other {
            return None;
        }
        Some(Notification { method: notification.method.clone(), params: Some(self.to_client(params)) })
    }

    /// Writes a server's answer for the client.
    pub(crate) fn outcome_to_client(&self, outcome: Outcome) -> Result<Outcome, Fault> {
        match outcome {
            Outcome::Result(result) => task::rename(&result, &self.there, &self.here).map(Outcome::Result),
            error @ Outcome::Error(_) => Ok(error),
        }
    }

    /// Writes a client's answer for the server.
    pub(crate) fn to_server(&self, outcome: &Outcome) -> Outcome {
        match outcome {
            Outcome::Result(result) => {
                let renamed = task::rename(result, &self.here, &self.there);
                Outcome::Result(renamed.unwrap_or_else(|_| result.clone()))
            }
            error @ Outcome::Error(_) => error.clone(),
        }
    }
}
