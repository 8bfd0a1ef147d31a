//! Notifications that name a request: progress and cancellation, put under another name per hop.

use bytes::Bytes;

use crate::edit::Edit;
use crate::envelope::Notification;
use crate::fault::Fault;
use crate::id::Id;
use crate::message;
use crate::meta_key;
use crate::method;
use crate::params::Params;
use crate::raw::Raw;

/// Returns the token of a progress notification, in the form of an id, which is what the hub sends.
#[must_use]
pub fn token(notification: &Notification) -> Option<Id> {
    id_param(notification, method::PROGRESS, "progressToken")
}

/// Returns how far a progress notification says its request is; anything but a number gives `None`.
#[must_use]
pub fn amount(notification: &Notification) -> Option<f64> {
    let progress = notification.params.as_ref()?.get("progress")?;
    serde_json::from_slice(progress).ok()
}

/// Returns the id of the request that a cancellation gives up.
#[must_use]
pub fn cancelled_id(notification: &Notification) -> Option<Id> {
    id_param(notification, method::CANCELLED, "requestId")
}

/// Writes a progress notification under another token; all else stays.
#[must_use]
pub fn with_token(notification: &Notification, token: &Raw) -> Bytes {
    rewrite(notification, &Edit::new().set("progressToken", token.clone()))
}

/// Writes a cancellation of another request; all else stays.
#[must_use]
pub fn with_request_id(notification: &Notification, id: &Id) -> Bytes {
    rewrite(notification, &Edit::new().set("requestId", id.to_raw()))
}

/// Writes a cancellation.
#[must_use]
pub fn cancelled(id: &Id, reason: &str) -> Bytes {
    let edit = Edit::new().set("requestId", id.to_raw()).set("reason", Raw::string(reason));
    message::notification(method::CANCELLED, None, &edit)
}

/// Writes any notification with the id of the listening request that it belongs to.
#[must_use]
pub fn with_subscription(notification: &Notification, id: &Id) -> Bytes {
    rewrite(notification, &Edit::new().set_meta(meta_key::SUBSCRIPTION_ID, id.to_raw()))
}

/// Reads a client's progress token, which may be any text or whole number.
///
/// # Errors
/// Refuses other types.
pub fn requested_token(params: &Params) -> Result<Option<Raw>, Fault> {
    match params.meta().progress_token() {
        None => Ok(None),
        Some(token) if token.text().is_some() || token.as_integer().is_some() => Ok(Some(token.clone())),
        Some(_) => Err(Fault::Invalid("progressToken must be a string or an integer")),
    }
}

fn id_param(notification: &Notification, method: &str, key: &str) -> Option<Id> {
    if &*notification.method != method {
        return None;
    }
    Id::read(notification.params.as_ref()?.get(key)?).ok().flatten()
}

fn rewrite(notification: &Notification, edit: &Edit) -> Bytes {
    message::notification(&notification.method, notification.params.as_ref(), edit)
}
