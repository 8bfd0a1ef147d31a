//! People.

use mcphub_domain::{Timestamp, User, UserId};

use crate::error::StoreError;
use crate::snapshot::ChangeKind;
use crate::statement::{Row, Tx, values};
use crate::tx::WriteTx;

impl WriteTx {
    /// Adds a person. A taken name is an error.
    pub async fn add_user(&mut self, user: &User) -> Result<(), StoreError> {
        self.tx
            .execute(
                "INSERT INTO users (id, name, email, role, auditor, state, revision, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                values![
                    user.id.to_string(),
                    user.name.as_str(),
                    user.email.clone(),
                    user.role.as_str(),
                    user.auditor.as_str(),
                    user.state.as_str(),
                    user.revision,
                    user.created_at.as_micros(),
                ],
            )
            .await
            .map_err(|error| taken(error, user.name.as_str()))?;
        self.changed(ChangeKind::User, user.id);
        Ok(())
    }

    /// Replaces a person's row that still has the revision before `user.revision`.
    pub async fn put_user(&mut self, user: &User) -> Result<(), StoreError> {
        let changed = self
            .tx
            .execute(
                "UPDATE users SET email = $2, role = $3, auditor = $4, state = $5, revision = $6
                  WHERE id = $1 AND revision = $6 - 1",
                values![
                    user.id.to_string(),
                    user.email.clone(),
                    user.role.as_str(),
                    user.auditor.as_str(),
                    user.state.as_str(),
                    user.revision,
                ],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::stale(format!("user {}", user.name)));
        }
        self.changed(ChangeKind::User, user.id);
        Ok(())
    }
}

/// Says that a name is taken, if that is what went wrong.
pub(crate) fn taken(error: StoreError, name: &str) -> StoreError {
    if error.is_collision() { StoreError::Taken { name: name.to_owned() } } else { error }
}

pub(crate) async fn load_users(tx: &mut Tx) -> Result<Vec<User>, StoreError> {
    let rows = tx
        .all("SELECT id, name, email, role, auditor, state, revision, created_at FROM users", values![])
        .await?;
    rows.iter().map(from_row).collect()
}

pub(crate) async fn load_user(tx: &mut Tx, id: UserId) -> Result<Option<User>, StoreError> {
    let row = tx
        .one(
            "SELECT id, name, email, role, auditor, state, revision, created_at FROM users WHERE id = $1",
            values![id.to_string()],
        )
        .await?;
    row.as_ref().map(from_row).transpose()
}

fn from_row(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: row.parse(0)?,
        name: row.parse(1)?,
        email: row.get(2)?,
        role: row.parse(3)?,
        auditor: row.parse(4)?,
        state: row.parse(5)?,
        revision: row.get(6)?,
        created_at: Timestamp::from_micros(row.get(7)?),
    })
}
