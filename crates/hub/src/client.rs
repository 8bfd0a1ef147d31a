//! The software that a person uses, and its connection to the hub.

use mcphub_wire::mirror::ParamHeaders;

/// Is a client, as far as it matters to servers.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What servers may know of it, and ask it.
    pub about: mcphub_upstream::Client,
    /// The headers of its request that repeat arguments, if it has to send such.
    pub headers: Option<ParamHeaders>,
}
