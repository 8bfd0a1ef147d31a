//! `mcphub group`: who belongs together.

use clap::Subcommand;
use mcphub_domain::group::Standing;
use mcphub_domain::{GroupName, Membership, User, UserId, UserName};
use mcphub_hub::groups::GroupDetails;
use serde_json::{Value, json};

use super::answer::{Answer, Table, list_or_dash};
use super::desk::Desk;
use super::failure::Failure;
use super::input::span;

#[derive(Subcommand, Debug)]
pub(crate) enum GroupCommand {
    /// Add a group, empty and without grants
    Add { name: GroupName },
    /// List all groups
    List,
    /// Put a person into a group
    Join {
        group: GroupName,
        user: UserName,
        /// Let her run the group, if her role is manager
        #[arg(long)]
        manager: bool,
        /// End the membership after a while, such as 30d
        #[arg(long, value_name = "SPAN", value_parser = span)]
        expires: Option<std::time::Duration>,
    },
    /// Take a person out of a group
    Leave { group: GroupName, user: UserName },
    /// Remove a group with its memberships and grants
    Remove { name: GroupName },
}

impl GroupCommand {
    pub(crate) async fn run(self, desk: &Desk) -> Result<Answer, Failure> {
        let (hub, operator) = (&desk.hub, &desk.operator);
        match self {
            Self::Add { name } => {
                let group = hub.add_group(operator, name).await?;
                Ok(Answer::new(
                    format!("added group {}", group.name),
                    json!({ "id": group.id, "name": group.name }),
                ))
            }
            Self::List => list(desk).await,
            Self::Join { group, user, manager, expires } => {
                let standing = if manager { Standing::Manager } else { Standing::Member };
                let (id, person) = (desk.group(&group).await?.id, desk.user(&user).await?.id);
                let membership = Membership {
                    group: id,
                    user: person,
                    standing,
                    expires_at: expires.map(|span| desk.now.plus(span)),
                    revision: hub.membership(operator, id, person)?.map_or(0, |before| before.revision),
                };
                hub.join_group(operator, membership).await?;
                let json = json!({ "group": group, "user": user, "standing": standing });
                Ok(Answer::new(format!("{user} is in {group} as {standing}"), json))
            }
            Self::Leave { group, user } => {
                let (id, person) = (desk.group(&group).await?.id, desk.user(&user).await?.id);
                let before = hub.membership(operator, id, person)?;
                let before = before.ok_or_else(|| {
                    Failure::new("not_found", format!("{user} is not in {group}, so she can't leave it"))
                })?;
                hub.leave_group(operator, (id, person), before.revision).await?;
                let json = json!({ "group": group, "user": user });
                Ok(Answer::new(format!("{user} is not in {group} any more"), json))
            }
            Self::Remove { name } => {
                let group = desk.group(&name).await?;
                hub.remove_group(operator, group.id, group.revision).await?;
                Ok(Answer::new(format!("removed group {name}"), json!({ "id": group.id, "name": name })))
            }
        }
    }
}

async fn list(desk: &Desk) -> Result<Answer, Failure> {
    let (groups, users) = (desk.groups().await?, desk.users().await?);
    let mut table =
        Table::new(&["NAME", "MEMBERS", "GRANTS"], "no groups yet: add one with `mcphub group add NAME`");
    for details in &groups {
        table.row([
            details.group.name.to_string(),
            list_or_dash(details.members.iter().map(|member| name_of(&users, member.user))),
            details.grants.len().to_string(),
        ]);
    }
    Ok(Answer::table(&table, groups.iter().map(|details| view(details, &users)).collect()))
}

fn view(details: &GroupDetails, users: &[User]) -> Value {
    let members: Vec<Value> = details
        .members
        .iter()
        .map(|member| {
            json!({
                "user": name_of(users, member.user),
                "standing": member.standing,
                "expires_at": member.expires_at.map(|end| end.to_string()),
            })
        })
        .collect();
    json!({
        "id": details.group.id,
        "name": details.group.name,
        "members": members,
        "grants": details.grants.len(),
        "created_at": details.group.created_at.to_string(),
    })
}

/// Names a person, by her id if there is no name.
pub(crate) fn name_of(users: &[User], id: UserId) -> String {
    users.iter().find(|user| user.id == id).map_or_else(|| id.to_string(), |user| user.name.to_string())
}
