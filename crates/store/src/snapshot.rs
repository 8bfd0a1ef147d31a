//! The world as the database has it: whole at the start, then change by change.

use std::collections::BTreeSet;

use mcphub_domain::{GroupId, KeyId, ServerId, UserId};
use mcphub_policy::World;

use crate::error::StoreError;
use crate::groups::{LoadedGroup, load_group, load_groups};
use crate::keys::{load_key, load_keys};
use crate::servers::{StoredTool, load_all_tools, load_server, load_servers, load_tools};
use crate::statement::{Tx, values};
use crate::store::Store;
use crate::users::{load_user, load_users};

/// Names a kind of thing that changed, in the order in which changes are taken up: a server comes
/// before its tools.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChangeKind {
    /// A person.
    User,
    /// A group, its members or its grants.
    Group,
    /// A server.
    Server,
    /// The tools of a server.
    Tools,
    /// A hub key.
    Key,
    /// A person's credentials for a server; the id is `{user}/{server}`.
    Credential,
    /// The same, where one has been replaced by another that is as good.
    Renewal,
    /// A server's shared values; the id is the server's.
    SharedValue,
}

impl ChangeKind {
    const ALL: &[Self] = &[
        Self::User,
        Self::Group,
        Self::Server,
        Self::Tools,
        Self::Key,
        Self::Credential,
        Self::Renewal,
        Self::SharedValue,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Server => "server",
            Self::Tools => "tools",
            Self::Key => "key",
            Self::Credential => "credential",
            Self::Renewal => "renewal",
            Self::SharedValue => "shared-value",
        }
    }
}

/// Is what a refresh found.
#[derive(Default)]
pub struct Delta {
    /// The new world, if anything changed.
    pub world: Option<World>,
    /// The servers whose tool definitions changed, with the new ones.
    pub tools: Vec<(ServerId, Vec<StoredTool>)>,
    /// The people and servers whose credentials changed.
    pub credentials: Vec<(UserId, ServerId)>,
    /// Those of whom one was renewed, so that what runs with the one before may go on.
    pub renewed: Vec<(UserId, ServerId)>,
    /// The servers whose shared values changed.
    pub shared_values: Vec<ServerId>,
    /// Whether everything was loaded anew, so that everything that was cached is stale.
    pub whole: bool,
}

impl Store {
    /// Loads the whole world.
    pub async fn load(&self) -> Result<Delta, StoreError> {
        let mut tx = self.pulse().read().await?;
        let mut world = World::default();
        world.set_revision(revision(&mut tx).await?);
        load_users(&mut tx).await?.into_iter().for_each(|user| world.put_user(user));
        load_groups(&mut tx).await?.into_iter().for_each(|loaded| put_group(&mut world, loaded));
        load_servers(&mut tx).await?.into_iter().for_each(|server| world.put_server(server));
        let tools: Vec<_> = load_all_tools(&mut tx).await?.into_iter().collect();
        for (server, stored) in &tools {
            world.put_tools(*server, stored.iter().map(|stored| stored.tool.clone()).collect());
        }
        load_keys(&mut tx).await?.into_iter().for_each(|key| world.put_key(key));
        Ok(Delta { world: Some(world), tools, whole: true, ..Delta::default() })
    }

    /// Loads what changed since `world`. A gap in the list of changes leads to a whole load.
    pub async fn refresh(&self, world: &World) -> Result<Delta, StoreError> {
        let mut tx = self.pulse().read().await?;
        let newest = revision(&mut tx).await?;
        if newest == world.revision() {
            return Ok(Delta::default());
        }
        let rows = tx
            .all(
                "SELECT revision, kind, id FROM changes WHERE revision > $1 AND revision <= $2 ORDER BY revision",
                values![world.revision(), newest],
            )
            .await?;
        let mut changes = BTreeSet::<(ChangeKind, String)>::new();
        let mut seen = world.revision();
        for row in &rows {
            let at: i64 = row.get(0)?;
            if at > seen + 1 {
                drop(tx);
                return self.load().await;
            }
            seen = at;
            let kind: String = row.get(1)?;
            let kind = ChangeKind::ALL.iter().find(|known| known.as_str() == kind);
            let kind = *kind.ok_or_else(|| StoreError::damaged("an unknown kind of change"))?;
            changes.insert((kind, row.get(2)?));
        }
        if seen != newest {
            drop(tx);
            return self.load().await;
        }
        let mut delta = Delta::default();
        let mut next = world.clone();
        next.set_revision(newest);
        for (kind, id) in changes {
            apply(&mut tx, &mut next, &mut delta, kind, &id).await?;
        }
        delta.world = Some(next);
        Ok(delta)
    }
}

async fn revision(tx: &mut Tx) -> Result<i64, StoreError> {
    let row = tx.one("SELECT revision FROM world WHERE only_row = 1", values![]).await?;
    row.ok_or_else(|| StoreError::damaged("the world has no revision"))?.get(0)
}

async fn apply(
    tx: &mut Tx,
    world: &mut World,
    delta: &mut Delta,
    kind: ChangeKind,
    id: &str,
) -> Result<(), StoreError> {
    match kind {
        ChangeKind::User => {
            if let Some(user) = load_user(tx, parse(id)?).await? {
                world.put_user(user);
            }
        }
        ChangeKind::Group => {
            let id: GroupId = parse(id)?;
            match load_group(tx, id).await? {
                Some(loaded) => put_group(world, loaded),
                None => world.remove_group(id),
            }
        }
        ChangeKind::Server => {
            let id: ServerId = parse(id)?;
            match load_server(tx, id).await? {
                Some(server) => world.put_server(server),
                None => world.remove_server(id),
            }
        }
        ChangeKind::Tools => {
            let id: ServerId = parse(id)?;
            let tools = load_tools(tx, id).await?;
            world.put_tools(id, tools.iter().map(|stored| stored.tool.clone()).collect());
            delta.tools.push((id, tools));
        }
        ChangeKind::Key => {
            if let Some(key) = load_key(tx, parse::<KeyId>(id)?).await? {
                world.put_key(key);
            }
        }
        ChangeKind::Credential => delta.credentials.push(whose(id)?),
        ChangeKind::Renewal => delta.renewed.push(whose(id)?),
        ChangeKind::SharedValue => delta.shared_values.push(parse(id)?),
    }
    Ok(())
}

fn whose(id: &str) -> Result<(UserId, ServerId), StoreError> {
    let (user, server) = id.split_once('/').ok_or_else(|| StoreError::damaged("a change's id"))?;
    Ok((parse(user)?, parse(server)?))
}

fn put_group(world: &mut World, loaded: LoadedGroup) {
    let id = loaded.group.id;
    world.put_group(loaded.group);
    world.put_members(id, loaded.members);
    world.put_grants(id, loaded.grants);
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error: T::Err| StoreError::damaged(error))
}
