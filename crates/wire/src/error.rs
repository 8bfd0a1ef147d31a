//! Error codes: those of JSON-RPC and MCP, and ours, which lie outside every range that they reserve.

/// Says that the body is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// Says that the body is JSON but not one valid message.
pub const INVALID_REQUEST: i64 = -32600;
/// Says that the method does not exist, or no longer does in this version.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Says that parameters are wrong; also an unknown tool, prompt or (modern) resource.
pub const INVALID_PARAMS: i64 = -32602;
/// Says that the hub failed.
pub const INTERNAL_ERROR: i64 = -32603;

/// Says that an HTTP header is missing, malformed or differs from the body (modern only).
pub const HEADER_MISMATCH: i64 = -32020;
/// Says that the client did not declare a capability that the request needs (modern only).
pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
/// Says that the protocol version is not implemented (modern only).
pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;
/// Says that a resource does not exist (legacy only, never sent to modern clients).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// Says that the person has to open a link first (legacy only, never sent to modern clients).
pub const URL_ELICITATION_REQUIRED: i64 = -32042;

/// Says that a condition forbids the call now; `data.reason` names it.
pub const CONDITION_NOT_MET: i64 = -31001;
/// Says that the person's credential is missing; `data.missing` and `data.url` say which and where to store it.
pub const CREDENTIAL_MISSING: i64 = -31002;
/// Says that the call could not be recorded, so it did not happen.
pub const AUDIT_UNAVAILABLE: i64 = -31003;
/// Says that the tool's definition changed since it was approved.
pub const TOOL_CHANGED: i64 = -31004;
/// Says that the vault is sealed.
pub const SEALED: i64 = -31005;
/// Says that a content rule blocked the call or its answer.
pub const CONTENT_BLOCKED: i64 = -31006;
/// Says that the MCP server could not be reached or did not answer in time.
pub const UPSTREAM_UNAVAILABLE: i64 = -31010;
/// Says that a rate or quota is used up; `data.retryAfterMs` says when to come back.
pub const RATE_LIMITED: i64 = -31029;
