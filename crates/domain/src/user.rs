//! People.

use serde::{Deserialize, Serialize};

use crate::id::UserId;
use crate::name::UserName;
use crate::role::{Role, words};
use crate::time::Timestamp;

words! {
    /// Says whether a person may do anything at all.
    UserState, "user state" {
        /// May sign in and act.
        Active = "active",
        /// May do nothing; open streams are closed.
        Disabled = "disabled",
    }
    /// Says whether a person may read the audit log, which no role includes.
    Auditor, "auditor state" {
        /// May not.
        No = "no",
        /// May.
        Yes = "yes",
    }
}

/// Describes a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    /// Her id, and her pseudonym in the audit log.
    pub id: UserId,
    /// The name she signs in with.
    pub name: UserName,
    /// Her e-mail address, where known.
    pub email: Option<String>,
    /// What she may administrate.
    pub role: Role,
    /// Whether she may read the audit log.
    pub auditor: Auditor,
    /// Whether she may do anything.
    pub state: UserState,
    /// Counts the changes of this row, from 1.
    pub revision: i64,
    /// When she was added.
    pub created_at: Timestamp,
}
