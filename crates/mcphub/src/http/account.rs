//! No request goes without a record: what no use case has written down is written down here, when the
//! response is known.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::response::Response;
use http::request::Parts;
use http::{Method, Uri};
use mcphub_domain::audit::Refusal;
use mcphub_hub::{Answered, Caller, Hub};

use crate::http::error::Unrecorded;
use crate::http::peer::{self, ClientAddress};

/// How much of a path is recorded.
const RECORDED: usize = 160;

/// Is the place beside a request where its caller is noted, once she has proven who she is.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<OnceLock<Caller>>);

/// Is an open account: a request that has to be in the log when it is answered.
pub(super) struct Account<'a> {
    known: Known,
    method: Method,
    route: &'a str,
    uri: Uri,
}

/// Is what an account says of the response.
pub(super) struct Outcome {
    status: u16,
    refused: Option<Refusal>,
}

/// Notes who makes a request.
pub(super) fn note(parts: &Parts, caller: &Caller) {
    if let Some(Known(place)) = parts.extensions.get() {
        place.get_or_init(|| caller.clone());
    }
}

impl<'a> Account<'a> {
    /// Opens the account of a request that came on a route.
    pub(super) fn open(parts: &mut Parts, route: &'a str) -> Self {
        let known = Known::default();
        parts.extensions.insert(known.clone());
        Self { known, method: parts.method.clone(), route, uri: parts.uri.clone() }
    }

    /// Writes down what nobody else has, with the reason if it was a refusal. Strangers are counted
    /// by network.
    pub(super) async fn settle(self, hub: &Hub, address: Option<IpAddr>, outcome: Outcome) {
        let Outcome { status, refused } = outcome;
        match (self.known.0.get(), refused, address) {
            (Some(caller), ..) if caller.has_record() => {}
            (Some(caller), ..) => {
                let method = format!("{} {}", self.method, self.route).trim_end().to_owned();
                let target = self.uri.path().chars().take(RECORDED).collect();
                let answered = Answered { method, target, status, refused };
                Box::pin(hub.record_answer(caller, answered)).await;
            }
            (None, Some(reason), Some(address)) => Box::pin(hub.record_stranger(reason, address)).await,
            (None, ..) => {}
        }
    }
}

impl Outcome {
    /// Reads the outcome off a response.
    pub(super) fn of(response: &Response) -> Self {
        let refused = response.extensions().get().map(|Unrecorded(reason)| *reason);
        Self { status: response.status().as_u16(), refused }
    }
}

/// Finds the address that a request is recorded with.
pub(super) fn address(parts: &Parts) -> Option<IpAddr> {
    let noted = parts.extensions.get().map(|ClientAddress(address)| *address);
    noted.or_else(|| peer::ends(parts).ok().map(|ends| ends.peer.ip().to_canonical()))
}
