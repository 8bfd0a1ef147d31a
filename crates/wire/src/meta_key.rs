//! The keys of `_meta` that the protocol defines.

/// Holds the version that a modern request is written in.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Holds what the client of a modern request can do.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Holds the name and version of the client software, unverified.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// Holds the name and version of the server software, unverified.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// Holds the lowest level of log messages that a modern request wants.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Holds the id of the listening request that a notification belongs to.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// Holds the token that progress notifications will carry.
pub const PROGRESS_TOKEN: &str = "progressToken";
/// Holds the task that a message is about (2025-11-25).
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// Holds the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Holds the vendor part of the W3C trace context.
pub const TRACESTATE: &str = "tracestate";
/// Holds the W3C baggage.
pub const BAGGAGE: &str = "baggage";
