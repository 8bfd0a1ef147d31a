//! Random worlds: what is listed is what can be called, and nobody calls by role alone.

use std::collections::BTreeSet;
use std::fmt;

use mcphub_domain::group::{Author, Standing, Verdict};
use mcphub_domain::server::ServerState;
use mcphub_domain::tool::shared_name;
use mcphub_domain::user::UserState;
use mcphub_domain::{
    Effect, Grant, GrantId, HubKey, Membership, Principal, Right, Rights, Role, Server, Timestamp, Tool,
    ToolState, User,
};
use mcphub_policy::{Endpoint, Permit, Route, World, decide};
use proptest::prelude::{BoxedStrategy, Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use crate::build::{
    NOW, at, grant, group, group_id, key, key_id, member, person, server, server_id, tool, user, user_id,
};

const USERS: u8 = 3;
const GROUPS: u8 = 3;
const SERVERS: u8 = 3;

/// Lists tool names: short ones, some that look like a shared name, and some whose shared name is
/// shortened, the last of them to exactly what the one before it gets.
fn tool_names() -> Vec<String> {
    let long = format!("get_{}", "a".repeat(60));
    let mut names: Vec<String> =
        ["get_me", "get_all", "set_me", "server1__get_me", "_x"].map(str::to_owned).into();
    names.extend([format!("set_{}", "b".repeat(60)), long.clone()]);
    let twin = shared_name(&server(0).name, &long);
    names.extend(twin.strip_prefix("server0__").map(str::to_owned));
    names
}

fn end() -> BoxedStrategy<Option<Timestamp>> {
    select(vec![None, None, Some(at(-1)), Some(NOW), Some(at(1))]).boxed()
}

fn grants(group: u8) -> BoxedStrategy<Vec<Grant>> {
    let verdict = select(vec![Verdict::Allow, Verdict::Allow, Verdict::Deny]);
    let rights = prop::collection::vec(select(Right::ALL), 0..4);
    let patterns =
        select(vec![vec![], vec![], vec!["get_*"], vec!["*me"], vec!["_x", "set_*"], vec!["none"]]);
    let author = select(vec![Author::Admin, Author::Admin, Author::Manager]);
    let one = (0..SERVERS, verdict, author, rights, patterns, end()).prop_map(
        move |(server, verdict, author, rights, patterns, expires_at)| Grant {
            author,
            tools: patterns.into_iter().map(|pattern| pattern.parse().unwrap()).collect(),
            expires_at,
            ..grant(0, group, server, verdict, rights.into_iter().collect::<Rights>())
        },
    );
    let number =
        |(number, grant): (usize, Grant)| Grant { id: GrantId::from_bytes([number as u8; 16]), ..grant };
    prop::collection::vec(one, 0..5)
        .prop_map(move |grants| grants.into_iter().enumerate().map(number).collect())
        .boxed()
}

fn members(group: u8) -> BoxedStrategy<Vec<Membership>> {
    let one = (any::<bool>(), select(Standing::ALL), end());
    prop::collection::vec(one, usize::from(USERS))
        .prop_map(move |list| {
            (0..USERS)
                .zip(list)
                .filter(|(_, (is_in, ..))| *is_in)
                .map(|(user, (_, standing, expires_at))| Membership {
                    standing,
                    expires_at,
                    ..member(group, user)
                })
                .collect()
        })
        .boxed()
}

fn tools(server: u8) -> BoxedStrategy<Vec<Tool>> {
    let states = select(vec![ToolState::Approved, ToolState::Approved, ToolState::Pending]);
    let one = (any::<bool>(), select(Effect::ALL), states);
    prop::collection::vec(one, tool_names().len())
        .prop_map(move |list| {
            tool_names()
                .into_iter()
                .zip(list)
                .filter(|(_, (has, ..))| *has)
                .map(|(name, (_, effect, state))| Tool { state, ..tool(server, &name, effect) })
                .collect()
        })
        .boxed()
}

/// Makes a world of people, groups, servers and keys in all their states.
fn worlds() -> impl Strategy<Value = Shown> {
    let person = (select(Role::ALL), select(vec![UserState::Active, UserState::Active, UserState::Disabled]));
    let proof = (select(vec![at(1), at(1), NOW, at(-1)]), select(vec![None, None, Some(at(-5))]));
    let people = prop::collection::vec((person, proof), usize::from(USERS));
    let groups: Vec<_> = (0..GROUPS).map(|number| (members(number), grants(number))).collect();
    let state = select(vec![ServerState::Enabled, ServerState::Enabled, ServerState::Disabled]);
    let servers: Vec<_> = (0..SERVERS).map(|number| (state.clone(), tools(number))).collect();
    (people, groups, servers).prop_map(|(people, groups, servers)| {
        let mut world = World::default();
        for (number, ((role, state), (expires_at, revoked_at))) in (0..USERS).zip(people) {
            world.put_user(User { state, ..user(number, role) });
            world.put_key(HubKey { expires_at, revoked_at, ..key(number) });
        }
        for (number, (members, grants)) in (0..GROUPS).zip(groups) {
            world.put_group(group(number));
            world.put_members(group_id(number), members);
            world.put_grants(group_id(number), grants);
        }
        for (number, (state, tools)) in (0..SERVERS).zip(servers) {
            world.put_server(Server { state, ..server(number) });
            world.put_tools(server_id(number), tools);
        }
        Shown(world)
    })
}

/// Is a world that a failed test can show.
#[derive(Clone)]
struct Shown(World);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = &self.0;
        for number in 0..USERS {
            writeln!(f, "{:?} {:?}", world.user(user_id(number)), world.key(key_id(number)))?;
        }
        for number in 0..GROUPS {
            writeln!(f, "{:?}", world.members(group_id(number)).collect::<Vec<_>>())?;
            writeln!(f, "{:?}", world.grants(group_id(number)).collect::<Vec<_>>())?;
        }
        for entry in world.servers() {
            writeln!(f, "{:?} {:?}", entry.server(), entry.tools().collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Lists everybody who may ask, somebody with another person's key and an unknown one included.
fn principals() -> Vec<Principal> {
    let mut all: Vec<Principal> = (0..USERS).map(person).collect();
    all.push(Principal::Person { user: user_id(0), key: key_id(1) });
    all.push(Principal::Person { user: user_id(0), key: key_id(99) });
    all.extend([Principal::Operator, Principal::Hub]);
    all
}

fn endpoints() -> Vec<Endpoint> {
    let groups = (0..=GROUPS).map(|number| Endpoint::Group(group_id(number)));
    let servers = (0..=SERVERS).map(|number| Endpoint::Server(server_id(number)));
    std::iter::once(Endpoint::All).chain(groups).chain(servers).collect()
}

/// Lists every name that anybody might try, on any endpoint.
fn candidates() -> BTreeSet<String> {
    let mut names = BTreeSet::from([String::new(), "__".to_owned(), "server0__".to_owned()]);
    for name in tool_names() {
        for number in 0..SERVERS {
            names.insert(shared_name(&server(number).name, &name));
            names.insert(format!("server{number}__{name}"));
        }
        names.insert(name);
    }
    names
}

proptest! {
    #[test]
    fn what_is_listed_is_what_can_be_called(Shown(world) in worlds()) {
        for principal in principals() {
            for endpoint in endpoints() {
                let listed = decide::visible(&world, principal, endpoint, NOW);
                let names: BTreeSet<&String> = listed.iter().map(|(name, _)| name).collect();
                prop_assert_eq!(names.len(), listed.len(), "a name twice: {:?}", listed);
                for (name, route) in &listed {
                    let permit = decide::call(&world, principal, endpoint, name, NOW);
                    prop_assert_eq!(permit.as_ref().map(Permit::route), Ok(route));
                }
                for name in candidates() {
                    let allowed = decide::call(&world, principal, endpoint, &name, NOW).is_ok();
                    prop_assert_eq!(allowed, names.contains(&name), "{} at {:?}", name, endpoint);
                }
            }
        }
    }

    #[test]
    fn every_call_takes_a_live_key_a_grant_and_an_approved_tool(Shown(world) in worlds()) {
        for principal in principals() {
            for (endpoint, name) in endpoints().into_iter().flat_map(|e| candidates().into_iter().map(move |n| (e, n))) {
                let Ok(permit) = decide::call(&world, principal, endpoint, &name, NOW) else { continue };
                let Principal::Person { user, key } = principal else { panic!("{principal:?} called {name}") };
                let (person, key) = (world.user(user).unwrap(), world.key(key).unwrap());
                prop_assert_eq!((key.owner, key.revoked_at, person.state), (user, None, UserState::Active));
                prop_assert!(key.expires_at > NOW && person.role != Role::Viewer);
                let entry = world.server(permit.route().server).unwrap();
                let tool = entry.tool(permit.route().tool.as_str()).unwrap();
                prop_assert_eq!((entry.server().state, tool.state), (ServerState::Enabled, ToolState::Approved));
                let speaks = |grant: &&Grant| grant.server == tool.server
                    && grant.expires_at.is_none_or(|end| end > NOW)
                    && grant.rights.contains(tool.effect.right())
                    && grant.covers(&tool.name);
                let mine: Vec<&Grant> = world
                    .memberships(user)
                    .filter(|membership| membership.expires_at.is_none_or(|end| end > NOW))
                    .flat_map(|membership| world.grants(membership.group))
                    .filter(speaks)
                    .collect();
                let opens = |grant: &Grant, group| grant.server == tool.server && grant.group == group
                    && (grant.author, grant.verdict) == (Author::Admin, Verdict::Allow)
                    && grant.expires_at.is_none_or(|end| end > NOW);
                let opened = |group| world.grants(group).any(|grant| opens(grant, group));
                prop_assert!(mine.iter().any(|grant| grant.verdict == Verdict::Allow && opened(grant.group)));
                prop_assert!(mine.iter().all(|grant| grant.verdict == Verdict::Allow));
            }
        }
    }

    #[test]
    fn a_group_or_server_endpoint_only_narrows(Shown(world) in worlds()) {
        for principal in principals() {
            let routes = |endpoint| -> Vec<_> {
                decide::visible(&world, principal, endpoint, NOW).into_iter().map(|(_, route)| route).collect()
            };
            // Two tools whose shared names collide can both be called on the endpoint of their server alone.
            let server = |route: &Route| routes(Endpoint::Server(route.server));
            let all = routes(Endpoint::All);
            for endpoint in endpoints() {
                for route in routes(endpoint) {
                    prop_assert!(all.contains(&route) || server(&route).contains(&route));
                    prop_assert!(matches!(endpoint, Endpoint::Server(_)) || all.contains(&route));
                }
            }
        }
    }

    #[test]
    fn no_role_and_no_standing_replaces_a_grant(Shown(world) in worlds(), role in select(Role::ALL)) {
        let mut without = world.clone();
        for number in 0..GROUPS {
            let allows_nothing =
                world.grants(group_id(number)).filter(|grant| grant.verdict == Verdict::Deny).cloned().collect();
            without.put_grants(group_id(number), allows_nothing);
        }
        for number in 0..USERS {
            without.put_user(user(number, role));
            without.put_key(key(number));
            for endpoint in endpoints() {
                prop_assert!(decide::visible(&without, person(number), endpoint, NOW).is_empty());
                prop_assert!(candidates().iter().all(|name|
                    decide::call(&without, person(number), endpoint, name, NOW).is_err()));
            }
        }
    }

    #[test]
    fn a_role_above_viewer_changes_no_list(Shown(world) in worlds()) {
        let list = |role| {
            let mut world = world.clone();
            (0..USERS).for_each(|number| world.put_user(user(number, role)));
            endpoints().into_iter().flat_map(move |endpoint| {
                let world = world.clone();
                (0..USERS).map(move |number| decide::visible(&world, person(number), endpoint, NOW))
            }).collect::<Vec<_>>()
        };
        let as_user = list(Role::User);
        prop_assert_eq!(&list(Role::Manager), &as_user);
        prop_assert_eq!(&list(Role::Admin), &as_user);
        prop_assert!(list(Role::Viewer).iter().all(Vec::is_empty));
    }
}
