//! Who may read the prompts and resources of a server.

use mcphub_domain::audit::Refusal;
use mcphub_domain::group::Verdict;
use mcphub_domain::server::ServerState;
use mcphub_domain::user::UserState;
use mcphub_domain::{Grant, Principal, Right, Rights, Role, Server, User};
use mcphub_policy::{Endpoint, World, decide};

use crate::build::{NOW, at, grant, group, group_id, key, member, person, server, server_id, user, user_id};

const HERE: [Endpoint; 3] = [Endpoint::All, Endpoint::Group(group_id(0)), Endpoint::Server(server_id(0))];

/// Is a name, the grants of the two groups, and what they come to.
type Case = (&'static str, [Vec<Grant>; 2], Result<(), Refusal>);

fn rights(rights: &[Right]) -> Rights {
    rights.to_vec().into()
}

/// Builds a world in which person 0 is in the groups 0 and 1, with these grants on server 0.
fn world(grants: [Vec<Grant>; 2]) -> World {
    let mut world = World::default();
    world.put_user(user(0, Role::User));
    world.put_key(key(0));
    for (number, grants) in (0..).zip(grants) {
        world.put_group(group(number));
        world.put_members(group_id(number), vec![member(number, 0)]);
        world.put_grants(group_id(number), grants);
    }
    world.put_server(server(0));
    world.put_server(server(1));
    world
}

fn allow(given: &[Right]) -> Grant {
    grant(0, 0, 0, Verdict::Allow, rights(given))
}

fn ask(world: &World, endpoint: Endpoint) -> Result<(), Refusal> {
    decide::ask(world, person(0), endpoint, server_id(0), NOW).map(|_| ()).map_err(|denial| denial.reason())
}

#[test]
fn the_right_to_read_all_of_a_server_opens_what_it_offers_and_says_for_whom() {
    let world = world([vec![allow(&[Right::Read])], Vec::new()]);
    for endpoint in HERE {
        let permit = decide::ask(&world, person(0), endpoint, server_id(0), NOW).unwrap();
        assert_eq!((permit.user(), permit.server(), permit.endpoint()), (user_id(0), server_id(0), endpoint));
        assert_eq!((permit.principal(), permit.server_revision()), (person(0), 1));
        assert_eq!(decide::readable(&world, person(0), endpoint, NOW), [server_id(0)]);
        assert!(decide::ask(&world, person(0), endpoint, server_id(1), NOW).is_err(), "another server");
        assert!(decide::ask(&world, person(0), endpoint, server_id(9), NOW).is_err(), "no server");
    }
    for nobody in [Principal::Operator, Principal::Hub, person(9)] {
        assert!(decide::ask(&world, nobody, Endpoint::All, server_id(0), NOW).is_err());
    }
}

#[test]
fn nothing_less_does() {
    let narrowed = Grant { tools: vec!["get_*".parse().unwrap()], ..allow(&[Right::Read]) };
    let ended = Grant { expires_at: Some(NOW), ..allow(&[Right::Read]) };
    let deny = |given: &[Right]| Grant { verdict: Verdict::Deny, group: group_id(1), ..allow(given) };
    let barred_tools = Grant { tools: vec!["*".parse().unwrap()], ..deny(&[Right::Read]) };
    let table: [Case; 7] = [
        ("other rights", [vec![allow(&[Right::Write, Right::Execute])], vec![]], Err(Refusal::NotGranted)),
        ("certain tools", [vec![narrowed], vec![]], Err(Refusal::NotGranted)),
        ("a grant that ended", [vec![ended.clone()], vec![]], Err(Refusal::NotGranted)),
        (
            "another group's no",
            [vec![allow(&[Right::Read])], vec![deny(&[Right::Read])]],
            Err(Refusal::Denied),
        ),
        ("a no to other rights", [vec![allow(&[Right::Read])], vec![deny(&[Right::Write])]], Ok(())),
        ("a no to tools", [vec![allow(&[Right::Read])], vec![barred_tools]], Ok(())),
        ("a grant that lives", [vec![Grant { expires_at: Some(at(1)), ..ended }], vec![]], Ok(())),
    ];
    for (why, grants, expected) in table {
        let world = world(grants);
        for endpoint in [Endpoint::All, Endpoint::Group(group_id(0))] {
            assert_eq!(ask(&world, endpoint), expected, "{why} at {endpoint:?}");
            assert_eq!(
                decide::readable(&world, person(0), endpoint, NOW).len(),
                usize::from(expected.is_ok())
            );
        }
        assert_eq!(ask(&world, Endpoint::Server(server_id(0))).is_ok(), expected.is_ok(), "{why}");
    }
}

#[test]
fn nobody_reads_who_calls_nothing_and_nothing_is_read_that_is_off() {
    let granted = || world([vec![allow(&[Right::Read])], Vec::new()]);
    let (mut viewer, mut disabled, mut off, mut left) = (granted(), granted(), granted(), granted());
    viewer.put_user(user(0, Role::Viewer));
    disabled.put_user(User { state: UserState::Disabled, ..user(0, Role::User) });
    off.put_server(Server { state: ServerState::Disabled, ..server(0) });
    left.put_members(group_id(0), Vec::new());
    for (world, reason) in [
        (viewer, Refusal::Role),
        (disabled, Refusal::DisabledUser),
        (off, Refusal::DisabledServer),
        (left, Refusal::NotGranted),
    ] {
        assert_eq!(ask(&world, Endpoint::All), Err(reason));
        assert!(decide::readable(&world, person(0), Endpoint::All, NOW).is_empty());
    }
}

#[test]
fn a_shared_name_says_whose_it_is_and_on_a_servers_own_endpoint_nothing_has_to() {
    let world = world([Vec::new(), Vec::new()]);
    let name = server(0).name;
    let owner = |endpoint, server| decide::owner(&world, endpoint, server);
    for endpoint in [Endpoint::All, Endpoint::Group(group_id(0))] {
        assert_eq!(owner(endpoint, Some(name.as_str())), Some(server_id(0)));
        assert_eq!(owner(endpoint, Some("nobody")), None);
        assert_eq!(owner(endpoint, None), None);
    }
    assert_eq!(owner(Endpoint::Server(server_id(0)), None), Some(server_id(0)));
}
