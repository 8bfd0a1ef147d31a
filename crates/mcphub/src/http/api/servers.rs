//! Servers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use mcphub_domain::server::ServerState;
use mcphub_domain::{Server, ServerDefinition, ServerId, ServerName, Slot};
use mcphub_hub::Hub;
use mcphub_hub::discovery::{Listed, Tried};
use mcphub_hub::import::{ImportOutcome, Imported};
use mcphub_hub::servers::UpdateServer as Update;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::definition::Definition;
use super::extract::{Asked, Body, In, Removed, Text};
use super::schema;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiError, ApiResult, Problem};

/// Describes a server to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddServer {
    /// Its name: the prefix of its tools, and a path under `/mcp/`.
    #[schema(value_type = String)]
    name: ServerName,
    /// How it is reached.
    definition: Definition,
}

/// Says what to change of a server.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateServer {
    /// The revision that the change is based on.
    revision: i64,
    /// A new definition, whole.
    definition: Option<Definition>,
    /// Whether it is in use.
    #[schema(schema_with = schema::server_state, required = false)]
    state: Option<ServerState>,
}

/// Shows a server.
#[derive(Serialize, ToSchema)]
pub(super) struct ServerView {
    /// Its id.
    #[schema(schema_with = schema::id)]
    id: String,
    /// Its name.
    name: String,
    /// How it is reached.
    definition: Definition,
    /// The values that each person fills in.
    personal_slots: Vec<String>,
    /// The values that an admin sets for everybody.
    shared_slots: Vec<String>,
    /// Whether it is in use.
    #[schema(schema_with = schema::server_state)]
    state: ServerState,
    /// Counts the changes.
    revision: i64,
    /// When it was added.
    #[schema(schema_with = schema::time)]
    created_at: String,
}

/// Says what became of one server of an imported file.
#[derive(Serialize, ToSchema)]
pub(super) struct ImportedView {
    /// Its name in the file.
    original: String,
    /// Its name in the hub.
    name: Option<String>,
    /// `added`, `updated`, `unchanged` or `refused`.
    outcome: &'static str,
    /// Why it was refused.
    reason: Option<String>,
    /// What was changed on the way.
    notes: Vec<String>,
}

/// Counts what a server's list of tools changed.
#[derive(Serialize, ToSchema)]
pub(super) struct ListedView {
    /// Tools that can be called.
    approved: u64,
    /// Tools that wait for an approval.
    pending: u64,
    /// Tools that are gone.
    removed: u64,
    /// What each person has to fill in before the tools are taken up: the server answers, but it was
    /// asked without anybody's values.
    needs: Vec<String>,
}

impl From<Server> for ServerView {
    fn from(server: Server) -> Self {
        let (personal, shared): (Vec<Slot>, Vec<Slot>) =
            server.definition.slots().into_iter().partition(|slot| matches!(slot, Slot::Personal(_)));
        let names = |slots: Vec<Slot>| slots.iter().map(|slot| slot.name().to_string()).collect();
        Self {
            id: server.id.to_string(),
            name: server.name.to_string(),
            definition: server.definition.into(),
            personal_slots: names(personal),
            shared_slots: names(shared),
            state: server.state,
            revision: server.revision,
            created_at: server.created_at.to_string(),
        }
    }
}

impl From<Imported> for ImportedView {
    fn from(imported: Imported) -> Self {
        let (outcome, reason) = match imported.outcome {
            ImportOutcome::Added => ("added", None),
            ImportOutcome::Updated => ("updated", None),
            ImportOutcome::Unchanged => ("unchanged", None),
            ImportOutcome::Refused(reason) => ("refused", Some(reason)),
        };
        let name = imported.name.map(|name| name.to_string());
        Self { original: imported.original, name, outcome, reason, notes: imported.notes }
    }
}

impl From<Tried> for ListedView {
    fn from(tried: Tried) -> Self {
        let (Listed { approved, pending, removed }, needs) = match tried {
            Tried::Listed(listed) => (listed, Vec::new()),
            Tried::Answers { needs } => (Listed::default(), needs),
        };
        let needs = needs.iter().map(|slot| slot.name().to_string()).collect();
        Self { approved, pending, removed, needs }
    }
}

impl TryFrom<UpdateServer> for Update {
    type Error = ApiError;

    fn try_from(update: UpdateServer) -> Result<Self, ApiError> {
        let definition = update.definition.map(ServerDefinition::try_from).transpose()?;
        Ok(Self { revision: update.revision, definition, state: update.state })
    }
}

/// Lists all servers, by name.
#[utoipa::path(get, path = "/servers", operation_id = "list_servers", tag = "servers",
    responses((status = 200, description = "All servers", body = [ServerView]), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
) -> ApiResult<Json<Vec<ServerView>>> {
    Ok(Json(hub.list_servers(&caller).await?.into_iter().map(ServerView::from).collect()))
}

/// Adds a server. Its tools are listed at once if shared values suffice.
#[utoipa::path(post, path = "/servers", operation_id = "add_server", tag = "servers", request_body = AddServer,
    responses((status = 201, description = "The new server", body = ServerView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn add(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    Body(add): Body<AddServer>,
) -> ApiResult<(StatusCode, Json<ServerView>)> {
    let server = hub.add_server(&caller, add.name, add.definition.try_into()?).await?;
    Ok((StatusCode::CREATED, Json(server.into())))
}

/// Imports all servers of a file in the `mcpServers` shape. One that can't be imported stops no other.
#[utoipa::path(post, path = "/servers/import", operation_id = "import_servers", tag = "servers",
    request_body(content = serde_json::Value, description = "The file", content_type = "application/json"),
    responses((status = 200, description = "What became of each", body = [ImportedView]), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn import(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    Text(file): Text,
) -> ApiResult<Json<Vec<ImportedView>>> {
    let report = hub.import_servers(&caller, &file).await?;
    Ok(Json(report.into_iter().map(ImportedView::from).collect()))
}

/// Shows a server.
#[utoipa::path(get, path = "/servers/{server}", operation_id = "show_server", tag = "servers",
    params(("server" = String, Path, description = "Its id")),
    responses((status = 200, description = "The server", body = ServerView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(server): In<ServerId>,
) -> ApiResult<Json<ServerView>> {
    Ok(Json(hub.find_server(&caller, server).await?.into()))
}

/// Changes a server. A new destination suspends every credential until its owner confirms it.
#[utoipa::path(patch, path = "/servers/{server}", operation_id = "update_server", tag = "servers", request_body = UpdateServer,
    params(("server" = String, Path, description = "Its id")),
    responses((status = 200, description = "The server as it is now", body = ServerView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn update(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(server): In<ServerId>,
    Body(update): Body<UpdateServer>,
) -> ApiResult<Json<ServerView>> {
    Ok(Json(hub.update_server(&caller, server, update.try_into()?).await?.into()))
}

/// Removes a server with everything that is about it.
#[utoipa::path(delete, path = "/servers/{server}", operation_id = "remove_server", tag = "servers",
    params(("server" = String, Path, description = "Its id"), Removed),
    responses((status = 204, description = "It is gone"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(server): In<ServerId>,
    Asked(Removed { revision }): Asked<Removed>,
) -> ApiResult<StatusCode> {
    hub.remove_server(&caller, server, revision).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists a server's tools anew, with the shared values alone.
#[utoipa::path(post, path = "/servers/{server}/test", operation_id = "test_server", tag = "servers",
    params(("server" = String, Path, description = "Its id")),
    responses((status = 200, description = "What the list changed", body = ListedView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn test(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(server): In<ServerId>,
) -> ApiResult<Json<ListedView>> {
    let server = hub.find_server(&caller, server).await?;
    Ok(Json(hub.test_server(&caller, &server).await?.into()))
}
