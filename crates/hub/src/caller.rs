//! Who calls: proven once, at the edge, and handed to every use case.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mcphub_domain::audit::{Entry, PersonalFields};
use mcphub_domain::{Actor, Event, Principal, RequestId, Timestamp};

/// Is an authenticated caller with the request that she makes. Only the hub makes one.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) principal: Principal,
    pub(crate) address: Option<IpAddr>,
    pub(crate) request: RequestId,
    /// Whether the log has a record of the request; all copies of a caller share it.
    recorded: Arc<AtomicBool>,
}

impl Caller {
    pub(crate) fn new(principal: Principal, address: Option<IpAddr>, request: RequestId) -> Self {
        Self { principal, address, request, recorded: Arc::default() }
    }

    /// Notes that the log has a record of the request.
    pub(crate) fn note_record(&self) {
        self.recorded.store(true, Ordering::Release);
    }

    /// Says whether the log has a record of the request.
    pub fn has_record(&self) -> bool {
        self.recorded.load(Ordering::Acquire)
    }

    /// Says who it is.
    pub const fn principal(&self) -> Principal {
        self.principal
    }

    /// Names the request in the log.
    pub const fn request(&self) -> RequestId {
        self.request
    }

    /// Lists what a record says of the caller beyond her pseudonym.
    pub(crate) fn personal_fields(&self) -> PersonalFields {
        PersonalFields {
            address: self.address.map(|address| address.to_string()),
            ..PersonalFields::default()
        }
    }

    /// Starts a record of something that she did.
    pub(crate) fn entry(&self, event: Event, at: Timestamp) -> Entry {
        Entry {
            at,
            actor: Actor::from(self.principal),
            event,
            request: Some(self.request),
            personal: Default::default(),
        }
    }
}
