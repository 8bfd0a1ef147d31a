//! Everything that is measured, in turns, so that a disturbance meets all alike.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::crowd::Filler;
use crate::hub::{Hub, http_server, stdio_server};
use crate::load::{Outcome, Shot, fire};
use crate::report::{Figures, Report};
use crate::stage::{Actor, free_address};
use crate::{Failure, RunArguments, meter};

/// How many tools the servers of the list measurement have.
const LISTS: [usize; 3] = [10, 100, 1_000];

/// How many people share the open sessions.
const OWNERS: usize = 20;

/// Is somebody who is measured: a process, and the request that it is asked.
struct Contestant {
    name: &'static str,
    process: u32,
    shot: Shot,
}

impl Contestant {
    /// Is asked for a tool: directly, or through a hub by somebody with a key.
    fn new(name: &'static str, actor: &Actor, key: Option<&str>) -> Self {
        let path = if key.is_some() { "/mcp/echo" } else { "/mcp" };
        Self { name, process: actor.id(), shot: Shot::new(actor.address, path, key, "tools/call") }
    }
}

/// Measures everything, prints it, and writes the report.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let span = Duration::try_from_secs_f64(arguments.seconds)?;
    let echo = Actor::part("echo", &[])?;
    let nginx = arguments.nginx.as_deref();
    let nginx = nginx.map(|program| Actor::nginx(program, folder.path(), echo.address)).transpose()?;
    let upstream = echo.address.to_string();
    let floor = Actor::part("floor", &["--upstream", &upstream])?;
    let plain = arguments.plain.as_deref();
    let plain =
        plain.map(|program| Actor::part_of(program, "floor", free_address()?, &["--upstream", &upstream]));
    let plain = plain.transpose()?;
    let lists: Vec<(usize, Actor)> = LISTS
        .into_iter()
        .map(|tools| Ok((tools, Actor::part("echo", &["--tools", &tools.to_string()])?)))
        .collect::<Result<_, Failure>>()?;
    let mut servers = serde_json::Map::from_iter([
        ("echo".to_owned(), http_server(echo.address)),
        ("stdio".to_owned(), stdio_server()?),
    ]);
    servers.extend(lists.iter().map(|(tools, actor)| (format!("list-{tools}"), http_server(actor.address))));
    let servers = json!({ "mcpServers": servers });

    let sqlite = Hub::new(&arguments.mcphub, &folder.path().join("sqlite"), None, &servers)?;
    let (on_sqlite, ready) = sqlite.serve()?;
    let postgres = match arguments.postgres.as_deref() {
        Some(url) => {
            let hub = Hub::new(&arguments.mcphub, &folder.path().join("postgres"), Some(url), &servers)?;
            let (actor, _) = hub.serve()?;
            Some((hub, actor))
        }
        None => None,
    };

    let mut report = Report::new(meter::machine());
    report.note(format!("start to ready: {} ms", ready.as_millis()));
    report.note(format!("memory when idle: {} MB", meter::memory(on_sqlite.id())? / 1_000_000));

    let mut contestants = vec![Contestant::new("direct", &echo, None)];
    let beside = [("nginx", nginx.as_ref()), ("bare Rust proxy, plain build", plain.as_ref())];
    let beside = beside.into_iter().filter_map(|(name, actor)| Some(Contestant::new(name, actor?, None)));
    contestants.extend(beside);
    contestants.push(Contestant::new("bare Rust proxy", &floor, None));
    contestants.push(Contestant::new("hub, SQLite", &on_sqlite, Some(&sqlite.key)));
    contestants.extend(
        postgres.as_ref().map(|(hub, actor)| Contestant::new("hub, PostgreSQL", actor, Some(&hub.key))),
    );
    for one in &contestants {
        fire(&one.shot, 4, Duration::from_millis(500))?;
    }
    for &connections in &arguments.connections {
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); contestants.len()];
        for _ in 0..arguments.rounds {
            for (one, figures) in contestants.iter().zip(&mut rounds) {
                figures.push(measure(one, connections, span)?);
            }
        }
        let names = contestants.iter().map(|one| one.name);
        report.calls(
            &format!("{connections} connections"),
            names.zip(rounds.into_iter().map(Figures::median)).collect(),
        );
    }

    let key = Some(sqlite.key.as_str());
    let stdio = Contestant {
        name: "hub, SQLite",
        process: on_sqlite.id(),
        shot: Shot::new(on_sqlite.address, "/mcp/stdio", key, "tools/call"),
    };
    fire(&stdio.shot, 1, Duration::from_millis(500))?;
    for connections in [1, 64] {
        let title = format!("{connections} connections, a server over stdio");
        report.calls(&title, vec![(stdio.name, measure(&stdio, connections, span)?)]);
    }
    for (tools, _) in &lists {
        let shot = Shot::new(on_sqlite.address, &format!("/mcp/list-{tools}"), key, "tools/list");
        fire(&shot, 1, Duration::from_millis(500))?;
        let outcome = fire(&shot, 1, span)?;
        report.note(format!("tools/list of {tools} tools: p50 {:.2} ms", millis(outcome.p50)));
    }
    report.note(format!("memory after the load: {} MB", meter::memory(on_sqlite.id())? / 1_000_000));
    crowd(arguments, &folder.path().join("crowd"), (&echo, ready), &mut report)?;
    report.finish(arguments.report.as_deref())?;
    let hubs = [Some(on_sqlite), postgres.map(|(_, actor)| actor)];
    hubs.into_iter().flatten().chain([floor, echo]).try_for_each(Actor::stop)
}

/// Measures a hub with many people, servers and open sessions.
fn crowd(
    arguments: &RunArguments,
    folder: &Path,
    (echo, empty): (&Actor, Duration),
    report: &mut Report,
) -> Result<(), Failure> {
    let server = |number| (format!("server-{number}"), http_server(echo.address));
    let servers: serde_json::Map<_, _> = (0..arguments.servers).map(server).collect();
    let hub = Hub::new(&arguments.mcphub, folder, None, &json!({ "mcpServers": servers }))?;
    let (actor, _) = hub.serve()?;
    let filler = Filler { address: actor.address, key: hub.admin.clone() };
    let change = filler.add_people(arguments.people)?;
    let size = format!("{} people and {} servers", arguments.people, arguments.servers);
    report.note(format!("adding a person to {size}, recorded and taken up: p50 {:.2} ms", millis(change)));
    drop(actor);
    let (actor, ready) = hub.serve()?;
    report.note(format!(
        "start to ready with {size}: {} ms, {} ms of it for building their world",
        ready.as_millis(),
        ready.saturating_sub(empty).as_millis()
    ));
    let filler = Filler { address: actor.address, key: hub.admin.clone() };
    let owner = |number| hub.add_owner(&format!("owner-{number}"));
    let keys: Vec<String> = (0..OWNERS).map(owner).collect::<Result<_, _>>()?;
    let before = meter::memory(actor.id())?;
    let open = filler.open_sessions(&keys, arguments.sessions)?;
    report.note(format!(
        "memory with {size}: {} MB; with {} sessions and their streams open: {} MB",
        before / 1_000_000,
        open.len(),
        meter::memory(actor.id())? / 1_000_000
    ));
    drop(open);
    actor.stop()
}

fn measure(one: &Contestant, connections: usize, span: Duration) -> Result<Figures, Failure> {
    let before = meter::processor(one.process)?;
    let outcome = fire(&one.shot, connections, span)?;
    let used = meter::processor(one.process)?.saturating_sub(before);
    Ok(figures(outcome, used, meter::memory(one.process)?))
}

fn figures(outcome: Outcome, used: Duration, memory: u64) -> Figures {
    let calls = outcome.calls.max(1) as f64;
    Figures {
        rate: calls / outcome.took.as_secs_f64(),
        p50: outcome.p50,
        p99: outcome.p99,
        processor: used.as_secs_f64() * 1e6 / calls,
        memory,
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
