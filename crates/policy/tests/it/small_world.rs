//! All policies of a world that is small enough to try them all: 3 people, 2 groups, 2 servers,
//! 3 rights. What two groups allow and deny on one server makes 8^4 policies; each is tried on the
//! first server, while the second has another of the 8^4, so that what leaks between them shows.

use mcphub_domain::{Effect, Grant, GroupId, Right, Rights, Role, ServerId, Verdict};
use mcphub_policy::{Endpoint, World, decide};

use crate::build::{NOW, grant, group, group_id, key, member, person, server, server_id, tool, user};

const POLICIES: u16 = 8 * 8 * 8 * 8;
const ENDPOINTS: [Endpoint; 5] = [
    Endpoint::All,
    Endpoint::Group(group_id(0)),
    Endpoint::Group(group_id(1)),
    Endpoint::Server(server_id(0)),
    Endpoint::Server(server_id(1)),
];

/// Is a policy as bits: which groups each person is in, and which rights a group has on a server.
#[derive(Debug)]
struct Policy {
    groups_of: [u8; 3],
    allow: [[u8; 2]; 2],
    deny: [[u8; 2]; 2],
}

/// Says what the design says: every call needs a right that a group of the person's allows on the
/// server and none of her groups denies; a group's endpoint gives what that group allows, to its
/// members; a server's endpoint is for those whom some group allows something on it.
fn oracle(policy: &Policy, person: usize, endpoint: Endpoint, server: usize, right: u8) -> bool {
    let mine = policy.groups_of[person];
    let is_group = |id: GroupId, number: usize| id == group_id(number as u8);
    let is_server = |id: ServerId, number: usize| id == server_id(number as u8);
    let (mut sees, mut allowed, mut denied) = (endpoint == Endpoint::All, false, false);
    for group in 0..2 {
        if mine & (1 << group) == 0 {
            continue;
        }
        let counts = match endpoint {
            Endpoint::Group(id) => is_group(id, group),
            Endpoint::All | Endpoint::Server(_) => true,
        };
        sees |= match endpoint {
            Endpoint::Group(id) => is_group(id, group),
            Endpoint::Server(id) => (0..2).any(|s| is_server(id, s) && policy.allow[group][s] != 0),
            Endpoint::All => true,
        };
        allowed |= counts && policy.allow[group][server] & right != 0;
        denied |= policy.deny[group][server] & right != 0;
    }
    let elsewhere = matches!(endpoint, Endpoint::Server(id) if !is_server(id, server));
    sees && allowed && !denied && !elsewhere
}

fn rights(bits: u8) -> Rights {
    let all = [(1, Right::Read), (2, Right::Write), (4, Right::Execute)];
    all.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, right)| right).collect()
}

fn policy(number: u16, memberships: u8) -> Policy {
    let digit = |number: u16, place: u16| (number >> (3 * place) & 7) as u8;
    let other = number.wrapping_mul(2_741).wrapping_add(1_973) % POLICIES;
    Policy {
        groups_of: [memberships & 3, (memberships + 1) & 3, (memberships + 2) & 3],
        allow: [[digit(number, 0), digit(other, 0)], [digit(number, 1), digit(other, 1)]],
        deny: [[digit(number, 2), digit(other, 2)], [digit(number, 3), digit(other, 3)]],
    }
}

fn start() -> World {
    let mut world = World::default();
    for number in 0..3 {
        world.put_user(user(number, Role::User));
        world.put_key(key(number));
    }
    for number in 0..2 {
        world.put_group(group(number));
        world.put_server(server(number));
        let effects = [("r", Effect::Read), ("w", Effect::Write), ("x", Effect::Execute)];
        world.put_tools(server_id(number), effects.map(|(name, effect)| tool(number, name, effect)).into());
    }
    world
}

fn put(world: &mut World, policy: &Policy) {
    for group in 0..2_u8 {
        let members = (0..3_u8).filter(|user| policy.groups_of[usize::from(*user)] & (1 << group) != 0);
        world.put_members(group_id(group), members.map(|user| member(group, user)).collect());
        let mut grants: Vec<Grant> = Vec::new();
        for server in 0..2_u8 {
            let (g, s) = (usize::from(group), usize::from(server));
            for (verdict, bits) in [(Verdict::Allow, policy.allow[g][s]), (Verdict::Deny, policy.deny[g][s])]
            {
                if bits != 0 {
                    grants.push(grant(grants.len() as u8, group, server, verdict, rights(bits)));
                }
            }
        }
        world.put_grants(group_id(group), grants);
    }
}

/// Compares the lists and the calls of everybody everywhere with the oracle.
fn check(world: &World, policy: &Policy) {
    let tools = [(0, "r", 1), (0, "w", 2), (0, "x", 4), (1, "r", 1), (1, "w", 2), (1, "x", 4)];
    for number in 0..3_u8 {
        for endpoint in ENDPOINTS {
            let mut expected = Vec::new();
            for (server, tool, right) in tools {
                let name = match endpoint {
                    Endpoint::Server(id) if id == server_id(server) => tool.to_owned(),
                    Endpoint::Server(_) => continue,
                    Endpoint::All | Endpoint::Group(_) => format!("server{server}__{tool}"),
                };
                let answer = oracle(policy, usize::from(number), endpoint, usize::from(server), right);
                let call = decide::call(world, person(number), endpoint, &name, NOW);
                assert_eq!(call.is_ok(), answer, "{name} at {endpoint:?} for user{number}: {policy:?}");
                if answer {
                    expected.push(name);
                }
            }
            let listed = decide::visible(world, person(number), endpoint, NOW);
            let listed: Vec<String> = listed.into_iter().map(|(name, _)| name).collect();
            assert_eq!(listed, expected, "{endpoint:?} for user{number}: {policy:?}");
        }
    }
}

fn check_all(memberships: u8) {
    let mut world = start();
    for number in 0..POLICIES {
        let policy = policy(number, memberships);
        put(&mut world, &policy);
        check(&world, &policy);
    }
}

#[test]
fn the_second_server_has_every_policy_too() {
    let mut seen = vec![false; usize::from(POLICIES)];
    for number in 0..POLICIES {
        let policy = policy(number, 0);
        let digits = [policy.allow[0][1], policy.allow[1][1], policy.deny[0][1], policy.deny[1][1]];
        seen[digits.iter().rev().fold(0, |all, digit| all * 8 + usize::from(*digit))] = true;
    }
    assert!(seen.iter().all(|seen| *seen));
}

#[test]
fn every_policy_decides_as_the_design_says_first_quarter() {
    check_all(0);
}

#[test]
fn every_policy_decides_as_the_design_says_second_quarter() {
    check_all(1);
}

#[test]
fn every_policy_decides_as_the_design_says_third_quarter() {
    check_all(2);
}

#[test]
fn every_policy_decides_as_the_design_says_last_quarter() {
    check_all(3);
}
