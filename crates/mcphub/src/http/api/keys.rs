//! Hub keys.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use mcphub_domain::{HubKey, KeyId, KeyName};
use mcphub_hub::Hub;
use mcphub_hub::keys::{NewKey, ShownKey, USUAL_LIFE};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Asked, Body, In, Person, Removed};
use super::schema;
use crate::http::caller::Authenticated;
use crate::http::error::{ApiResult, Problem};

/// Describes a key to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateKey {
    /// What its owner calls it.
    #[schema(value_type = String)]
    name: KeyName,
    /// How many days it lives: 1 to 90, 30 unless said otherwise.
    #[schema(minimum = 1, maximum = 90)]
    days: Option<u32>,
}

/// Shows a key, never its text.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyView {
    /// Its id.
    #[schema(schema_with = schema::id)]
    id: String,
    /// Whose it is.
    #[schema(schema_with = schema::id)]
    owner: String,
    /// What its owner calls it.
    name: String,
    /// When it was made.
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// When it ends.
    #[schema(schema_with = schema::time)]
    expires_at: String,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    revoked_at: Option<String>,
    /// When it was seen where others can read it, such as a URL: replace it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    exposed_at: Option<String>,
    /// Counts the changes.
    revision: i64,
}

/// Shows a new key with its text, this once.
#[derive(Serialize, ToSchema)]
pub(super) struct NewKeyView {
    /// Its text: whoever holds it acts as its owner.
    text: String,
    /// The key.
    key: KeyView,
}

impl From<HubKey> for KeyView {
    fn from(key: HubKey) -> Self {
        Self {
            id: key.id.to_string(),
            owner: key.owner.to_string(),
            name: key.name.to_string(),
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.to_string(),
            revoked_at: key.revoked_at.map(|time| time.to_string()),
            exposed_at: key.exposed_at.map(|time| time.to_string()),
            revision: key.revision,
        }
    }
}

impl From<ShownKey> for NewKeyView {
    fn from(shown: ShownKey) -> Self {
        Self { text: shown.text.to_string(), key: shown.key.into() }
    }
}

impl CreateKey {
    fn life(&self) -> Duration {
        self.days.map_or(USUAL_LIFE, |days| Duration::from_secs(u64::from(days) * 24 * 3600))
    }
}

/// Lists a person's keys, the newest first.
#[utoipa::path(get, path = "/users/{user}/keys", operation_id = "list_keys", tag = "keys",
    params(("user" = String, Path, description = "Her id, or `me`")),
    responses((status = 200, description = "Her keys", body = [KeyView]), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(user): In<Person>,
) -> ApiResult<Json<Vec<KeyView>>> {
    let keys = hub.list_keys(&caller, user.of(&caller)?).await?;
    Ok(Json(keys.into_iter().map(KeyView::from).collect()))
}

/// Makes a key of one's own. Its text is shown this once.
#[utoipa::path(post, path = "/users/{user}/keys", operation_id = "create_key", tag = "keys", request_body = CreateKey,
    params(("user" = String, Path, description = "Her id, or `me`")),
    responses((status = 201, description = "The new key", body = NewKeyView), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(user): In<Person>,
    Body(create): Body<CreateKey>,
) -> ApiResult<(StatusCode, Json<NewKeyView>)> {
    let new = NewKey { owner: user.of(&caller)?, life: create.life(), name: create.name };
    Ok((StatusCode::CREATED, Json(hub.create_key(&caller, new).await?.into())))
}

/// Revokes a key; whatever is open with it ends within a second.
#[utoipa::path(delete, path = "/keys/{key}", operation_id = "revoke_key", tag = "keys",
    params(("key" = String, Path, description = "Its id"), Removed),
    responses((status = 204, description = "It is revoked"), (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(hub): State<Arc<Hub>>,
    Authenticated(caller): Authenticated,
    In(key): In<KeyId>,
    Asked(Removed { revision }): Asked<Removed>,
) -> ApiResult<StatusCode> {
    hub.revoke_key(&caller, key, revision).await?;
    Ok(StatusCode::NO_CONTENT)
}
