//! Names on shared endpoints, and whose a path is.

use mcphub_domain::audit::Refusal;
use mcphub_domain::group::Verdict;
use mcphub_domain::tool::shared_name;
use mcphub_domain::{Effect, Rights, Role, ServerId, Tool, ToolState};
use mcphub_policy::{Endpoint, World, decide};

use crate::build::{NOW, grant, group, group_id, key, member, person, server, server_id, tool, user};

/// Builds a world in which person 0 may do everything on server 0, which has these tools.
fn world(tools: Vec<Tool>) -> World {
    let mut world = World::default();
    world.put_user(user(0, Role::User));
    world.put_key(key(0));
    world.put_group(group(0));
    world.put_members(group_id(0), vec![member(0, 0)]);
    world.put_grants(group_id(0), vec![grant(0, 0, 0, Verdict::Allow, Rights::ALL)]);
    world.put_server(server(0));
    world.put_tools(server_id(0), tools);
    world
}

fn called(world: &World, endpoint: Endpoint, name: &str) -> Result<String, Refusal> {
    let permit = decide::call(world, person(0), endpoint, name, NOW);
    permit.map(|permit| permit.route().tool.to_string()).map_err(|denial| denial.reason())
}

#[test]
fn a_long_name_is_called_by_its_short_form_on_shared_endpoints_alone() {
    let long = format!("search_{}", "x".repeat(90));
    let world = world(vec![tool(0, &long, Effect::Read), tool(0, &format!("{long}y"), Effect::Read)]);
    let short = shared_name(&server(0).name, &long);
    assert_eq!(short.len(), 56);
    for endpoint in [Endpoint::All, Endpoint::Group(group_id(0))] {
        assert_eq!(called(&world, endpoint, &short), Ok(long.clone()));
        let whole = format!("server0__{long}");
        assert_eq!(called(&world, endpoint, &whole), Err(Refusal::UnknownTool), "the whole name is no name");
    }
    assert_eq!(called(&world, Endpoint::Server(server_id(0)), &long), Ok(long));
    assert_eq!(called(&world, Endpoint::Server(server_id(0)), &short), Err(Refusal::UnknownTool));
}

#[test]
fn the_first_separator_splits() {
    let world = world(vec![tool(0, "_a__b", Effect::Read)]);
    assert_eq!(called(&world, Endpoint::All, "server0___a__b"), Ok("_a__b".to_owned()));
}

#[test]
fn a_tool_that_takes_anothers_short_name_is_never_listed_for_it() {
    let long = format!("get_{}", "a".repeat(60));
    let short = shared_name(&server(0).name, &long);
    let twin = short.strip_prefix("server0__").unwrap();
    let world = world(vec![tool(0, &long, Effect::Read), tool(0, twin, Effect::Read)]);
    let listed = decide::visible(&world, person(0), Endpoint::All, NOW);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].0, short);
    assert_eq!(called(&world, Endpoint::All, &short), Ok(listed[0].1.tool.to_string()));
}

#[test]
fn tools_are_listed_as_their_server_orders_them() {
    let place = |name, position| Tool { position, ..tool(0, name, Effect::Read) };
    let world = world(vec![place("b", 0), place("c", 1), place("a", 2)]);
    let listed = decide::visible(&world, person(0), Endpoint::Server(server_id(0)), NOW);
    assert_eq!(listed.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "c", "a"]);
}

#[test]
fn a_pending_tool_is_hidden_and_refused() {
    let pending = Tool { state: ToolState::Pending, ..tool(0, "new", Effect::Read) };
    let world = world(vec![pending]);
    assert!(decide::visible(&world, person(0), Endpoint::All, NOW).is_empty());
    assert_eq!(called(&world, Endpoint::All, "server0__new"), Err(Refusal::PendingTool));
}

#[test]
fn what_was_refused_is_named_for_the_log_as_far_as_it_is_known() {
    let pending = Tool { state: ToolState::Pending, ..tool(0, "new", Effect::Read) };
    let world = world(vec![pending]);
    let meant = |endpoint, name| {
        let event =
            decide::call(&world, person(0), endpoint, name, NOW).unwrap_err().into_event("tools/call");
        (event.server(), event.tool().map(ToString::to_string))
    };
    let (own, new) = (Endpoint::Server(server_id(0)), Some("new".to_owned()));
    assert_eq!(meant(Endpoint::All, "server0__new"), (Some(server_id(0)), new.clone()));
    assert_eq!(meant(own, "new"), (Some(server_id(0)), new));
    assert_eq!(meant(own, "nothing"), (Some(server_id(0)), None));
    assert_eq!(meant(Endpoint::All, "server0__nothing"), (Some(server_id(0)), None));
    assert_eq!(meant(Endpoint::All, "nobody__new"), (None, None));
}

#[test]
fn deny_beats_allow_at_every_endpoint_whoever_denies() {
    let mut world = world(vec![tool(0, "drop_all", Effect::Execute), tool(0, "look", Effect::Read)]);
    let mut deny = grant(1, 1, 0, Verdict::Deny, Rights::ALL);
    deny.tools = vec!["drop_*".parse().unwrap()];
    world.put_group(group(1));
    world.put_members(group_id(1), vec![member(1, 0)]);
    world.put_grants(group_id(1), vec![deny]);
    for endpoint in [Endpoint::All, Endpoint::Group(group_id(0))] {
        assert_eq!(called(&world, endpoint, "server0__drop_all"), Err(Refusal::Denied));
        assert_eq!(called(&world, endpoint, "server0__look"), Ok("look".to_owned()));
    }
    assert_eq!(called(&world, Endpoint::Server(server_id(0)), "drop_all"), Err(Refusal::Denied));
}

#[test]
fn an_unknown_path_and_a_foreign_one_are_denied_alike() {
    let mut world = world(Vec::new());
    world.put_group(group(1));
    world.put_server(server(1));
    let ask = |name| decide::endpoint(&world, person(0), name, NOW).map_err(|denial| denial.reason());
    assert_eq!(ask(None), Ok(Endpoint::All));
    assert_eq!(ask(Some("group0")), Ok(Endpoint::Group(group_id(0))));
    assert_eq!(ask(Some("server0")), Ok(Endpoint::Server(server_id(0))));
    for name in ["nothing", "group1", "server1", "my", "", "GROUP0"] {
        assert_eq!(ask(Some(name)), Err(Refusal::UnknownEndpoint), "{name}");
    }
}

#[test]
fn a_name_passes_on_in_one_change_whatever_its_order() {
    let mut world = world(Vec::new());
    let mut heir = server(7);
    heir.name = "group0".parse().unwrap();
    world.put_server(heir);
    world.remove_group(group_id(0));
    assert_eq!(world.path("group0"), Some(Endpoint::Server(server_id(7))));
    let mut heir = server(8);
    heir.name = "server0".parse().unwrap();
    world.put_server(heir);
    world.remove_server(server_id(0));
    assert_eq!(world.server_named("server0").map(|entry| entry.server().id), Some(server_id(8)));
}

#[test]
fn a_renamed_server_answers_to_its_new_name_alone() {
    let mut world = world(vec![tool(0, "look", Effect::Read)]);
    let mut renamed = server(0);
    renamed.name = "other".parse().unwrap();
    world.put_server(renamed);
    assert_eq!(called(&world, Endpoint::All, "other__look"), Ok("look".to_owned()));
    assert_eq!(called(&world, Endpoint::All, "server0__look"), Err(Refusal::UnknownTool));
}

#[test]
fn only_servers_with_a_live_allowing_grant_are_reachable() {
    let mut world = world(Vec::new());
    (1..4).for_each(|number| world.put_server(server(number)));
    let denied = grant(1, 0, 1, Verdict::Deny, Rights::ALL);
    let ended = mcphub_domain::Grant { expires_at: Some(NOW), ..grant(2, 0, 2, Verdict::Allow, Rights::ALL) };
    let fine = grant(0, 0, 0, Verdict::Allow, Rights::ALL);
    let other = grant(3, 0, 3, Verdict::Allow, Rights::ALL);
    world.put_grants(group_id(0), vec![fine, denied, ended, other]);
    let mut off = server(3);
    off.state = mcphub_domain::server::ServerState::Disabled;
    world.put_server(off);
    let reach = |endpoint| -> Vec<ServerId> { decide::reachable(&world, person(0), endpoint, NOW) };
    assert_eq!(reach(Endpoint::All), [server_id(0)]);
    assert_eq!(reach(Endpoint::Group(group_id(0))), [server_id(0)]);
    assert_eq!(reach(Endpoint::Server(server_id(0))), [server_id(0)]);
    assert!(reach(Endpoint::Server(server_id(1))).is_empty());
}
