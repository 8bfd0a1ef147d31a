//! Who came where: the caller, the endpoint, and the hub.

use std::sync::Arc;

use mcphub_hub::{Caller, Endpoint, Hub, HubError};

/// Is an authenticated caller at an endpoint that she may know of.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) hub: Arc<Hub>,
    pub(super) caller: Caller,
    pub(super) endpoint: Endpoint,
    /// The endpoint's path, for the log and for sessions.
    pub(super) path: String,
}

impl Visit {
    /// Finds the endpoint. An unknown name and a forbidden one are the same error.
    pub(super) async fn enter(hub: Arc<Hub>, caller: Caller, name: Option<String>) -> Result<Self, HubError> {
        let endpoint = hub.endpoint(&caller, name.as_deref()).await?;
        let path = name.map_or_else(|| "/mcp".to_owned(), |name| format!("/mcp/{name}"));
        Ok(Self { hub, caller, endpoint, path })
    }
}
