//! The one check of permits on this side: nothing is sent but to the server, and as the person, that one names.

use mcphub_domain::{Server, ServerId, UserId};
use mcphub_policy::{AskPermit, LookPermit, Permit};

use crate::error::UpstreamError;
use crate::upstreams::Access;

/// Is for whom a permit is, for which server, and in which of its revisions.
pub(crate) struct Bearer {
    server: ServerId,
    revision: i64,
    /// Whose values go with it; nobody's where the shared ones suffice.
    pub(crate) person: Option<UserId>,
}

impl Bearer {
    pub(crate) const fn of_ask(permit: &AskPermit) -> Self {
        let (server, revision) = (permit.server(), permit.server_revision());
        Self { server, revision, person: Some(permit.user()) }
    }

    pub(crate) const fn of_call(permit: &Permit) -> Self {
        let route = permit.route();
        Self { server: route.server, revision: route.server_revision, person: Some(permit.user()) }
    }

    pub(crate) const fn of_look(permit: &LookPermit) -> Self {
        Self { server: permit.server(), revision: permit.server_revision(), person: permit.user() }
    }

    /// Checks that this is the server, and that the connection and the caller's identity are that person's.
    pub(crate) fn check(&self, server: &Server, access: &Access) -> Result<(), UpstreamError> {
        let key = &access.key;
        let same_server = self.server == server.id && key.server == server.id;
        let same_revision = self.revision == server.revision && key.revision == server.revision;
        let same_person = match key.scope.user() {
            Some(user) => self.person == Some(user),
            None => !server.definition.is_personal(),
        };
        let same_caller = access.caller.is_none_or(|caller| self.person == Some(caller));
        if same_server && same_revision && same_person && same_caller {
            Ok(())
        } else {
            Err(UpstreamError::WrongPermit { server: server.name.clone() })
        }
    }
}
