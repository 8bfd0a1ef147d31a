//! Grants: what a group may do on a server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use mcphub_domain::group::Author;
use mcphub_domain::{Grant, GrantId, GroupId, Rights, ServerId, ToolPattern, Verdict};
use mcphub_hub::Hub;
use mcphub_hub::groups::NewGrant;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Asked, Body, In, Removed, Time};
use super::schema;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiResult, Problem};

/// Describes a grant to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddGrant {
    /// Who gets it.
    #[schema(schema_with = schema::id)]
    group: GroupId,
    /// On what.
    #[schema(schema_with = schema::id)]
    server: ServerId,
    /// Whether it gives or takes away; `allow` unless said otherwise.
    #[schema(schema_with = schema::verdict, required = false)]
    verdict: Option<Verdict>,
    /// Which rights.
    #[schema(schema_with = schema::rights)]
    rights: Rights,
    /// For which tools, with `*` for any run of characters; none means all.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    tools: Vec<ToolPattern>,
    /// When it ends.
    #[schema(schema_with = schema::time, required = false)]
    expires_at: Option<Time>,
}

/// Shows a grant.
#[derive(Serialize, ToSchema)]
pub(super) struct GrantView {
    /// Its id.
    #[schema(schema_with = schema::id)]
    id: String,
    /// Who gets it.
    #[schema(schema_with = schema::id)]
    group: String,
    /// On what.
    #[schema(schema_with = schema::id)]
    server: String,
    /// Whether it gives or takes away.
    #[schema(schema_with = schema::verdict)]
    verdict: Verdict,
    /// As what somebody made it: what an admin made only admins remove, and what a group's manager made
    /// holds while an admin's grant lets the group do anything on the server.
    #[schema(schema_with = schema::author)]
    author: Author,
    /// Which rights.
    #[schema(schema_with = schema::rights)]
    rights: Rights,
    /// For which tools; none means all.
    tools: Vec<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    expires_at: Option<String>,
    /// Counts the changes.
    revision: i64,
}

impl From<AddGrant> for NewGrant {
    fn from(add: AddGrant) -> Self {
        Self {
            group: add.group,
            server: add.server,
            verdict: add.verdict.unwrap_or(Verdict::Allow),
            rights: add.rights,
            tools: add.tools,
            expires_at: add.expires_at.map(|Time(time)| time),
        }
    }
}

impl From<Grant> for GrantView {
    fn from(grant: Grant) -> Self {
        Self {
            id: grant.id.to_string(),
            group: grant.group.to_string(),
            server: grant.server.to_string(),
            verdict: grant.verdict,
            author: grant.author,
            rights: grant.rights,
            tools: grant.tools.iter().map(ToString::to_string).collect(),
            expires_at: grant.expires_at.map(|time| time.to_string()),
            revision: grant.revision,
        }
    }
}

/// Adds a grant.
#[utoipa::path(post, path = "/grants", operation_id = "add_grant", tag = "grants", request_body = AddGrant,
    responses((status = 201, description = "The new grant", body = GrantView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn add(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    Body(add): Body<AddGrant>,
) -> ApiResult<(StatusCode, Json<GrantView>)> {
    Ok((StatusCode::CREATED, Json(hub.add_grant(&caller, add.into()).await?.into())))
}

/// Removes a grant.
#[utoipa::path(delete, path = "/grants/{grant}", operation_id = "remove_grant", tag = "grants",
    params(("grant" = String, Path, description = "Its id"), Removed),
    responses((status = 204, description = "It is gone"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(grant): In<GrantId>,
    Asked(Removed { revision }): Asked<Removed>,
) -> ApiResult<StatusCode> {
    hub.remove_grant(&caller, grant, revision).await?;
    Ok(StatusCode::NO_CONTENT)
}
