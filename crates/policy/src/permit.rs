//! Evidence: what only a decision, or only the audit log, can make.
//!
//! Elsewhere it can be looked at but not made, and neither can it be changed:
//!
//! ```
//! use mcphub_domain::audit::Refusal;
//! use mcphub_domain::{Principal, RequestId};
//! use mcphub_policy::{AdminPermit, Administration, Denial, Endpoint, Permit, PermitEntry, Recorded, Route};
//!
//! fn look(permit: &Permit, denial: &Denial, recorded: &Recorded) -> (Principal, Refusal, RequestId) {
//!     (permit.principal(), denial.reason(), recorded.request())
//! }
//! fn write(permit: AdminPermit, event: mcphub_domain::Event, request: RequestId) -> PermitEntry {
//!     permit.entry(event, request, Default::default())
//! }
//! ```
//!
//! ```compile_fail,E0451
//! # use mcphub_policy::{Endpoint, Permit, Route};
//! fn forge(old: &Permit, route: Route) -> Permit {
//!     Permit {
//!         principal: old.principal(),
//!         user: old.user(),
//!         endpoint: Endpoint::All,
//!         route,
//!         decided_at: old.decided_at(),
//!         world: old.world(),
//!     }
//! }
//! ```
//!
//! ```compile_fail,E0616
//! # use mcphub_policy::{Permit, Route};
//! fn redirect(permit: &mut Permit, route: Route) {
//!     permit.route = route;
//! }
//! ```
//!
//! ```compile_fail,E0277
//! # use mcphub_policy::Permit;
//! fn copy<T: Clone>(thing: &T) -> T {
//!     thing.clone()
//! }
//! fn use_twice(permit: &Permit) -> Permit {
//!     copy(permit)
//! }
//! ```
//!
//! ```compile_fail,E0451
//! # use mcphub_domain::{Principal, audit::Refusal};
//! # use mcphub_policy::Denial;
//! fn forge() -> Denial {
//!     Denial { principal: Principal::Operator, reason: Refusal::Denied, target: None, server: None, tool: None }
//! }
//! ```
//!
//! ```compile_fail,E0451
//! # use mcphub_domain::{Principal, Timestamp};
//! # use mcphub_policy::{AdminPermit, Administration};
//! fn forge(now: Timestamp) -> AdminPermit {
//!     AdminPermit { principal: Principal::Operator, action: Administration::ManageUsers, decided_at: now }
//! }
//! ```
//!
//! ```compile_fail,E0423
//! # use mcphub_domain::audit::Entry;
//! # use mcphub_policy::PermitEntry;
//! fn commit_without_a_permit(entry: Entry) -> PermitEntry {
//!     PermitEntry(entry)
//! }
//! ```
//!
//! ```compile_fail,E0451
//! # use mcphub_domain::{Principal, ServerId, Timestamp, UserId};
//! # use mcphub_policy::{AskPermit, Endpoint};
//! fn forge(principal: Principal, user: UserId, server: ServerId, now: Timestamp) -> AskPermit {
//!     let endpoint = Endpoint::All;
//!     AskPermit { principal, user, endpoint, server, server_revision: 1, extent: mcphub_policy::Extent::Reading, decided_at: now, world: 1 }
//! }
//! ```
//!
//! ```compile_fail,E0451
//! # use mcphub_domain::RequestId;
//! # use mcphub_policy::{Permit, Recorded};
//! fn send_without_a_record(permit: Permit, request: RequestId) -> Recorded {
//!     Recorded { permit, request }
//! }
//! ```
//!
//! ```compile_fail,E0423
//! # use mcphub_policy::Recorder;
//! fn second_recorder() -> Recorder {
//!     Recorder(())
//! }
//! ```

use std::collections::BTreeMap;

use mcphub_domain::audit::{Entry, Refusal};
use mcphub_domain::{
    Actor, Effect, Event, Principal, RequestId, ServerId, ServerName, Timestamp, ToolDigest, ToolName, UserId,
};

use crate::action::{Administration, Endpoint};

/// Names the one tool of the one server that a permit is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The server.
    pub server: ServerId,
    /// Its name.
    pub server_name: ServerName,
    /// The revision of the server that was decided about.
    pub server_revision: i64,
    /// The tool, as its server names it.
    pub tool: ToolName,
    /// What the tool does to the world.
    pub effect: Effect,
    /// The definition that was approved.
    pub digest: ToolDigest,
}

/// Allows one call. Only `decide::call` makes one, and it can't be copied.
#[derive(PartialEq, Eq, Debug)]
pub struct Permit {
    pub(crate) principal: Principal,
    pub(crate) user: UserId,
    pub(crate) endpoint: Endpoint,
    pub(crate) route: Route,
    pub(crate) decided_at: Timestamp,
    pub(crate) world: i64,
}

impl Permit {
    /// Says who may call.
    pub const fn principal(&self) -> Principal {
        self.principal
    }

    /// Names the person who may call, and whose credentials go with the call.
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// Says through which endpoint.
    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Says what may be called.
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// Says when it was decided.
    pub const fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    /// Names the revision of the world that it was decided on.
    pub const fn world(&self) -> i64 {
        self.world
    }
}

/// Allows one look at a server's list of tools, with the shared values or with those of a person. Only
/// `decide::look` makes one, and it can't be copied.
#[derive(PartialEq, Eq, Debug)]
pub struct LookPermit {
    pub(crate) principal: Principal,
    pub(crate) user: Option<UserId>,
    pub(crate) server: ServerId,
    pub(crate) server_revision: i64,
    pub(crate) decided_at: Timestamp,
    pub(crate) world: i64,
}

impl LookPermit {
    /// Says who may look.
    pub const fn principal(&self) -> Principal {
        self.principal
    }

    /// Names the person whose values go with the look; nobody where the shared ones suffice.
    pub const fn user(&self) -> Option<UserId> {
        self.user
    }

    /// Names the server.
    pub const fn server(&self) -> ServerId {
        self.server
    }

    /// Names the revision of the server that was decided about.
    pub const fn server_revision(&self) -> i64 {
        self.server_revision
    }

    /// Says when it was decided.
    pub const fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    /// Names the revision of the world that it was decided on.
    pub const fn world(&self) -> i64 {
        self.world
    }
}

/// Allows one question to a server about what it offers beside tools: its prompts and resources, or a task that a call
/// began. Only `decide::ask` and `decide::task` make one, and it can't be copied.
#[derive(PartialEq, Eq, Debug)]
pub struct AskPermit {
    pub(crate) principal: Principal,
    pub(crate) user: UserId,
    pub(crate) endpoint: Endpoint,
    pub(crate) server: ServerId,
    pub(crate) server_revision: i64,
    pub(crate) extent: Extent,
    pub(crate) decided_at: Timestamp,
    pub(crate) world: i64,
}

/// Says what may be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extent {
    /// What the server offers to read: prompts, resources, completions.
    Reading,
    /// How a task stands that a call of this tool began, by its name on the endpoint.
    Task(Box<str>),
    /// Whatever the server understands.
    Everything,
}

impl AskPermit {
    /// Says what may be asked.
    pub const fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Says who may ask.
    pub const fn principal(&self) -> Principal {
        self.principal
    }

    /// Names the person who may ask, and whose values go with the question.
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// Says through which endpoint.
    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Names the server.
    pub const fn server(&self) -> ServerId {
        self.server
    }

    /// Names the revision of the server that was decided about.
    pub const fn server_revision(&self) -> i64 {
        self.server_revision
    }

    /// Names the tool whose call began the task, by its name on the endpoint, if the question is about one.
    pub fn task_of(&self) -> Option<&str> {
        match &self.extent {
            Extent::Task(tool) => Some(tool),
            Extent::Reading | Extent::Everything => None,
        }
    }

    /// Says when it was decided.
    pub const fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    /// Names the revision of the world that it was decided on.
    pub const fn world(&self) -> i64 {
        self.world
    }
}

/// Says no, and why. Only `decide` makes one. It can be recorded, never committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    pub(crate) principal: Principal,
    pub(crate) reason: Refusal,
    pub(crate) target: Option<String>,
    pub(crate) server: Option<ServerId>,
    pub(crate) tool: Option<ToolName>,
}

impl Denial {
    /// Says why.
    pub const fn reason(&self) -> Refusal {
        self.reason
    }

    /// Says who was denied.
    pub const fn principal(&self) -> Principal {
        self.principal
    }

    /// Says which server was meant.
    pub fn of_server(self, server: Option<ServerId>) -> Self {
        Self { server, ..self }
    }

    /// Writes the denial of `method` down for the log.
    pub fn into_event(self, method: &str) -> Event {
        let Self { principal: _, reason, target, server, tool } = self;
        Event::Refused { method: method.to_owned(), reason, target, server, tool }
    }
}

/// Allows one administrative action. Only `decide::administration` makes one.
#[derive(PartialEq, Eq, Debug)]
pub struct AdminPermit {
    pub(crate) principal: Principal,
    pub(crate) action: Administration,
    pub(crate) decided_at: Timestamp,
}

impl AdminPermit {
    /// Says who may act.
    pub const fn principal(&self) -> Principal {
        self.principal
    }

    /// Says what she may do.
    pub const fn action(&self) -> Administration {
        self.action
    }

    /// Turns the permit into the log entry that its change is committed with.
    ///
    /// `personal` holds the encrypted personal fields by person.
    pub fn entry(self, event: Event, request: RequestId, personal: BTreeMap<UserId, String>) -> PermitEntry {
        PermitEntry(Entry {
            at: self.decided_at,
            actor: Actor::from(self.principal),
            event,
            request: Some(request),
            personal,
        })
    }
}

/// Is the log entry of a permitted change: the only thing a write can be committed with.
#[derive(Debug)]
pub struct PermitEntry(Entry);

impl PermitEntry {
    /// Hands the entry to the log.
    pub fn into_entry(self) -> Entry {
        self.0
    }
}

/// Turns permits into recorded ones. Made once in the wiring and given to the audit queue, which uses
/// it after the record is durable and at no other time.
pub struct Recorder(());

impl Recorder {
    /// Makes the recorder. Clippy refuses this call everywhere but in the wiring.
    #[expect(clippy::new_without_default, reason = "a default would be a second way to make one")]
    pub const fn new() -> Self {
        Self(())
    }

    /// Vouches that the permit's intent is durable.
    pub fn vouch<P>(&self, permit: P, request: RequestId) -> Recorded<P> {
        Recorded { permit, request }
    }
}

/// Is a permit whose intent is durable in the log: the only thing the upstream side sends against.
#[derive(Debug)]
pub struct Recorded<P = Permit> {
    permit: P,
    request: RequestId,
}

impl<P> Recorded<P> {
    /// Shows the permit.
    pub const fn permit(&self) -> &P {
        &self.permit
    }

    /// Names the request; the outcome's record carries the same name.
    pub const fn request(&self) -> RequestId {
        self.request
    }
}
