//! Credentials and shared values: they come in and never go out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::AppendHeaders;
use http::header::SET_COOKIE;
use http::{HeaderName, StatusCode};
use mcphub_domain::{Destination, SecretText, ServerId, Slot, SlotName};
use mcphub_hub::Hub;
use mcphub_hub::credentials::{SeenSlot, SlotState, SlotView as Found};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Asked, Body, In, Person, Removed};
use super::schema;
use crate::http::accounts;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiResult, Problem};

/// Holds a value for a slot.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetValue {
    /// The value. It is sealed and never shown again.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String, format = Password)]
    value: SecretText,
    /// The slot's revision that the change is based on; 0 unless said otherwise: nobody has filled it in.
    #[serde(default)]
    revision: i64,
    /// The destination that was looked at: the value goes there and nowhere else.
    #[serde(deserialize_with = "destination")]
    #[schema(schema_with = schema::digest)]
    destination: Destination,
}

/// Says which value may go where.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmValue {
    /// The slot's revision that was looked at.
    revision: i64,
    /// The destination that was looked at.
    #[serde(deserialize_with = "destination")]
    #[schema(schema_with = schema::digest)]
    destination: Destination,
}

/// Shows how a slot stands, never its value.
#[derive(Serialize, ToSchema)]
pub(super) struct SlotView {
    /// The slot's name.
    slot: String,
    /// `personal` where each person has a value of her own, `account` where she connects an account of hers, `shared` where
    /// an admin sets one.
    kind: &'static str,
    /// `missing`, `ready`, or `suspended` until its owner confirms that it may go where the server is now.
    state: &'static str,
    /// Counts the changes of its value; 0 if nobody has filled it in. A change names it.
    revision: i64,
    /// Where the server is, and so where the value goes: the origin of its URL, or its command line.
    goes_to: String,
    /// The same for programs: a change names it, and is refused if the server has moved since.
    #[schema(schema_with = schema::digest)]
    destination: String,
}

impl From<Found> for SlotView {
    fn from(found: Found) -> Self {
        let kind = match found.slot {
            ref slot if slot.is_account() => "account",
            Slot::Personal(_) => "personal",
            Slot::Shared(_) => "shared",
        };
        let state = match found.state {
            SlotState::Missing => "missing",
            SlotState::Ready => "ready",
            SlotState::Suspended => "suspended",
        };
        Self {
            slot: found.slot.name().to_string(),
            kind,
            state,
            revision: found.revision,
            goes_to: found.goes_to,
            destination: found.destination.to_string(),
        }
    }
}

/// Shows where an account is connected.
#[derive(Serialize, ToSchema)]
pub(super) struct ConnectingView {
    /// The page of the server's authorization server, good once and for ten minutes.
    url: String,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
    String::deserialize(deserializer).map(SecretText::new)
}

fn destination<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Destination, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Lists the slots of a server and how they stand for a person. Only she may look.
#[utoipa::path(get, path = "/users/{user}/servers/{server}/credentials", operation_id = "list_credentials", tag = "credentials",
    params(("user" = String, Path, description = "Her id, or `me`"), ("server" = String, Path, description = "The server's id or name")),
    responses((status = 200, description = "The slots", body = [SlotView]), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In((user, server)): In<(Person, String)>,
) -> ApiResult<Json<Vec<SlotView>>> {
    let owner = user.of(&caller)?;
    let server = hub.find_slots_of(&caller, owner, &server).await?;
    let slots = hub.list_credentials(&caller, owner, server).await?;
    Ok(Json(slots.into_iter().map(SlotView::from).collect()))
}

/// Fills in a slot of one's own, or replaces its value.
#[utoipa::path(put, path = "/users/{user}/servers/{server}/credentials/{slot}", operation_id = "set_credential", tag = "credentials", request_body = SetValue,
    params(("user" = String, Path, description = "Her id, or `me`"), ("server" = String, Path, description = "The server's id or name"), ("slot" = String, Path, description = "The slot's name")),
    responses((status = 204, description = "It is stored"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn set(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In((user, server, slot)): In<(Person, String, SlotName)>,
    Body(set): Body<SetValue>,
) -> ApiResult<StatusCode> {
    let owner = user.of(&caller)?;
    let server = hub.find_slots_of(&caller, owner, &server).await?;
    let SetValue { value, revision, destination } = set;
    hub.set_credential(&caller, owner, &SeenSlot { server, slot, revision, destination }, &value).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a value of one's own.
#[utoipa::path(delete, path = "/users/{user}/servers/{server}/credentials/{slot}", operation_id = "remove_credential", tag = "credentials",
    params(("user" = String, Path, description = "Her id, or `me`"), ("server" = String, Path, description = "The server's id or name"), ("slot" = String, Path, description = "The slot's name"), Removed),
    responses((status = 204, description = "It is gone"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In((user, server, slot)): In<(Person, String, SlotName)>,
    Asked(Removed { revision }): Asked<Removed>,
) -> ApiResult<StatusCode> {
    let owner = user.of(&caller)?;
    let server = hub.find_slots_of(&caller, owner, &server).await?;
    hub.remove_credential(&caller, owner, (server, slot), revision).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Confirms that a value may go where its owner saw that the server is now. Only she can.
#[utoipa::path(post, path = "/users/{user}/servers/{server}/credentials/{slot}/confirm", operation_id = "confirm_credential", tag = "credentials", request_body = ConfirmValue,
    params(("user" = String, Path, description = "Her id, or `me`"), ("server" = String, Path, description = "The server's id or name"), ("slot" = String, Path, description = "The slot's name")),
    responses((status = 204, description = "It is in use again"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn confirm(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In((user, server, slot)): In<(Person, String, SlotName)>,
    Body(ConfirmValue { revision, destination }): Body<ConfirmValue>,
) -> ApiResult<StatusCode> {
    let owner = user.of(&caller)?;
    let server = hub.find_slots_of(&caller, owner, &server).await?;
    hub.confirm_credential(&caller, owner, &SeenSlot { server, slot, revision, destination }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says where to connect an account of one's own. The cookie beside it is needed in the browser that comes back.
#[utoipa::path(post, path = "/users/{user}/servers/{server}/account", operation_id = "connect_account", tag = "credentials",
    params(("user" = String, Path, description = "Her id, or `me`"), ("server" = String, Path, description = "The server's id or name")),
    responses((status = 200, description = "Where to go", body = ConnectingView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn connect(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In((user, server)): In<(Person, String)>,
) -> ApiResult<(AppendHeaders<[(HeaderName, String); 1]>, Json<ConnectingView>)> {
    let owner = user.of(&caller)?;
    let server = hub.find_slots_of(&caller, owner, &server).await?;
    let way = hub.connect_account(&caller, owner, server).await?;
    let cookie = AppendHeaders([(SET_COOKIE, accounts::cookie(&hub, &way))]);
    Ok((cookie, Json(ConnectingView { url: way.url })))
}

/// Sets the one value that everybody's calls to a server use.
#[utoipa::path(put, path = "/servers/{server}/shared/{slot}", operation_id = "set_shared_value", tag = "credentials", request_body = SetValue,
    params(("server" = String, Path, description = "The server's id"), ("slot" = String, Path, description = "The slot's name")),
    responses((status = 204, description = "It is stored"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn set_shared(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In((server, slot)): In<(ServerId, SlotName)>,
    Body(set): Body<SetValue>,
) -> ApiResult<StatusCode> {
    let SetValue { value, revision, destination } = set;
    hub.set_shared_value(&caller, &SeenSlot { server, slot, revision, destination }, &value).await?;
    Ok(StatusCode::NO_CONTENT)
}
