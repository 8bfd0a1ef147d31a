//! Which client asks, as far as servers may know it, in the words of either era.

use mcphub_hub::{AboutClient, Client, Prefers, Session};
use mcphub_wire::header::Headers;
use mcphub_wire::mirror::ParamHeaders;
use mcphub_wire::{Abilities, Limits, LogLevel, Raw, Request, Trace};

/// What a legacy client hears of that never said what it wants to hear.
const USUAL: LogLevel = LogLevel::Info;

/// Reads what a modern client says of itself with each request.
pub(super) fn of_request(request: &Request, headers: &Headers<'_>, mirrored: ParamHeaders) -> Client {
    let Some(meta) = request.params.as_ref().map(|params| params.meta()) else { return Client::default() };
    let capabilities = meta.client_capabilities().cloned().unwrap_or_else(Raw::empty_object);
    let abilities = Abilities::read(&capabilities);
    let log_level = meta.log_level().and_then(|level| LogLevel::parse(&level));
    let trace = Trace::of(request.params.as_ref(), headers);
    let about =
        AboutClient { session: None, capabilities, abilities, log_level, prefers: Prefers::Modern, trace };
    Client { about, headers: Some(mirrored) }
}

/// Reads what a legacy client said when it opened its session, for a request within a trace.
pub(super) fn of_session(session: &Session, trace: Option<Trace>) -> Client {
    let abilities = match session.capabilities.as_str() {
        "{}" => Abilities::NONE,
        declared => Raw::parse(declared.to_owned().into(), &Limits::REQUEST)
            .map_or(Abilities::NONE, |declared| Abilities::read(&declared).legacy()),
    };
    let log_level = session.log_level.as_deref().and_then(LogLevel::parse).unwrap_or(USUAL);
    let log_level = Some(log_level);
    let session = Some(session.id_hash);
    let prefers = Prefers::Legacy;
    let about = AboutClient { session, prefers, log_level, trace, ..AboutClient::able(abilities) };
    Client { about, headers: None }
}

/// Lets a client that can't be asked be asked nothing.
pub(super) fn unable(client: Client) -> Client {
    let AboutClient { session, prefers, trace, .. } = client.about;
    let about = AboutClient { session, prefers, trace, ..AboutClient::NOBODY };
    Client { about, headers: client.headers }
}
