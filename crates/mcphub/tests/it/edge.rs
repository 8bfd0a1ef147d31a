//! What every request and response must keep to, before anybody's rights matter.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::client::{Answer, list, send};
use crate::harness::{Database, Installation, Serving};

/// Is the headers of a request.
type Lines<'a> = &'a [(&'a str, &'a str)];

fn hub() -> (Installation, Serving, String) {
    let installation = Installation::new(Database::Sqlite);
    installation.ok("user add admin --role admin");
    let key = installation.key("admin");
    let serving = installation.serve();
    (installation, serving, key)
}

fn get(serving: &Serving, path: &str, headers: Lines<'_>) -> Answer {
    send(serving.address, "GET", path, headers, "")
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// Searches the log as an auditor does, at the command line.
fn found(installation: &Installation, outcome: &str) -> usize {
    let records = installation.json(&format!("audit list --outcome {outcome}"));
    records.as_array().or_else(|| records["records"].as_array()).unwrap().len()
}

#[test]
fn a_key_made_a_moment_ago_opens_to_all_who_come_with_it_at_once() {
    let (installation, serving, _) = hub();
    for _ in 0..5 {
        let key = bearer(&installation.key("admin"));
        let ask = || get(&serving, "/api/v1/me", &[("Authorization", &key)]).status;
        let all: Vec<u16> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(all, [200; 16]);
    }
}

#[test]
fn every_response_is_hardened() {
    let (_installation, serving, key) = hub();
    let bearer = bearer(&key);
    let known: Lines<'_> = &[("Authorization", &bearer)];
    let table: [(&str, &str, Lines<'_>, u16); 9] = [
        ("GET", "/livez", &[], 200),
        ("GET", "/readyz", &[], 200),
        ("GET", "/metrics", &[], 200),
        ("GET", "/api/v1/openapi.json", &[], 200),
        ("GET", "/api/v1/me", known, 200),
        ("GET", "/api/v1/me", &[], 401),
        ("DELETE", "/livez", &[], 405),
        ("GET", "/nowhere", &[], 404),
        ("GET", "/livez", &[("Host", "evil.example")], 421),
    ];
    for (method, path, headers, status) in table {
        let answer = send(serving.address, method, path, headers, "");
        assert_eq!(answer.status, status, "{method} {path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), None, "{method} {path}");
    }
}

/// A path that is written as it is goes past the router, one that is written otherwise goes through it.
#[test]
fn a_message_is_answered_alike_whichever_way_it_takes() {
    let installation = Installation::new(Database::Sqlite);
    let servers = json!({ "mcpServers": { "github": { "url": "http://127.0.0.1:9/mcp" } } });
    installation.grant_all("alice", "github", &servers);
    let (key, serving) = (installation.key("alice"), installation.serve());
    let (bearer, own) = (bearer(&key), format!("http://{}", serving.address));
    let known = ("Authorization", bearer.as_str());
    let (large, ping) = ("x".repeat((4 << 20) + 1), r#"{"jsonrpc": "2.0", "id": 1, "method": "ping"}"#);
    let table: [(&str, Lines<'_>, &str); 12] = [
        ("github", &[known], ping),
        ("github", &[known], "{"),
        ("github", &[known], &large),
        ("github", &[known, ("Origin", &own)], ping),
        ("github", &[known, ("Origin", "https://evil.example")], ping),
        ("github", &[known, ("Host", "evil.example")], ping),
        ("github", &[known, ("X-Forwarded-For", "10.0.0.1")], ping),
        ("github", &[known, known], ping),
        ("github", &[("Authorization", "Bearer nonsense")], ping),
        ("github", &[], ping),
        ("nothing", &[known], ping),
        ("github?key=@", &[known], ping),
    ];
    let mut statuses = Vec::new();
    for (name, headers, body) in table {
        let name = name.replace('@', &key);
        let ask = |name: &str| {
            let mut answer = send(serving.address, "POST", &format!("/mcp/{name}"), headers, body);
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
            answer.headers.sort();
            answer
        };
        let (straight, routed) = (ask(&name), ask(&name.replacen("th", "t%68", 1)));
        statuses.push(straight.status);
        assert_eq!(format!("{straight:?}"), format!("{routed:?}"), "{name} {headers:?}");
    }
    assert_eq!(statuses, [400, 400, 413, 400, 403, 421, 400, 400, 401, 401, 404, 401]);
    let listed = |path| list(serving.address, path, &key).json()["result"].clone();
    assert_eq!(listed("/mcp/github"), listed("/mcp/git%68ub"));
}

#[test]
fn the_page_runs_only_what_the_hub_serves_and_knows_nobody() {
    let (_installation, serving, _) = hub();
    let page = get(&serving, "/credentials/github", &[]);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.body, get(&serving, "/credentials/no-such-server", &[]).body);
    for file in ["/credentials.js", "/credentials.css"] {
        assert!(page.body.contains(file));
        assert_eq!(get(&serving, file, &[]).status, 200);
    }
}

#[test]
fn foreign_hosts_and_origins_are_refused_and_recorded() {
    let (installation, serving, _) = hub();
    let own = format!("http://{}", serving.address);
    let port = serving.address.port();
    let localhost = format!("localhost:{port}");
    let table: [(Lines<'_>, u16); 8] = [
        (&[("Host", &localhost)], 200),
        (&[("Host", "localhost:1")], 421),
        (&[("Host", "evil.example")], 421),
        (&[("Host", &format!("evil.example:{port}"))], 421),
        (&[("Origin", &own)], 200),
        (&[("Origin", "https://evil.example")], 403),
        (&[("Origin", "null")], 403),
        (&[("Origin", &own), ("Origin", "null")], 403),
    ];
    for (headers, status) in table {
        assert_eq!(get(&serving, "/livez", headers).status, status, "{headers:?}");
    }
    serving.stop();
    assert!(found(&installation, "foreign-origin") >= 1);
}

#[test]
fn a_host_that_was_right_once_on_a_connection_makes_no_other_right() {
    let (_installation, serving, _) = hub();
    let own = format!("Host: {}", serving.address);
    let mut kept = TcpStream::connect(serving.address).unwrap();
    let mut ask_for = |target: &str, headers: &str| {
        write!(kept, "GET {target} HTTP/1.1\r\n{headers}\r\n\r\n").unwrap();
        let mut text = String::new();
        // What comes is JSON with one closing brace.
        while !text.ends_with('}') {
            let mut byte = [0];
            kept.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
        }
        text[9..12].parse::<u16>().unwrap()
    };
    let foreign = "Host: evil.example";
    let mut ask = |headers: &str| ask_for("/readyz", headers);
    assert_eq!([ask(&own), ask(&own), ask(foreign), ask(&own)], [200, 200, 421, 200]);
    assert_eq!(ask(&format!("{own}\r\nOrigin: https://evil.example")), 403);
    assert_eq!(ask(&format!("{own}\r\n{foreign}")), 400);
    assert_eq!(ask_for("http://evil.example/readyz", &own), 421);
}

#[test]
fn a_site_that_is_allowed_may_ask_and_no_other() {
    let mut installation = Installation::new(Database::Sqlite);
    installation.set("MCPHUB_HTTP__ALLOWED_ORIGINS", "https://console.example");
    let serving = installation.serve();
    let preflight = |origin| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        send(serving.address, "OPTIONS", "/mcp", &headers, "")
    };
    let allowed = preflight("https://console.example");
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://console.example"));
    assert_eq!(allowed.header("access-control-allow-credentials"), None);
    let refused = preflight("https://evil.example");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, None));
}

#[test]
fn a_key_in_a_url_is_refused_marked_and_never_logged() {
    let (installation, serving, key) = hub();
    for path in [format!("/api/v1/me?key={key}"), format!("/mcp?key={key}"), format!("/credentials/{key}")] {
        let answer = get(&serving, &path, &[("Authorization", &bearer(&key))]);
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.json()["code"], "key.exposed");
        assert!(answer.json()["detail"].as_str().unwrap().contains("Authorization: Bearer mcphub_"));
        assert!(!answer.body.contains(&key));
    }
    let keys = get(&serving, "/api/v1/users/me/keys", &[("Authorization", &bearer(&key))]).json();
    assert!(keys[0]["exposed_at"].is_string(), "{keys}");
    serving.stop();
    assert!(found(&installation, "exposed-key") >= 1);
    assert!(!installation.logged().contains(&key), "the log holds the key");
}

#[test]
fn only_one_credential_counts_and_only_in_its_header() {
    let (installation, serving, key) = hub();
    let other = installation.key("admin");
    let (one, two) = (bearer(&key), bearer(&other));
    let status = |headers: Lines<'_>| {
        let answer = get(&serving, "/api/v1/me", headers);
        (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(status(&[("Authorization", &one)]).0, 200);
    assert_eq!(status(&[("X-MCPHub-Key", &key)]).0, 200);
    for headers in [
        &[("Authorization", &*one), ("X-MCPHub-Key", &*other)][..],
        &[("Authorization", &*one), ("Authorization", &*two)][..],
        &[("X-MCPHub-Key", &*key), ("X-MCPHub-Key", &*key)][..],
    ] {
        assert_eq!(status(headers), (400, "key.ambiguous".to_owned()));
    }
    assert_eq!(status(&[("Cookie", &format!("key={key}"))]), (401, "key.missing".to_owned()));
    assert_eq!(status(&[("Authorization", &format!("Basic {key}"))]), (401, "key.malformed".to_owned()));
    let challenge = get(&serving, "/api/v1/me", &[]);
    assert!(challenge.header("www-authenticate").unwrap().starts_with("Bearer"));
}

#[test]
fn failed_attempts_run_out_and_lock_nobody_else_out() {
    let (_installation, serving, key) = hub();
    let statuses: Vec<u16> = (0..70).map(|_| get(&serving, "/api/v1/me", &[]).status).collect();
    assert!(statuses.contains(&401));
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    let refused = get(&serving, "/mcp", &[("X-MCPHub-Key", "wrong")]);
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(get(&serving, "/api/v1/me", &[("Authorization", &bearer(&key))]).status, 200);
}

#[test]
fn metrics_are_for_this_machine_alone() {
    let (_installation, serving, _) = hub();
    let page = get(&serving, "/metrics", &[]);
    assert!(page.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(page.body.contains("# TYPE mcphub_call_seconds histogram"));
    for name in ["X-Forwarded-For", "Forwarded"] {
        assert_eq!(get(&serving, "/metrics", &[(name, "for=192.0.2.1")]).status, 404, "{name}");
    }
}

#[test]
fn heads_and_bodies_have_a_size() {
    let (_installation, serving, key) = hub();
    let many: Vec<(String, String)> = (0..120).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(get(&serving, "/livez", &many).status, 431);
    let bearer = bearer(&key);
    let headers = [("Authorization", &*bearer), ("Content-Type", "application/json")];
    let add_group = |length: usize| {
        let name = r#"{"name":"devs"}"#;
        let body = name.to_owned() + &" ".repeat(length - name.len());
        send(serving.address, "POST", "/api/v1/groups", &headers, &body)
    };
    assert_eq!(add_group(1 << 20).status, 201);
    let refused = add_group((1 << 20) + 1);
    assert_eq!((refused.status, refused.json()["code"].as_str()), (413, Some("body.too_large")));
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let (_installation, serving, _) = hub();
    let start = Instant::now();
    let mut silent: Vec<TcpStream> =
        ["", "GET /livez HTT", "GET /livez HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP"]
            .iter()
            .map(|begun| {
                let mut stream = TcpStream::connect(serving.address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                stream.write_all(begun.as_bytes()).unwrap();
                stream
            })
            .collect();
    for stream in &mut silent {
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    let waited = start.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
}

#[test]
fn a_stop_does_not_wait_for_who_says_nothing() {
    let (_installation, serving, _) = hub();
    let mut kept = TcpStream::connect(serving.address).unwrap();
    write!(kept, "GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", serving.address).unwrap();
    kept.read_exact(&mut [0; 12]).unwrap();
    let _silent = TcpStream::connect(serving.address).unwrap();
    let start = Instant::now();
    serving.stop();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}
