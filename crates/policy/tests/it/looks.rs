//! Whose values go along when a server is asked what tools it has.

use mcphub_domain::audit::Refusal;
use mcphub_domain::group::Verdict;
use mcphub_domain::server::ServerState;
use mcphub_domain::user::UserState;
use mcphub_domain::{Principal, Rights, Role, Server, User};
use mcphub_policy::{Endpoint, World, decide};

use crate::build::{NOW, grant, group, group_id, key, member, person, server, server_id, user, user_id};

/// Builds a world in which person 0 may do everything on server 0.
fn world() -> World {
    let mut world = World::default();
    world.put_user(user(0, Role::User));
    world.put_key(key(0));
    world.put_group(group(0));
    world.put_members(group_id(0), vec![member(0, 0)]);
    world.put_grants(group_id(0), vec![grant(0, 0, 0, Verdict::Allow, Rights::ALL)]);
    world.put_server(server(0));
    world
}

#[test]
fn a_server_is_looked_at_with_the_values_of_those_alone_who_may_call_it() {
    let look = |world: &World, who| decide::look(world, Principal::Hub, server_id(0), who, NOW);
    let permit = look(&world(), Some(user_id(0))).unwrap();
    assert_eq!(
        (permit.user(), permit.server(), permit.server_revision()),
        (Some(user_id(0)), server_id(0), 1)
    );
    assert_eq!(look(&world(), None).unwrap().user(), None);
    assert!(look(&world(), Some(user_id(9))).is_err(), "nobody");
    let (mut viewer, mut disabled, mut off, mut ungranted) = (world(), world(), world(), world());
    viewer.put_user(user(0, Role::Viewer));
    disabled.put_user(User { state: UserState::Disabled, ..user(0, Role::User) });
    off.put_server(Server { state: ServerState::Disabled, ..server(0) });
    ungranted.put_grants(group_id(0), Vec::new());
    for world in [&viewer, &disabled, &off, &ungranted] {
        assert!(look(world, Some(user_id(0))).is_err());
        assert!(decide::reachable(world, person(0), Endpoint::All, NOW).is_empty());
    }
    let by_herself = decide::look(&world(), person(0), server_id(0), None, NOW);
    assert_eq!(by_herself.unwrap_err().reason(), Refusal::Role);
}
