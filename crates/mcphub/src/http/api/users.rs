//! People.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{Role, User, UserName};
use mcphub_hub::Hub;
use mcphub_hub::users::{NewUser, UpdateUser as Update};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Body, In, Person};
use super::schema;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiResult, Problem};

/// Describes a person to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddUser {
    /// The name that she signs in with.
    #[schema(value_type = String)]
    name: UserName,
    /// Her e-mail address.
    email: Option<String>,
    /// What she may administrate; `user` unless said otherwise.
    #[schema(schema_with = schema::role, required = false)]
    role: Option<Role>,
}

/// Says what to change of a person.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateUser {
    /// The revision that the change is based on.
    revision: i64,
    /// A new e-mail address.
    email: Option<String>,
    /// A new role.
    #[schema(schema_with = schema::role, required = false)]
    role: Option<Role>,
    /// Whether she may read the audit log.
    #[schema(schema_with = schema::auditor, required = false)]
    auditor: Option<Auditor>,
    /// Whether she may do anything.
    #[schema(schema_with = schema::user_state, required = false)]
    state: Option<UserState>,
}

/// Shows a person.
#[derive(Serialize, ToSchema)]
pub(super) struct UserView {
    /// Her id, and her pseudonym in the log.
    #[schema(schema_with = schema::id)]
    id: String,
    /// The name that she signs in with.
    name: String,
    /// Her e-mail address.
    email: Option<String>,
    /// What she may administrate.
    #[schema(schema_with = schema::role)]
    role: Role,
    /// Whether she may read the audit log.
    #[schema(schema_with = schema::auditor)]
    auditor: Auditor,
    /// Whether she may do anything.
    #[schema(schema_with = schema::user_state)]
    state: UserState,
    /// Counts the changes.
    revision: i64,
    /// When she was added.
    #[schema(schema_with = schema::time)]
    created_at: String,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            name: user.name.to_string(),
            email: user.email,
            role: user.role,
            auditor: user.auditor,
            state: user.state,
            revision: user.revision,
            created_at: user.created_at.to_string(),
        }
    }
}

impl From<AddUser> for NewUser {
    fn from(add: AddUser) -> Self {
        Self { name: add.name, email: add.email, role: add.role.unwrap_or(Role::User) }
    }
}

impl From<UpdateUser> for Update {
    fn from(update: UpdateUser) -> Self {
        let UpdateUser { revision, email, role, auditor, state } = update;
        Self { revision, email, role, auditor, state }
    }
}

/// Shows the caller herself.
#[utoipa::path(get, path = "/me", operation_id = "show_me", tag = "users",
    responses((status = 200, description = "The caller", body = UserView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn me(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
) -> ApiResult<Json<UserView>> {
    let me = Person::caller().of(&caller)?;
    Ok(Json(hub.find_user(&caller, me).await?.into()))
}

/// Lists all people, by name.
#[utoipa::path(get, path = "/users", operation_id = "list_users", tag = "users",
    responses((status = 200, description = "All people", body = [UserView]), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
) -> ApiResult<Json<Vec<UserView>>> {
    Ok(Json(hub.list_users(&caller).await?.into_iter().map(UserView::from).collect()))
}

/// Adds a person. She is in no group, so she can call nothing.
#[utoipa::path(post, path = "/users", operation_id = "add_user", tag = "users", request_body = AddUser,
    responses((status = 201, description = "The new person", body = UserView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn add(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    Body(add): Body<AddUser>,
) -> ApiResult<(StatusCode, Json<UserView>)> {
    Ok((StatusCode::CREATED, Json(hub.add_user(&caller, add.into()).await?.into())))
}

/// Shows a person. Everybody may look at herself.
#[utoipa::path(get, path = "/users/{user}", operation_id = "show_user", tag = "users",
    params(("user" = String, Path, description = "Her id, or `me`")),
    responses((status = 200, description = "The person", body = UserView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(user): In<Person>,
) -> ApiResult<Json<UserView>> {
    Ok(Json(hub.find_user(&caller, user.of(&caller)?).await?.into()))
}

/// Changes a person: her role, whether she is active, whether she may read the log.
#[utoipa::path(patch, path = "/users/{user}", operation_id = "update_user", tag = "users", request_body = UpdateUser,
    params(("user" = String, Path, description = "Her id, or `me`")),
    responses((status = 200, description = "The person as she is now", body = UserView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn update(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(user): In<Person>,
    Body(update): Body<UpdateUser>,
) -> ApiResult<Json<UserView>> {
    Ok(Json(hub.update_user(&caller, user.of(&caller)?, update.into()).await?.into()))
}
