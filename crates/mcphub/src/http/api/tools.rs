//! The tools of a server, and their approval.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use mcphub_domain::{Effect, ServerId, Tool, ToolDigest, ToolName, ToolState};
use mcphub_hub::Hub;
use mcphub_hub::servers::UpdateTool as Update;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Body, In};
use super::schema;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiResult, Problem};

/// Says what to change of a tool.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateTool {
    /// The revision that the change is based on.
    revision: i64,
    /// The digest of the definition that was looked at; another one is not approved.
    #[schema(schema_with = schema::digest)]
    digest: ToolDigest,
    /// What it does to the world.
    #[schema(schema_with = schema::effect, required = false)]
    effect: Option<Effect>,
    /// Whether it may be seen and called.
    #[schema(schema_with = schema::tool_state, required = false)]
    state: Option<ToolState>,
}

/// Shows a tool.
#[derive(Serialize, ToSchema)]
pub(super) struct ToolView {
    /// The name that the server gives it.
    name: String,
    /// What it does to the world.
    #[schema(schema_with = schema::effect)]
    effect: Effect,
    /// Whether it may be seen and called.
    #[schema(schema_with = schema::tool_state)]
    state: ToolState,
    /// The digest of its definition.
    #[schema(schema_with = schema::digest)]
    digest: String,
    /// Counts the changes.
    revision: i64,
}

impl From<Tool> for ToolView {
    fn from(tool: Tool) -> Self {
        let (name, digest) = (tool.name.to_string(), tool.digest.to_string());
        Self { name, effect: tool.effect, state: tool.state, digest, revision: tool.revision }
    }
}

impl From<UpdateTool> for Update {
    fn from(UpdateTool { revision, digest, effect, state }: UpdateTool) -> Self {
        Self { revision, digest, effect, state }
    }
}

/// Lists the tools of a server, pending ones included, by name.
#[utoipa::path(get, path = "/servers/{server}/tools", operation_id = "list_tools", tag = "tools",
    params(("server" = String, Path, description = "The server's id")),
    responses((status = 200, description = "Its tools", body = [ToolView]), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(server): In<ServerId>,
) -> ApiResult<Json<Vec<ToolView>>> {
    Ok(Json(hub.list_server_tools(&caller, server).await?.into_iter().map(ToolView::from).collect()))
}

/// Approves a tool, takes the approval back, or says what it does to the world.
#[utoipa::path(patch, path = "/servers/{server}/tools/{tool}", operation_id = "update_tool", tag = "tools", request_body = UpdateTool,
    params(("server" = String, Path, description = "The server's id"), ("tool" = String, Path, description = "The tool's name")),
    responses((status = 200, description = "The tool as it is now", body = ToolView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn update(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In((server, tool)): In<(ServerId, ToolName)>,
    Body(update): Body<UpdateTool>,
) -> ApiResult<Json<ToolView>> {
    Ok(Json(hub.update_tool(&caller, server, &tool, update.into()).await?.into()))
}
