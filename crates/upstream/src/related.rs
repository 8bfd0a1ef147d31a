//! What the client and the server call the task that a request is about.

use mcphub_wire::{Fault, Id, Notification, Outcome, Params, Raw, method, progress, task};

/// Holds both names of a task.
#[derive(Clone, Debug)]
pub(crate) struct TaskNames {
    /// What the client calls it: the hub's name.
    pub(crate) here: Box<str>,
    /// What its server calls it.
    pub(crate) there: Box<str>,
    /// The tokens of the call that became the task.
    pub(crate) progress: Option<TaskProgress>,
}

/// Holds both tokens of a call: the server's progress carries them as long as the task goes on that the call became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskProgress {
    /// What the client gave: a text or a whole number.
    pub here: Raw,
    /// What the hub gave the server.
    pub there: i64,
}

impl TaskNames {
    /// Writes parameters of the server's for the client. They were read as a message, and another name changes nothing in that.
    pub(crate) fn to_client(&self, params: &Params) -> Params {
        task::rename_in_params(params, &self.there, &self.here).unwrap_or_else(|_| params.clone())
    }

    /// Writes a notification for the client; nothing if it tells how another task stands.
    pub(crate) fn notification_to_client(&self, notification: &Notification) -> Option<Notification> {
        let params = notification.params.as_ref()?;
        let is_other = task::named(params).is_none_or(|id| *id != *self.there);
        if &*notification.method == method::TASK_STATUS && is_other {
            return None;
        }
        Some(Notification { method: notification.method.clone(), params: Some(self.to_client(params)) })
    }

    /// Returns the client's token of a notification that tells how far the task is.
    pub(crate) fn token(&self, notification: &Notification) -> Option<&Raw> {
        let token = progress::token(notification);
        self.progress.as_ref().filter(|one| token == Some(Id::Integer(one.there))).map(|one| &one.here)
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
