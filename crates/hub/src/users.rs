//! People: add, list, change, disable.

use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{Event, Role, User, UserId, UserName};
use mcphub_policy::Administration;

use crate::caller::Caller;
use crate::error::{HubError, check_revision};
use crate::hub::Hub;

/// Describes a person to add.
#[derive(Debug)]
pub struct NewUser {
    /// The name that she signs in with.
    pub name: UserName,
    /// Her e-mail address.
    pub email: Option<String>,
    /// What she may administrate.
    pub role: Role,
}

/// Says what to change of a person, based on a revision that was read before.
#[derive(Debug)]
pub struct UpdateUser {
    /// The revision that the change is based on.
    pub revision: i64,
    /// A new e-mail address.
    pub email: Option<String>,
    /// A new role.
    pub role: Option<Role>,
    /// Whether she may read the audit log.
    pub auditor: Option<Auditor>,
    /// Whether she may do anything.
    pub state: Option<UserState>,
}

impl UpdateUser {
    /// Changes nothing yet.
    pub const fn based_on(revision: i64) -> Self {
        Self { revision, email: None, role: None, auditor: None, state: None }
    }

    fn apply(self, user: &User) -> User {
        User {
            email: self.email.or_else(|| user.email.clone()),
            role: self.role.unwrap_or(user.role),
            auditor: self.auditor.unwrap_or(user.auditor),
            state: self.state.unwrap_or(user.state),
            revision: user.revision + 1,
            ..user.clone()
        }
    }
}

impl Hub {
    /// Adds a person. She is in no group, so she can call nothing.
    pub async fn add_user(&self, caller: &Caller, new: NewUser) -> Result<User, HubError> {
        let mut permit = self.administrate(caller, Administration::ManageUsers, "users.add").await?;
        check_email(new.email.as_deref())?;
        let user = User {
            id: UserId::random(&self.entropy),
            name: new.name,
            email: new.email,
            role: new.role,
            auditor: Auditor::No,
            state: UserState::Active,
            revision: 1,
            created_at: self.clock.now(),
        };
        self.name(&mut permit, &user).await?;
        let mut tx = self.store.write().await?;
        tx.add_user(&user).await?;
        let event = Event::UserAdded { user: user.id, role: user.role };
        self.commit(tx, permit, event).await?;
        Ok(user)
    }

    /// Changes a person. The last active admin stays one.
    pub async fn update_user(
        &self,
        caller: &Caller,
        id: UserId,
        update: UpdateUser,
    ) -> Result<User, HubError> {
        let permit = self.administrate(caller, Administration::ManageUsers, "users.update").await?;
        check_email(update.email.as_deref())?;
        let world = self.snapshot.fresh()?;
        let before = world.user(id).ok_or_else(|| not_found(id))?;
        check_revision(format_args!("user {}", before.name), before.revision, update.revision)?;
        let user = update.apply(before);
        if is_admin(before) && !is_admin(&user) && world.users().filter(|user| is_admin(user)).count() == 1 {
            return Err(HubError::Conflict(format!(
                "{} is the last active admin: make another one first",
                user.name
            )));
        }
        let mut tx = self.store.write().await?;
        tx.put_user(&user).await?;
        let event =
            Event::UserUpdated { user: id, role: user.role, auditor: user.auditor, state: user.state };
        self.commit(tx, permit, event).await?;
        Ok(user)
    }

    /// Lists all people, by name.
    pub async fn list_users(&self, caller: &Caller) -> Result<Vec<User>, HubError> {
        self.administrate(caller, Administration::ReadDirectory, "users.list").await?;
        let mut users: Vec<User> = self.snapshot.fresh()?.users().cloned().collect();
        users.sort_by(|one, other| one.name.cmp(&other.name));
        self.record_read(caller, "users.list", None, users.len()).await;
        Ok(users)
    }

    /// Finds a person. Everybody may look at herself.
    pub async fn find_user(&self, caller: &Caller, id: UserId) -> Result<User, HubError> {
        if caller.principal().user() != Some(id) {
            self.administrate(caller, Administration::ReadDirectory, "users.show").await?;
        }
        let user = self.snapshot.fresh()?.user(id).cloned().ok_or_else(|| not_found(id))?;
        self.record_read(caller, "users.show", Some(&id.to_string()), 1).await;
        Ok(user)
    }
}

fn is_admin(user: &User) -> bool {
    user.role == Role::Admin && user.state == UserState::Active
}

fn not_found(id: UserId) -> HubError {
    HubError::NotFound { what: format!("user {id}") }
}

fn check_email(email: Option<&str>) -> Result<(), HubError> {
    match email {
        Some(text) if text.len() > 254 || !text.contains('@') || text.chars().any(char::is_whitespace) => {
            Err(HubError::Invalid(format!("{text:?} is not an e-mail address")))
        }
        _ => Ok(()),
    }
}
