//! What can be asked for.

use mcphub_domain::group::Author;
use mcphub_domain::{GroupId, ServerId, UserId};

/// Names the part of the hub that a client is connected to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// `/mcp`: everything the caller may use.
    All,
    /// `/mcp/{group}`: what this group grants, for its members.
    Group(GroupId),
    /// `/mcp/{server}`: one server, its names as they are.
    Server(ServerId),
}

/// Names an administrative action, with what it is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Administration {
    /// Look at people, groups, servers and grants.
    ReadDirectory,
    /// Read the audit log.
    ReadAudit,
    /// Add, change and disable people.
    ManageUsers,
    /// Add and remove groups.
    ManageGroups,
    /// Say who is in this group.
    RunGroup(GroupId),
    /// Say what this group may do on this server.
    Grant(GroupId, ServerId),
    /// Take back what somebody said as the author that this group may do.
    RemoveGrant(GroupId, Author),
    /// Add, change and remove servers, approve tools, set shared values.
    ManageServers,
    /// Set, list and remove this person's credentials.
    Credentials(UserId),
    /// Send this person's stored credentials to where a server has moved. Only she knows what she gave
    /// for the old place.
    ConfirmCredentials(UserId),
    /// Renew the token of an account that she has connected; only the hub does, in her calls.
    RenewAccount(UserId),
    /// Make hub keys for this person: whoever holds one acts as her.
    CreateKey(UserId),
    /// List and revoke this person's hub keys.
    RevokeKey(UserId),
    /// Rotate the key-encryption key, see what lies under which, and copy everything away.
    KeepCustody,
}
