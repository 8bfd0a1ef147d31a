//! Who may administrate what: the table that a change of the rules has to change.

use mcphub_domain::group::{Author, Standing, Verdict};
use mcphub_domain::user::{Auditor, UserState};
use mcphub_domain::{Effect, Grant, HubKey, Membership, Principal, Rights, Role, User};
use mcphub_policy::{Administration, Endpoint, World, decide};

use crate::build::{
    NOW, at, grant, group, group_id, key, member, person, server, server_id, tool, user, user_id,
};

/// `x` is a yes. An admin granted group 0 something on server 0, a manager on server 2, nobody
/// on server 1. `member` has the
/// role of a manager and is a plain member of group 0; `manager` manages group 0 and is in no other;
/// `stand-in` manages group 0 without the role. `auditor` is a user with that right; `disabled` and
/// `revoked` (her key is) are admins, managers of group 0 and auditors.
const TABLE: &str = "
    action                 viewer user member manager stand-in admin auditor disabled revoked operator hub
    read directory         x      .    x      x       .        x     .       .        .       x        .
    read audit             .      .    .      .       .        .     x       .        .       x        .
    manage users           .      .    .      .       .        x     .       .        .       x        .
    manage groups          .      .    .      .       .        x     .       .        .       x        .
    manage servers         .      .    .      .       .        x     .       .        .       x        x
    run own group          .      .    .      x       .        x     .       .        .       x        .
    run other group        .      .    .      .       .        x     .       .        .       x        .
    grant own server       .      .    .      x       .        x     .       .        .       x        .
    grant other server     .      .    .      .       .        x     .       .        .       x        .
    grant for other group  .      .    .      .       .        x     .       .        .       x        .
    grant manager's server .      .    .      .       .        x     .       .        .       x        .
    remove manager's grant .      .    .      x       .        x     .       .        .       x        .
    remove admin's grant   .      .    .      .       .        x     .       .        .       x        .
    remove other's grant   .      .    .      .       .        x     .       .        .       x        .
    own credentials        x      x    x      x       x        x     x       .        .       x        .
    other's credentials    .      .    .      .       .        .     .       .        .       x        .
    confirm own values     x      x    x      x       x        x     x       .        .       .        .
    confirm other's values .      .    .      .       .        .     .       .        .       .        .
    renew own account      .      .    .      .       .        .     .       .        .       .        x
    create own key         x      x    x      x       x        x     x       .        .       x        .
    create other's key     .      .    .      .       .        .     .       .        .       x        .
    revoke own key         x      x    x      x       x        x     x       .        .       x        .
    revoke other's key     .      .    .      .       .        x     .       .        .       x        .
    keep custody           .      .    .      .       .        .     .       .        .       x        .
";

const WHO: [&str; 11] = [
    "viewer", "user", "member", "manager", "stand-in", "admin", "auditor", "disabled", "revoked", "operator",
    "hub",
];

/// The person that all the "other's" are about.
const OTHER: u8 = 50;

fn principal(number: u8) -> Principal {
    match number {
        9 => Principal::Operator,
        10 => Principal::Hub,
        _ => person(number),
    }
}

fn world() -> World {
    let mut world = World::default();
    let roles = [
        Role::Viewer,
        Role::User,
        Role::Manager,
        Role::Manager,
        Role::User,
        Role::Admin,
        Role::User,
        Role::Admin,
        Role::Admin,
    ];
    for (number, role) in (0..9).zip(roles) {
        let auditor = if number >= 6 { Auditor::Yes } else { Auditor::No };
        let state = if number == 7 { UserState::Disabled } else { UserState::Active };
        world.put_user(User { auditor, state, ..user(number, role) });
        world.put_key(HubKey { revoked_at: (number == 8).then_some(at(-1)), ..key(number) });
    }
    world.put_user(user(OTHER, Role::User));
    (0..2).for_each(|number| world.put_group(group(number)));
    (0..3).for_each(|number| world.put_server(server(number)));
    world.put_tools(server_id(0), vec![tool(0, "look", Effect::Read)]);
    let manages = |user| Membership { standing: Standing::Manager, ..member(0, user) };
    world.put_members(group_id(0), vec![member(0, 2), manages(3), manages(4), manages(7), manages(8)]);
    let by_manager = Grant { author: Author::Manager, ..grant(2, 0, 2, Verdict::Allow, Rights::ALL) };
    world.put_grants(group_id(0), vec![grant(0, 0, 0, Verdict::Allow, Rights::ALL), by_manager]);
    world.put_grants(group_id(1), vec![grant(1, 1, 0, Verdict::Allow, Rights::ALL)]);
    world
}

/// Lists the rows. The match below has no arm for "anything else", so that a new action can't be
/// forgotten here.
fn actions(own: u8) -> Vec<(&'static str, Administration)> {
    let (own, other) = (user_id(own), user_id(OTHER));
    let rows = vec![
        ("read directory", Administration::ReadDirectory),
        ("read audit", Administration::ReadAudit),
        ("manage users", Administration::ManageUsers),
        ("manage groups", Administration::ManageGroups),
        ("manage servers", Administration::ManageServers),
        ("run own group", Administration::RunGroup(group_id(0))),
        ("run other group", Administration::RunGroup(group_id(1))),
        ("grant own server", Administration::Grant(group_id(0), server_id(0))),
        ("grant other server", Administration::Grant(group_id(0), server_id(1))),
        ("grant for other group", Administration::Grant(group_id(1), server_id(0))),
        ("grant manager's server", Administration::Grant(group_id(0), server_id(2))),
        ("remove manager's grant", Administration::RemoveGrant(group_id(0), Author::Manager)),
        ("remove admin's grant", Administration::RemoveGrant(group_id(0), Author::Admin)),
        ("remove other's grant", Administration::RemoveGrant(group_id(1), Author::Manager)),
        ("own credentials", Administration::Credentials(own)),
        ("other's credentials", Administration::Credentials(other)),
        ("confirm own values", Administration::ConfirmCredentials(own)),
        ("confirm other's values", Administration::ConfirmCredentials(other)),
        ("renew own account", Administration::RenewAccount(own)),
        ("create own key", Administration::CreateKey(own)),
        ("create other's key", Administration::CreateKey(other)),
        ("revoke own key", Administration::RevokeKey(own)),
        ("revoke other's key", Administration::RevokeKey(other)),
        ("keep custody", Administration::KeepCustody),
    ];
    for (_, action) in &rows {
        match action {
            Administration::ReadDirectory
            | Administration::ReadAudit
            | Administration::ManageUsers
            | Administration::ManageGroups
            | Administration::ManageServers
            | Administration::RunGroup(_)
            | Administration::Grant(..)
            | Administration::RemoveGrant(..)
            | Administration::Credentials(_)
            | Administration::ConfirmCredentials(_)
            | Administration::RenewAccount(_)
            | Administration::CreateKey(_)
            | Administration::RevokeKey(_)
            | Administration::KeepCustody => {}
        }
    }
    rows
}

fn decided() -> String {
    let world = world();
    let mut table = format!("\n    {:<23}{}\n", "action", WHO.join(" "));
    for (row, (name, _)) in actions(0).into_iter().enumerate() {
        let cells: Vec<String> = (0..11)
            .map(|number| {
                let action = actions(number)[row].1;
                let permit = decide::administration(&world, principal(number), action, NOW);
                if let Ok(permit) = &permit {
                    assert_eq!((permit.principal(), permit.action()), (principal(number), action));
                }
                let mark = if permit.is_ok() { "x" } else { "." };
                format!("{mark:<width$}", width = WHO[usize::from(number)].len())
            })
            .collect();
        table.push_str(&format!("    {name:<23}{}\n", cells.join(" ").trim_end()));
    }
    table
}

#[test]
fn administration_is_what_the_table_says() {
    assert_eq!(decided(), TABLE, "{}", decided());
}

#[test]
fn a_grant_is_made_as_what_its_maker_is() {
    let world = world();
    let author = |number| decide::author(&world, principal(number));
    assert_eq!([5, 9, 10].map(author), [Author::Admin; 3]);
    assert_eq!([1, 3, OTHER, 200].map(author), [Author::Manager; 4]);
}

#[test]
fn neither_the_operator_nor_the_hub_can_call() {
    let world = world();
    for principal in [Principal::Operator, Principal::Hub] {
        let places = [
            (Endpoint::All, "server0__look"),
            (Endpoint::Group(group_id(0)), "server0__look"),
            (Endpoint::Server(server_id(0)), "look"),
        ];
        for (endpoint, name) in places {
            assert!(decide::call(&world, principal, endpoint, name, NOW).is_err());
            assert!(decide::visible(&world, principal, endpoint, NOW).is_empty());
            assert!(decide::still_open(&world, principal, endpoint, NOW).is_err());
            assert!(decide::reachable(&world, principal, endpoint, NOW).is_empty());
        }
        assert!(decide::endpoint(&world, principal, None, NOW).is_err());
    }
}

#[test]
fn who_is_disabled_or_revoked_is_nobody() {
    let world = world();
    let active = |number| decide::principal(&world, person(number), NOW).is_ok();
    assert_eq!([6, 7, 8].map(active), [true, false, false]);
}
