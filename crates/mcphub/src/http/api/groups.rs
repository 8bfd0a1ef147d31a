//! Groups, and who is in them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use mcphub_domain::group::Standing;
use mcphub_domain::{Group, GroupId, GroupName, Membership, UserId};
use mcphub_hub::Hub;
use mcphub_hub::groups::GroupDetails;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Asked, Body, In, Removed, Time};
use super::grants::GrantView;
use super::schema;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiResult, Problem};

/// Describes a group to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddGroup {
    /// Its name, which is also a path under `/mcp/`.
    #[schema(value_type = String)]
    name: GroupName,
}

/// Says how a person is in a group.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinGroup {
    /// What she is to it; `member` unless said otherwise.
    #[schema(schema_with = schema::standing, required = false)]
    standing: Option<Standing>,
    /// When she stops being in it.
    #[schema(schema_with = schema::time, required = false)]
    expires_at: Option<Time>,
    /// The revision of her membership that the change is based on; 0 unless said otherwise: she is not in it.
    #[serde(default)]
    revision: i64,
}

/// Shows a group with all that belongs to it.
#[derive(Serialize, ToSchema)]
pub(super) struct GroupView {
    /// Its id.
    #[schema(schema_with = schema::id)]
    id: String,
    /// Its name.
    name: String,
    /// Counts the changes of it, of who is in it and of what it grants.
    revision: i64,
    /// When it was added.
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// Who is in it.
    members: Vec<MemberView>,
    /// What it grants.
    grants: Vec<GrantView>,
}

/// Shows a person in a group.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberView {
    /// The person.
    #[schema(schema_with = schema::id)]
    user: String,
    /// What she is to the group.
    #[schema(schema_with = schema::standing)]
    standing: Standing,
    /// When she stops being in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    expires_at: Option<String>,
    /// Grows with every change of how she is in it.
    revision: i64,
}

impl From<GroupDetails> for GroupView {
    fn from(details: GroupDetails) -> Self {
        let empty = Self::from(details.group);
        Self {
            members: details.members.into_iter().map(MemberView::from).collect(),
            grants: details.grants.into_iter().map(GrantView::from).collect(),
            ..empty
        }
    }
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            id: group.id.to_string(),
            name: group.name.to_string(),
            revision: group.revision,
            created_at: group.created_at.to_string(),
            members: Vec::new(),
            grants: Vec::new(),
        }
    }
}

impl From<Membership> for MemberView {
    fn from(membership: Membership) -> Self {
        Self {
            user: membership.user.to_string(),
            standing: membership.standing,
            expires_at: membership.expires_at.map(|time| time.to_string()),
            revision: membership.revision,
        }
    }
}

impl JoinGroup {
    fn membership(self, group: GroupId, user: UserId) -> Membership {
        let standing = self.standing.unwrap_or(Standing::Member);
        let expires_at = self.expires_at.map(|Time(time)| time);
        Membership { group, user, standing, expires_at, revision: self.revision }
    }
}

/// Lists all groups with their members and grants, by name.
#[utoipa::path(get, path = "/groups", operation_id = "list_groups", tag = "groups",
    responses((status = 200, description = "All groups", body = [GroupView]), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
) -> ApiResult<Json<Vec<GroupView>>> {
    Ok(Json(hub.list_groups(&caller).await?.into_iter().map(GroupView::from).collect()))
}

/// Adds a group, empty and without grants.
#[utoipa::path(post, path = "/groups", operation_id = "add_group", tag = "groups", request_body = AddGroup,
    responses((status = 201, description = "The new group", body = GroupView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn add(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    Body(add): Body<AddGroup>,
) -> ApiResult<(StatusCode, Json<GroupView>)> {
    Ok((StatusCode::CREATED, Json(hub.add_group(&caller, add.name).await?.into())))
}

/// Removes a group with its memberships and grants.
#[utoipa::path(delete, path = "/groups/{group}", operation_id = "remove_group", tag = "groups",
    params(("group" = String, Path, description = "Its id"), Removed),
    responses((status = 204, description = "It is gone"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(group): In<GroupId>,
    Asked(Removed { revision }): Asked<Removed>,
) -> ApiResult<StatusCode> {
    hub.remove_group(&caller, group, revision).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a person into a group, or changes how she is in it.
#[utoipa::path(put, path = "/groups/{group}/members/{user}", operation_id = "join_group", tag = "groups", request_body = JoinGroup,
    params(("group" = String, Path, description = "The group's id"), ("user" = String, Path, description = "Her id")),
    responses((status = 204, description = "She is in it"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn join(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In((group, user)): In<(GroupId, UserId)>,
    Body(join): Body<JoinGroup>,
) -> ApiResult<StatusCode> {
    hub.join_group(&caller, join.membership(group, user)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a person out of a group.
#[utoipa::path(delete, path = "/groups/{group}/members/{user}", operation_id = "leave_group", tag = "groups",
    params(("group" = String, Path, description = "The group's id"), ("user" = String, Path, description = "Her id"), Removed),
    responses((status = 204, description = "She is out of it"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn leave(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(membership): In<(GroupId, UserId)>,
    Asked(Removed { revision }): Asked<Removed>,
) -> ApiResult<StatusCode> {
    hub.leave_group(&caller, membership, revision).await?;
    Ok(StatusCode::NO_CONTENT)
}
