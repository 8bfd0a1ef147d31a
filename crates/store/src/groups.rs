//! Groups, their members and their grants.

use mcphub_domain::{Grant, Group, GroupId, Membership, Rights, ServerId, Timestamp, ToolPattern};

use crate::error::StoreError;
use crate::snapshot::ChangeKind;
use crate::statement::{Row, Tx, values};
use crate::tx::WriteTx;
use crate::users::taken;

impl WriteTx {
    /// Adds a group. A name that a group or a server has is an error.
    pub async fn add_group(&mut self, group: &Group) -> Result<(), StoreError> {
        self.take_path(group.name.as_str(), "group", group.id.to_string()).await?;
        self.tx
            .execute(
                "INSERT INTO groups (id, name, revision, created_at) VALUES ($1, $2, $3, $4)",
                values![
                    group.id.to_string(),
                    group.name.as_str(),
                    group.revision,
                    group.created_at.as_micros()
                ],
            )
            .await?;
        self.changed(ChangeKind::Group, group.id);
        Ok(())
    }

    /// Removes a group that still has its revision, with its members and grants.
    pub async fn remove_group(&mut self, group: &Group) -> Result<(), StoreError> {
        let gone = self
            .tx
            .execute(
                "DELETE FROM groups WHERE id = $1 AND revision = $2",
                values![group.id.to_string(), group.revision],
            )
            .await?;
        if gone == 0 {
            return Err(StoreError::stale(format!("group {}", group.name)));
        }
        self.tx.execute("DELETE FROM paths WHERE name = $1", values![group.name.as_str()]).await?;
        self.changed(ChangeKind::Group, group.id);
        Ok(())
    }

    /// Puts a person into a group who isn't in it (revision 0), or changes how she is in it if she
    /// still is as at her revision. The new one is the group's.
    pub async fn put_membership(&mut self, membership: &Membership) -> Result<(), StoreError> {
        let revision = self.count_change(membership.group).await?;
        let mut values = values![
            membership.group.to_string(),
            membership.user.to_string(),
            membership.standing.as_str(),
            membership.expires_at.map(Timestamp::as_micros),
            revision,
        ];
        let sql = if membership.revision == 0 {
            "INSERT INTO memberships (group_id, user_id, standing, expires_at, revision)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (group_id, user_id) DO NOTHING"
        } else {
            values.extend(values![membership.revision]);
            "UPDATE memberships SET standing = $3, expires_at = $4, revision = $5
              WHERE group_id = $1 AND user_id = $2 AND revision = $6"
        };
        check(self.tx.execute(sql, values).await?, "the membership")
    }

    /// Takes a person out of a group if she still is in it as at her revision.
    pub async fn remove_membership(&mut self, membership: &Membership) -> Result<(), StoreError> {
        self.count_change(membership.group).await?;
        let gone = self
            .tx
            .execute(
                "DELETE FROM memberships WHERE group_id = $1 AND user_id = $2 AND revision = $3",
                values![membership.group.to_string(), membership.user.to_string(), membership.revision],
            )
            .await?;
        check(gone, "the membership")
    }

    /// Adds a grant.
    pub async fn add_grant(&mut self, grant: &Grant) -> Result<(), StoreError> {
        self.count_change(grant.group).await?;
        let tools = serde_json::to_string(&grant.tools).map_err(StoreError::damaged)?;
        self.tx
            .execute(
                "INSERT INTO grants (id, group_id, server_id, verdict, author, rights, tools, expires_at, revision)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                values![
                    grant.id.to_string(),
                    grant.group.to_string(),
                    grant.server.to_string(),
                    grant.verdict.as_str(),
                    grant.author.as_str(),
                    grant.rights.to_string(),
                    tools,
                    grant.expires_at.map(Timestamp::as_micros),
                    grant.revision,
                ],
            )
            .await?;
        Ok(())
    }

    /// Removes a grant that still has its revision.
    pub async fn remove_grant(&mut self, grant: &Grant) -> Result<(), StoreError> {
        self.count_change(grant.group).await?;
        let gone = self
            .tx
            .execute(
                "DELETE FROM grants WHERE id = $1 AND revision = $2",
                values![grant.id.to_string(), grant.revision],
            )
            .await?;
        check(gone, &format!("grant {}", grant.id))
    }

    /// Counts a change of who is in a group or of what it grants. Two changes of one group take turns.
    async fn count_change(&mut self, group: GroupId) -> Result<i64, StoreError> {
        let row = self
            .tx
            .one(
                "UPDATE groups SET revision = revision + 1 WHERE id = $1 RETURNING revision",
                values![group.to_string()],
            )
            .await?;
        self.changed(ChangeKind::Group, group);
        row.ok_or_else(|| StoreError::missing(format!("group {group}")))?.get(0)
    }

    /// Takes a name out of the one set that groups and servers share.
    pub(crate) async fn take_path(
        &mut self,
        name: &str,
        kind: &'static str,
        id: String,
    ) -> Result<(), StoreError> {
        self.tx
            .execute("INSERT INTO paths (name, kind, id) VALUES ($1, $2, $3)", values![name, kind, id])
            .await
            .map(|_| ())
            .map_err(|error| taken(error, name))
    }
}

fn check(changed: u64, what: &str) -> Result<(), StoreError> {
    if changed == 0 { Err(StoreError::stale(what)) } else { Ok(()) }
}

/// Is a group with all that belongs to it.
pub(crate) struct LoadedGroup {
    pub(crate) group: Group,
    pub(crate) members: Vec<Membership>,
    pub(crate) grants: Vec<Grant>,
}

pub(crate) async fn load_groups(tx: &mut Tx) -> Result<Vec<LoadedGroup>, StoreError> {
    let rows = tx.all("SELECT id, name, revision, created_at FROM groups", values![]).await?;
    let groups: Vec<Group> = rows.iter().map(group).collect::<Result<_, _>>()?;
    let rows = tx
        .all("SELECT group_id, user_id, standing, expires_at, revision FROM memberships", values![])
        .await?;
    let mut members = by_group(&rows, membership, |membership| membership.group)?;
    let rows = tx
        .all(
            "SELECT id, group_id, server_id, verdict, rights, tools, expires_at, revision, author FROM grants",
            values![],
        )
        .await?;
    let mut grants = by_group(&rows, grant, |grant| grant.group)?;
    Ok(groups
        .into_iter()
        .map(|group| LoadedGroup {
            members: members.remove(&group.id).unwrap_or_default(),
            grants: grants.remove(&group.id).unwrap_or_default(),
            group,
        })
        .collect())
}

pub(crate) async fn load_group(tx: &mut Tx, id: GroupId) -> Result<Option<LoadedGroup>, StoreError> {
    let id = id.to_string();
    let row = tx
        .one("SELECT id, name, revision, created_at FROM groups WHERE id = $1", values![id.as_str()])
        .await?;
    let Some(row) = row else { return Ok(None) };
    let members = tx
        .all(
            "SELECT group_id, user_id, standing, expires_at, revision FROM memberships WHERE group_id = $1",
            values![id.as_str()],
        )
        .await?;
    let grants = tx
        .all(
            "SELECT id, group_id, server_id, verdict, rights, tools, expires_at, revision, author FROM grants
              WHERE group_id = $1",
            values![id.as_str()],
        )
        .await?;
    Ok(Some(LoadedGroup {
        group: group(&row)?,
        members: members.iter().map(membership).collect::<Result<_, _>>()?,
        grants: grants.iter().map(grant).collect::<Result<_, _>>()?,
    }))
}

fn by_group<T>(
    rows: &[Row],
    read: fn(&Row) -> Result<T, StoreError>,
    group: fn(&T) -> GroupId,
) -> Result<std::collections::HashMap<GroupId, Vec<T>>, StoreError> {
    let mut groups = std::collections::HashMap::<GroupId, Vec<T>>::new();
    for row in rows {
        let item = read(row)?;
        groups.entry(group(&item)).or_default().push(item);
    }
    Ok(groups)
}

fn group(row: &Row) -> Result<Group, StoreError> {
    Ok(Group {
        id: row.parse(0)?,
        name: row.parse(1)?,
        revision: row.get(2)?,
        created_at: Timestamp::from_micros(row.get(3)?),
    })
}

fn membership(row: &Row) -> Result<Membership, StoreError> {
    Ok(Membership {
        group: row.parse(0)?,
        user: row.parse(1)?,
        standing: row.parse(2)?,
        expires_at: row.get::<Option<i64>>(3)?.map(Timestamp::from_micros),
        revision: row.get(4)?,
    })
}

fn grant(row: &Row) -> Result<Grant, StoreError> {
    let tools: String = row.get(5)?;
    let tools: Vec<ToolPattern> = serde_json::from_str(&tools).map_err(StoreError::damaged)?;
    Ok(Grant {
        id: row.parse(0)?,
        group: row.parse(1)?,
        server: row.parse::<ServerId>(2)?,
        verdict: row.parse(3)?,
        author: row.parse(8)?,
        rights: row.parse::<Rights>(4)?,
        tools,
        expires_at: row.get::<Option<i64>>(6)?.map(Timestamp::from_micros),
        revision: row.get(7)?,
    })
}
