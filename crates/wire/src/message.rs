//! Writes messages for the next hop.

use bytes::Bytes;

use crate::edit::Edit;
use crate::envelope::{Outcome, Response, RpcError};
use crate::id::Id;
use crate::params::Params;
use crate::raw::Raw;
use crate::write::ObjectWriter;

/// Writes a request: parameters in their order with `edit` applied, all other values byte for byte.
#[must_use]
pub fn request(id: &Id, method: &str, params: Option<&Params>, edit: &Edit) -> Bytes {
    let mut message = ObjectWriter::message(method.len() + edit.size_with(params));
    message.id(id);
    message.text("method", method);
    edit.write_params(params, &mut message);
    message.finish()
}

/// Writes a notification.
#[must_use]
pub fn notification(method: &str, params: Option<&Params>, edit: &Edit) -> Bytes {
    let mut message = ObjectWriter::message(method.len() + edit.size_with(params));
    message.text("method", method);
    edit.write_params(params, &mut message);
    message.finish()
}

/// Writes a message as the one line that it is over standard streams. Line breaks stand between its values alone, where
/// a blank says the same.
#[must_use]
pub fn line(message: Bytes) -> Bytes {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !message.iter().any(is_break) {
        return message;
    }
    message.iter().map(|byte| if is_break(byte) { b' ' } else { *byte }).collect()
}

/// Writes an answer that worked; `result` must be an object.
#[must_use]
pub fn result(id: &Id, result: &Raw) -> Bytes {
    let mut message = ObjectWriter::message(result.len());
    message.id(id);
    message.raw("result", result);
    message.finish()
}

/// Writes an answer that failed. To what has no id that could be read, it has none: the protocol's schemas know no
/// `null` there, unlike JSON-RPC's own text.
#[must_use]
pub fn error(id: Option<&Id>, code: i64, text: &str, data: Option<&Raw>) -> Bytes {
    let mut error = ObjectWriter::new(text.len() + data.map_or(0, |data| data.len()));
    error.raw("code", code.to_string().as_bytes());
    error.text("message", text);
    if let Some(data) = data {
        error.raw("data", data);
    }
    let error = error.finish();
    let mut message = ObjectWriter::message(error.len());
    if let Some(id) = id {
        message.id(id);
    }
    message.raw("error", &error);
    message.finish()
}

/// Writes an answer under another id, to hand it on to whoever asked.
#[must_use]
pub fn reid(response: &Response, id: &Id) -> Bytes {
    match &response.outcome {
        Outcome::Result(value) => result(id, value),
        Outcome::Error(RpcError { code, message, data }) => error(Some(id), *code, message, data.as_ref()),
    }
}
