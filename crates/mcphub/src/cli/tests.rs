//! What can be said on the command line.

use clap::{CommandFactory, Parser};

use super::Cli;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = line.split(' ').map(|word| word.trim_matches('\''));
    Cli::try_parse_from(std::iter::once("mcphub").chain(words))
}

#[test]
fn the_commands_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_documented_lines_can_be_said() {
    let lines = "\
        user add alice --role user\n user add bob --role manager --email bob@example.org\n user list\n\
        user show alice\n user disable alice\n user enable alice\n user update alice --role admin --auditor yes\n\
        group add devs\n group list\n group join devs alice\n group join devs alice --manager --expires 12h\n\
        group leave devs alice\n group remove devs\n\
        server import servers.json\n server import -\n server list\n server show github\n server test github\n\
        server logs github\n server logs github --lines 5\n server enable github\n server disable github\n\
        server remove github\n server add web --url https://example.org/mcp --header 'X-Token:1'\n\
        server add files --env TOKEN=${USER_TOKEN} --isolation person -- npx -y files@1 --flag\n\
        server add files --sandbox off -- npx\n\
        server add files --sandbox {\"read\":[\"/srv\"],\"hosts\":[]} -- npx\n\
        grant add devs github --rights read,write,execute\n\
        grant add devs github --rights read,write,execute --tools 'get_*' --tools list_x --expires 30d\n\
        grant add devs github --rights execute --deny\n grant list\n grant list devs\n\
        grant remove 6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e\n\
        credential set alice github GITHUB_TOKEN\n credential list alice\n credential list alice github\n\
        credential confirm alice github\n credential remove alice github GITHUB_TOKEN\n\
        shared set github SITE\n\
        key create alice --name laptop --json\n key create alice --name laptop --days 90\n key list alice\n\
        key revoke 6b1f0c9e-3c1d-4c55-9d8e-0a5f6b7c8d9e\n\
        tool list github\n tool effect github get_me read\n tool approve github get_me\n\
        tool disable github get_me\n\
        audit verify\n audit list\n audit list --person alice --json\n\
        audit list --server github --tool get_me --outcome ok --from 2h --to 2026-11-22T10:00:00Z --limit 5\n\
        serve\n serve --listen 127.0.0.1:3000\n serve --listen 0.0.0.0:80 --behind-proxy --config mcphub.toml\n\
        connect --stdio\n connect --stdio --name devs --url https://mcp.example.org\n\
        demo\n demo --listen 127.0.0.1:0\n demo-server\n demo-server --http 127.0.0.1:0\n openapi\n\
        vault status\n vault status --json\n vault rotate\n vault rotate --abandon\n vault retire\n\
        backup --recipient age1dy7ktrvx46yrhektwn2ejgexm8zyfg2lfrth2a60f84tdhsjs36sflxgjc --output hub.age\n\
        backup --recipient age1dy7ktrvx46yrhektwn2ejgexm8zyfg2lfrth2a60f84tdhsjs36sflxgjc --output - --json\n\
        restore hub.age --identity key.txt\n restore - --identity key.txt --accept-rollback\n\
        database prepare --admin-url postgres://admin@db/ --name hub --role-prefix hub\n\
        database prepare --admin-url-file admin.url\n database prepare --admin-url-file -";
    for line in lines.lines().map(str::trim) {
        for line in [line.to_owned(), format!("--data-dir D {line}")] {
            parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}

#[test]
fn what_cannot_be_is_a_usage_error() {
    let lines = [
        "",
        "user add Alice",
        "user add alice --role root",
        "user update alice",
        "group add my",
        "grant add devs github",
        "grant add devs github --rights fly",
        "grant add devs github --rights read --expires 30",
        "credential set alice github lower",
        "key create alice",
        "key create alice --name x --days 0",
        "key create alice --name x --days 91",
        "key revoke 1",
        "server add x",
        "server add x --url https://a -- npx",
        "server add x --header A:b -- npx",
        "tool effect github get_me fly",
        "connect",
        "connect --url https://mcp.example.org",
        "connect --stdio --name Devs",
        "connect --stdio --url mcp.example.org",
        "database prepare",
        "backup --output hub.age",
        "backup --recipient alice --output hub.age",
        "restore hub.age",
        "database prepare --admin-url postgres://admin@db/ --admin-url-file admin.url",
        "audit list --limit 0",
        "audit list --from yesterday",
    ];
    for line in lines {
        assert_eq!(parse(line).map(|_| ()).map_err(|error| error.exit_code()), Err(2), "{line}");
    }
}
