//! Groups: who is in them, and what they grant.

use mcphub_domain::{
    Event, Grant, GrantId, Group, GroupId, GroupName, Membership, Rights, ServerId, Timestamp, ToolPattern,
    UserId, Verdict,
};
use mcphub_policy::{Administration, World, decide};

use crate::caller::Caller;
use crate::error::HubError;
use crate::hub::Hub;

/// Describes a grant to add.
#[derive(Debug)]
pub struct NewGrant {
    /// Who gets it.
    pub group: GroupId,
    /// On what.
    pub server: ServerId,
    /// Whether it gives or takes away.
    pub verdict: Verdict,
    /// Which rights.
    pub rights: Rights,
    /// For which tools; empty means all.
    pub tools: Vec<ToolPattern>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Is a group with all that belongs to it.
#[derive(Debug)]
pub struct GroupDetails {
    /// The group.
    pub group: Group,
    /// Who is in it.
    pub members: Vec<Membership>,
    /// What it grants.
    pub grants: Vec<Grant>,
}

impl Hub {
    /// Adds a group, empty and without grants.
    pub async fn add_group(&self, caller: &Caller, name: GroupName) -> Result<Group, HubError> {
        let permit = self.administrate(caller, Administration::ManageGroups, "groups.add").await?;
        let group =
            Group { id: GroupId::random(&self.entropy), name, revision: 1, created_at: self.clock.now() };
        let mut tx = self.store.write().await?;
        tx.add_group(&group).await?;
        let event = Event::GroupAdded { group: group.id, name: group.name.clone() };
        self.commit(tx, permit, event).await?;
        Ok(group)
    }

    /// Removes a group with its memberships and grants, if none of them has changed since `revision`.
    pub async fn remove_group(&self, caller: &Caller, id: GroupId, revision: i64) -> Result<(), HubError> {
        let permit = self.administrate(caller, Administration::ManageGroups, "groups.remove").await?;
        let group = self.snapshot.fresh()?.group(id).cloned().ok_or_else(|| not_found(id))?;
        let group = Group { revision, ..group };
        let mut tx = self.store.write().await?;
        tx.remove_group(&group).await?;
        self.commit(tx, permit, Event::GroupRemoved { group: id, name: group.name }).await
    }

    /// Puts a person into a group (revision 0), or changes how she is in it, based on her revision.
    pub async fn join_group(&self, caller: &Caller, membership: Membership) -> Result<(), HubError> {
        let permit =
            self.administrate(caller, Administration::RunGroup(membership.group), "groups.join").await?;
        let world = self.snapshot.fresh()?;
        world.group(membership.group).ok_or_else(|| not_found(membership.group))?;
        world
            .user(membership.user)
            .ok_or_else(|| HubError::NotFound { what: format!("user {}", membership.user) })?;
        self.check_future(membership.expires_at)?;
        let mut tx = self.store.write().await?;
        tx.put_membership(&membership).await?;
        let Membership { group, user, expires_at, .. } = membership;
        self.commit(tx, permit, Event::GroupJoined { group, user, expires_at }).await
    }

    /// Takes a person out of a group, if she still is in it as at `revision`.
    pub async fn leave_group(
        &self,
        caller: &Caller,
        (group, user): (GroupId, UserId),
        revision: i64,
    ) -> Result<(), HubError> {
        let permit = self.administrate(caller, Administration::RunGroup(group), "groups.leave").await?;
        let world = self.snapshot.fresh()?;
        let membership = world.members(group).find(|membership| membership.user == user).cloned();
        let membership =
            membership.ok_or_else(|| HubError::NotFound { what: "the membership".to_owned() })?;
        let mut tx = self.store.write().await?;
        tx.remove_membership(&Membership { revision, ..membership }).await?;
        self.commit(tx, permit, Event::GroupLeft { group, user }).await
    }

    /// Lists all groups with what belongs to them, by name.
    pub async fn list_groups(&self, caller: &Caller) -> Result<Vec<GroupDetails>, HubError> {
        self.administrate(caller, Administration::ReadDirectory, "groups.list").await?;
        let world = self.snapshot.fresh()?;
        let mut groups: Vec<GroupDetails> = world.groups().map(|group| details(&world, group)).collect();
        groups.sort_by(|one, other| one.group.name.cmp(&other.group.name));
        self.record_read(caller, "groups.list", None, groups.len()).await;
        Ok(groups)
    }

    /// Adds a grant, as an admin's or as that of the group's manager.
    pub async fn add_grant(&self, caller: &Caller, new: NewGrant) -> Result<Grant, HubError> {
        let action = Administration::Grant(new.group, new.server);
        let permit = self.administrate(caller, action, "grants.add").await?;
        let world = self.snapshot.fresh()?;
        world.group(new.group).ok_or_else(|| not_found(new.group))?;
        world
            .server(new.server)
            .ok_or_else(|| HubError::NotFound { what: format!("server {}", new.server) })?;
        if new.rights.is_empty() {
            return Err(HubError::Invalid("a grant needs at least one of read, write, execute".to_owned()));
        }
        self.check_future(new.expires_at)?;
        let grant = Grant {
            id: GrantId::random(&self.entropy),
            group: new.group,
            server: new.server,
            verdict: new.verdict,
            author: decide::author(&world, caller.principal()),
            rights: new.rights,
            tools: new.tools,
            expires_at: new.expires_at,
            revision: 1,
        };
        let mut tx = self.store.write().await?;
        tx.add_grant(&grant).await?;
        let event = Event::GrantAdded {
            grant: grant.id,
            group: grant.group,
            server: grant.server,
            verdict: grant.verdict,
            rights: grant.rights,
            tools: grant.tools.iter().map(ToString::to_string).collect(),
            expires_at: grant.expires_at,
        };
        self.commit(tx, permit, event).await?;
        Ok(grant)
    }

    /// Removes a grant.
    pub async fn remove_grant(&self, caller: &Caller, id: GrantId, revision: i64) -> Result<(), HubError> {
        let world = self.snapshot.fresh()?;
        let grant = world.grant(id).cloned();
        let remove = |grant: &Grant| Administration::RemoveGrant(grant.group, grant.author);
        let action = grant.as_ref().map_or(Administration::ManageGroups, remove);
        let permit = self.administrate(caller, action, "grants.remove").await?;
        let grant = grant.ok_or_else(|| HubError::NotFound { what: format!("grant {id}") })?;
        let grant = Grant { revision, ..grant };
        let mut tx = self.store.write().await?;
        tx.remove_grant(&grant).await?;
        let event = Event::GrantRemoved { grant: id, group: grant.group, server: grant.server };
        self.commit(tx, permit, event).await
    }

    fn check_future(&self, end: Option<Timestamp>) -> Result<(), HubError> {
        match end {
            Some(end) if end <= self.clock.now() => {
                Err(HubError::Invalid(format!("the end {end} lies in the past")))
            }
            _ => Ok(()),
        }
    }
}

fn details(world: &World, group: &Group) -> GroupDetails {
    GroupDetails {
        group: group.clone(),
        members: world.members(group.id).cloned().collect(),
        grants: world.grants(group.id).cloned().collect(),
    }
}

fn not_found(id: GroupId) -> HubError {
    HubError::NotFound { what: format!("group {id}") }
}
