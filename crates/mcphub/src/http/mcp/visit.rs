//! Who came where: the caller, the endpoint, and the hub.

use std::sync::Arc;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use mcphub_hub::{Caller, Endpoint, Hub, HubError};

use super::answer::failed;
use crate::http::AppState;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::peer::HangUp;

/// Is an authenticated caller at an endpoint that she may know of.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) hub: Arc<Hub>,
    pub(super) caller: Caller,
    pub(super) endpoint: Endpoint,
    /// The endpoint's path, for the log and for sessions.
    pub(super) path: String,
    /// Closes the connection, if no other request shares it.
    pub(super) hang_up: Option<HangUp>,
}

impl Visit {
    /// Takes in who comes without a message: to listen, or to end a session.
    pub(super) async fn arrive(
        state: &AppState,
        caller: Result<Authenticated, ApiError>,
        name: Option<Path<String>>,
    ) -> Result<Self, Response> {
        let Authenticated(caller) = caller.map_err(IntoResponse::into_response)?;
        Self::enter(Arc::clone(&state.hub), caller, name.map(|Path(name)| name), None)
            .await
            .map_err(|error| failed(&error, None).into_response())
    }

    /// Finds the endpoint. An unknown name and a forbidden one are the same error.
    pub(super) async fn enter(
        hub: Arc<Hub>,
        caller: Caller,
        name: Option<String>,
        hang_up: Option<HangUp>,
    ) -> Result<Self, HubError> {
        let endpoint = hub.endpoint(&caller, name.as_deref()).await?;
        let path = name.map_or_else(|| "/mcp".to_owned(), |name| format!("/mcp/{name}"));
        Ok(Self { hub, caller, endpoint, path, hang_up })
    }
}
