//! Change by change, the world becomes what a whole load of it would be.

use std::fmt::Write;
use std::time::Duration;

use mcphub_domain::server::ServerState;
use mcphub_domain::user::UserState;
use mcphub_domain::{Entropy, Group, HubKey, Membership, Server, Timestamp, ToolState, User};
use mcphub_policy::{Endpoint, World};
use mcphub_store::testing::HeldConnections;
use mcphub_store::{Process, Store, StoreError, WriteTx};

use crate::build::{grant, group, key, membership, server, tool, user, write};
use crate::raw::Raw;

/// Writes down everything that a world tells.
fn describe(world: &World) -> String {
    let mut lines: Vec<String> = Vec::new();
    for user in world.users() {
        lines.push(format!("{user:?} {:?}", world.user_named(user.name.as_str()).map(|found| found.id)));
        lines.extend(world.memberships(user.id).map(|membership| format!("{membership:?}")));
        lines.extend(world.keys_of(user.id).map(|key| format!("{key:?}")));
    }
    for group in world.groups() {
        lines.push(format!("{group:?} {:?}", world.path(group.name.as_str())));
        lines.extend(world.grants(group.id).map(|grant| format!("{grant:?}")));
    }
    for entry in world.servers() {
        let server = entry.server();
        lines.push(format!("{server:?} {:?}", world.path(server.name.as_str())));
        lines.extend(entry.tools().map(|tool| format!("{tool:?}")));
    }
    lines.sort();
    let mut text = String::new();
    writeln!(text, "revision {}", world.revision()).unwrap();
    lines.iter().for_each(|line| writeln!(text, "{line}").unwrap());
    text
}

/// How long a node trusts a world that the database has not confirmed.
const TRUSTED: Duration = Duration::from_secs(2);

async fn load(store: &Store) -> World {
    store.load().await.unwrap().world.unwrap()
}

/// Is what a random sequence of changes has made so far.
#[derive(Default)]
struct Model {
    users: Vec<User>,
    groups: Vec<Group>,
    members: Vec<Membership>,
    servers: Vec<Server>,
    keys: Vec<HubKey>,
    steps: usize,
}

impl Model {
    /// Makes one change that is possible now, chosen by three bytes.
    async fn step(&mut self, tx: &mut WriteTx, [what, one, other]: [u8; 3]) {
        self.steps += 1;
        let number = self.steps;
        let pick = |length: usize, byte: u8| usize::from(byte) % length.max(1);
        let (user_at, group_at) = (pick(self.users.len(), one), pick(self.groups.len(), other));
        let server_at = pick(self.servers.len(), one);
        let done = match what % 12 {
            0 => {
                let added = user(&format!("user{number}"));
                let done = tx.add_user(&added).await;
                self.users.push(added);
                done
            }
            1 => {
                let added = group(&format!("group{number}"));
                let done = tx.add_group(&added).await;
                self.groups.push(added);
                done
            }
            2 => {
                let added = server(&format!("server{number}"));
                tx.add_server(&added).await.unwrap();
                let done = tx.put_tools(added.id, &[tool(&added, "look"), tool(&added, "leap")]).await;
                self.servers.push(added);
                done
            }
            3 if !self.users.is_empty() => {
                let user = &mut self.users[user_at];
                user.revision += 1;
                user.state = if other % 2 == 0 { UserState::Active } else { UserState::Disabled };
                tx.put_user(user).await
            }
            4 if !self.groups.is_empty() => tx.remove_group(&self.groups.remove(group_at)).await,
            5 if !self.servers.is_empty() => tx.remove_server(&self.servers.remove(server_at)).await,
            6 if !self.groups.is_empty() && !self.users.is_empty() => self.join(tx, group_at, user_at).await,
            7 if !self.groups.is_empty() && !self.servers.is_empty() => {
                let name = format!("grant{number}");
                self.groups[group_at].revision += 1;
                tx.add_grant(&grant(&name, &self.groups[group_at], &self.servers[server_at])).await
            }
            8 if !self.servers.is_empty() => {
                let server = &self.servers[server_at];
                let mut changed = tool(server, &format!("tool{}", other % 4));
                changed.tool.state = ToolState::Approved;
                tx.put_tools(server.id, &[changed]).await
            }
            9 if !self.servers.is_empty() => {
                let server = &mut self.servers[server_at];
                server.revision += 1;
                server.state = ServerState::Disabled;
                tx.put_server(server).await
            }
            10 if !self.users.is_empty() => {
                let added = key(&format!("key{number}"), &self.users[user_at]);
                tx.act_for(added.owner).await.unwrap();
                let done = tx.add_key(&added).await;
                self.keys.push(added);
                done
            }
            11 if !self.keys.is_empty() => {
                let at = pick(self.keys.len(), one);
                let key = &mut self.keys[at];
                (key.revision, key.revoked_at) = (key.revision + 1, Some(Timestamp::from_micros(3)));
                tx.act_for(key.owner).await.unwrap();
                tx.put_key(key).await
            }
            _ => Ok(()),
        };
        done.unwrap();
    }

    /// Puts a person into a group, or back into it as she is.
    async fn join(&mut self, tx: &mut WriteTx, group: usize, user: usize) -> Result<(), StoreError> {
        let group = &mut self.groups[group];
        group.revision += 1;
        let new = membership(group, &self.users[user]);
        let known = self.members.iter_mut().find(|known| (known.group, known.user) == (new.group, new.user));
        match known {
            Some(known) => {
                tx.put_membership(known).await?;
                known.revision = group.revision;
            }
            None => {
                tx.put_membership(&new).await?;
                self.members.push(Membership { revision: group.revision, ..new });
            }
        }
        Ok(())
    }
}

both! {
    async fn the_world_is_confirmed_while_readers_hold_every_other_connection(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let before = load(&store).await;
        write(&store, async |tx| tx.add_user(&user("alice")).await).await.unwrap();
        let _held = HeldConnections::of(&store).await;
        let confirmed = tokio::time::timeout(TRUSTED, async {
            store.beat().await.unwrap();
            assert_eq!(store.recover().await.unwrap(), 0);
            store.audit_tips().await.unwrap();
            store.load().await.unwrap();
            store.refresh(&before).await.unwrap().world.unwrap()
        });
        assert_eq!(confirmed.await.unwrap().users().count(), 1, "it waited for the readers");
    }

    async fn refreshing_leads_where_loading_does(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (random, mut model) = (Entropy::fixed(20_261_122), Model::default());
        let (mut each, mut seldom) = (load(&store).await, load(&store).await);
        for number in 0..200 {
            let [changes] = random.bytes::<1>();
            write(&store, async |tx| {
                for _ in 0..=changes % 3 {
                    model.step(tx, random.bytes()).await;
                }
                Ok(())
            })
            .await
            .unwrap();
            let delta = store.refresh(&each).await.unwrap();
            assert!(!delta.whole, "a list of changes without a gap needs no whole load");
            each = delta.world.unwrap_or(each);
            let whole = describe(&load(&store).await);
            assert_eq!(describe(&each), whole, "after change {number}");
            if number % 16 == 15 {
                let delta = store.refresh(&seldom).await.unwrap();
                assert!(!delta.whole);
                seldom = delta.world.unwrap();
                assert_eq!(describe(&seldom), whole, "after change {number}");
            }
        }
        assert!(store.refresh(&each).await.unwrap().world.is_none(), "nothing changed");
    }

    async fn a_gap_in_the_changes_leads_to_a_whole_load(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let start = load(&store).await;
        for name in ["one", "two", "three"] {
            write(&store, async |tx| tx.add_user(&user(name)).await).await.unwrap();
        }
        assert!(!store.refresh(&start).await.unwrap().whole);
        let mut raw = Raw::open(&database).await;
        for (gone, text) in [(2, "in the middle"), (1, "at the start"), (3, "at the end")] {
            raw.run(&format!("DELETE FROM changes WHERE revision = {gone}")).await.unwrap();
            let delta = store.refresh(&start).await.unwrap();
            assert!(delta.whole, "a gap {text}");
            assert_eq!(describe(&delta.world.unwrap()), describe(&load(&store).await));
        }
    }

    async fn a_name_passes_on_within_one_change(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (old, new) = (server("work"), group("work"));
        write(&store, async |tx| tx.add_server(&old).await).await.unwrap();
        let before = load(&store).await;
        write(&store, async |tx| {
            tx.remove_server(&old).await?;
            tx.add_group(&new).await
        })
        .await
        .unwrap();
        let after = store.refresh(&before).await.unwrap().world.unwrap();
        assert_eq!(after.path("work"), Some(Endpoint::Group(new.id)));
    }

    async fn tools_that_come_with_their_server_are_taken_up(database: TestDatabase) {
        let store = database.open(Process::Serve).await;
        let (before, github) = (load(&store).await, server("github"));
        write(&store, async |tx| {
            tx.add_server(&github).await?;
            tx.put_tools(github.id, &[tool(&github, "look")]).await
        })
        .await
        .unwrap();
        let delta = store.refresh(&before).await.unwrap();
        assert!(delta.world.unwrap().server(github.id).unwrap().tool("look").is_some());
        assert_eq!(delta.tools[0].1[0].definition, tool(&github, "look").definition);
    }
}

/// A load that saw one table before a change and the next one after it would make a world that never
/// was: here, one in which who was just put out of a group has what the group got after.
#[tokio::test]
async fn a_load_sees_one_state_on_postgres() {
    let database = mcphub_store::testing::TestDatabase::postgres().await;
    let store = database.open(Process::Serve).await;
    let (alice, staff, github) = (user("alice"), group("staff"), server("github"));
    write(&store, async |tx| {
        tx.add_user(&alice).await?;
        tx.add_group(&staff).await?;
        tx.add_server(&github).await?;
        tx.put_membership(&membership(&staff, &alice)).await
    })
    .await
    .unwrap();
    let (mut raw, mut watch) = (Raw::open(&database).await, Raw::open(&database).await);
    raw.run("BEGIN; LOCK TABLE grants IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let change = async {
        let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted";
        for _ in 0..1_000 {
            if watch.number(waiting).await > 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let (group, server) = (staff.id, github.id);
        raw.run(&format!(
            "DELETE FROM memberships; INSERT INTO grants VALUES
             ('{}', '{group}', '{server}', 'allow', 'admin', 'read', '[]', NULL, 1); COMMIT",
            grant("g", &staff, &github).id
        ))
        .await
        .unwrap();
    };
    let (world, ()) = futures_util::join!(load(&store), change);
    let (members, grants) = (world.members(staff.id).count(), world.grants(staff.id).count());
    assert_eq!((members, grants), (1, 0), "members from before the change, grants from after it");
}
