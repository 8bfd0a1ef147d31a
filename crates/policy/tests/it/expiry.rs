//! Everything that ends, ends at its time and not a microsecond later.

use mcphub_domain::audit::Refusal;
use mcphub_domain::group::{Standing, Verdict};
use mcphub_domain::{Effect, Grant, HubKey, Membership, Rights, Role, Timestamp};
use mcphub_policy::{Administration, Endpoint, World, decide};

use crate::build::{NOW, at, grant, group, group_id, key, member, person, server, server_id, tool, user};

/// Builds a world in which the key, the membership or the grant of the one who calls ends at `NOW`.
fn world(key_ends: Timestamp, membership_ends: Option<Timestamp>, grant_ends: Option<Timestamp>) -> World {
    let mut world = World::default();
    world.put_user(user(0, Role::Manager));
    world.put_key(HubKey { expires_at: key_ends, ..key(0) });
    world.put_group(group(0));
    let membership = Membership { standing: Standing::Manager, expires_at: membership_ends, ..member(0, 0) };
    world.put_members(group_id(0), vec![membership]);
    let allow = Grant { expires_at: grant_ends, ..grant(0, 0, 0, Verdict::Allow, Rights::ALL) };
    world.put_grants(group_id(0), vec![allow]);
    world.put_server(server(0));
    world.put_tools(server_id(0), vec![tool(0, "look", Effect::Read)]);
    world
}

fn call(world: &World, endpoint: Endpoint, name: &str, now: Timestamp) -> Option<Refusal> {
    decide::call(world, person(0), endpoint, name, now).err().map(|denial| denial.reason())
}

/// Tries every endpoint one microsecond before `NOW`, at `NOW`, and after.
fn check(world: &World, refusals: [Refusal; 3]) {
    let places = [
        (Endpoint::All, "server0__look"),
        (Endpoint::Group(group_id(0)), "server0__look"),
        (Endpoint::Server(server_id(0)), "look"),
    ];
    for ((endpoint, name), refusal) in places.into_iter().zip(refusals) {
        assert_eq!(call(world, endpoint, name, at(-1)), None, "{endpoint:?}");
        assert_eq!(decide::still_open(world, person(0), endpoint, at(-1)), Ok(()));
        assert_eq!(decide::visible(world, person(0), endpoint, at(-1)).len(), 1);
        for now in [NOW, at(1)] {
            assert_eq!(call(world, endpoint, name, now), Some(refusal), "{endpoint:?}");
            assert!(decide::visible(world, person(0), endpoint, now).is_empty());
        }
        let closes = refusal != Refusal::NotGranted;
        assert_eq!(decide::still_open(world, person(0), endpoint, NOW).is_err(), closes, "{endpoint:?}");
    }
}

#[test]
fn a_key_ends_at_its_time() {
    check(&world(NOW, None, None), [Refusal::ExpiredKey; 3]);
}

#[test]
fn a_membership_ends_at_its_time() {
    let refusals = [Refusal::NotGranted, Refusal::UnknownEndpoint, Refusal::UnknownEndpoint];
    check(&world(at(9), Some(NOW), None), refusals);
}

#[test]
fn a_grant_ends_at_its_time() {
    let refusals = [Refusal::NotGranted, Refusal::NotGranted, Refusal::UnknownEndpoint];
    check(&world(at(9), None, Some(NOW)), refusals);
}

#[test]
fn a_denying_grant_ends_at_its_time_too() {
    let mut world = world(at(9), None, None);
    let deny = Grant { expires_at: Some(NOW), ..grant(1, 0, 0, Verdict::Deny, Rights::ALL) };
    world.put_grants(group_id(0), vec![grant(0, 0, 0, Verdict::Allow, Rights::ALL), deny]);
    assert_eq!(call(&world, Endpoint::All, "server0__look", at(-1)), Some(Refusal::Denied));
    assert_eq!(call(&world, Endpoint::All, "server0__look", NOW), None);
}

#[test]
fn running_a_group_ends_with_the_membership_and_granting_with_the_grant() {
    let may = |world: &World, action, now| decide::administration(world, person(0), action, now).is_ok();
    let (run, give) =
        (Administration::RunGroup(group_id(0)), Administration::Grant(group_id(0), server_id(0)));
    let leaving = world(at(9), Some(NOW), None);
    assert!(may(&leaving, run, at(-1)) && may(&leaving, give, at(-1)));
    assert!(!may(&leaving, run, NOW) && !may(&leaving, give, NOW));
    let losing = world(at(9), None, Some(NOW));
    assert!(may(&losing, give, at(-1)));
    assert!(!may(&losing, give, NOW) && may(&losing, run, NOW));
}
