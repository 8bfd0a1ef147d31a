//! What admins and a group's managers grant the same group on one server: all 8^4 policies, with the
//! admin's grant live and ended. An admin opens a server; a manager gives on an open one only, and
//! what either denies is denied.

use mcphub_domain::group::{Author, Verdict};
use mcphub_domain::{Effect, Grant, Right, Rights, Role};
use mcphub_policy::{Endpoint, World, decide};

use crate::build::{NOW, grant, group, group_id, key, member, person, server, server_id, tool, user};

/// Is a policy as bits: the rights that each author allows and denies.
#[derive(Clone, Copy, Debug)]
struct Policy {
    admin_allows: u8,
    manager_allows: u8,
    admin_denies: u8,
    manager_denies: u8,
    admin_ended: bool,
}

/// Says what the design says.
const fn oracle(policy: Policy, right: u8) -> bool {
    let opened = policy.admin_allows != 0 && !policy.admin_ended;
    let allowed = (policy.admin_allows | policy.manager_allows) & right != 0;
    let denied = (policy.admin_denies | policy.manager_denies) & right != 0;
    opened && allowed && !denied
}

fn rights(bits: u8) -> Rights {
    let all = [(1, Right::Read), (2, Right::Write), (4, Right::Execute)];
    all.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, right)| right).collect()
}

/// Makes a world in which another group, with nobody in it, has everything on the server.
fn start() -> World {
    let mut world = World::default();
    world.put_user(user(0, Role::User));
    world.put_key(key(0));
    (0..2).for_each(|number| world.put_group(group(number)));
    world.put_server(server(0));
    world.put_members(group_id(0), vec![member(0, 0)]);
    world.put_grants(group_id(1), vec![grant(9, 1, 0, Verdict::Allow, Rights::ALL)]);
    let effects = [("r", Effect::Read), ("w", Effect::Write), ("x", Effect::Execute)];
    world.put_tools(server_id(0), effects.map(|(name, effect)| tool(0, name, effect)).into());
    world
}

fn grants(policy: Policy) -> Vec<Grant> {
    let end = policy.admin_ended.then_some(NOW);
    [
        (Author::Admin, Verdict::Allow, policy.admin_allows, end),
        (Author::Manager, Verdict::Allow, policy.manager_allows, None),
        (Author::Admin, Verdict::Deny, policy.admin_denies, None),
        (Author::Manager, Verdict::Deny, policy.manager_denies, None),
    ]
    .into_iter()
    .zip(0..)
    .filter(|((_, _, bits, _), _)| *bits != 0)
    .map(|((author, verdict, bits, expires_at), number)| Grant {
        author,
        expires_at,
        ..grant(number, 0, 0, verdict, rights(bits))
    })
    .collect()
}

#[test]
fn a_manager_gives_only_where_an_admin_does() {
    let mut world = start();
    for number in 0..2 * 8_u16.pow(4) {
        let digit = |place: u16| (number >> (3 * place) & 7) as u8;
        let policy = Policy {
            admin_allows: digit(0),
            manager_allows: digit(1),
            admin_denies: digit(2),
            manager_denies: digit(3),
            admin_ended: number >> 12 == 1,
        };
        world.put_grants(group_id(0), grants(policy));
        for endpoint in [Endpoint::All, Endpoint::Group(group_id(0)), Endpoint::Server(server_id(0))] {
            let prefix = if matches!(endpoint, Endpoint::Server(_)) { "" } else { "server0__" };
            for (name, right) in [("r", 1), ("w", 2), ("x", 4)] {
                let call = decide::call(&world, person(0), endpoint, &format!("{prefix}{name}"), NOW);
                assert_eq!(call.is_ok(), oracle(policy, right), "{name} at {endpoint:?}: {policy:?}");
            }
        }
    }
}
