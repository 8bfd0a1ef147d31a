//! What a configuration becomes, and what is refused. The environment is always an argument.

use std::collections::BTreeSet;
use std::path::Path;

use mcphub_hub::{DatabaseUrls, Namespaces, Process};

use super::keys::{FREE, KEYS};
use super::{Config, DatabaseFlags, Flags, Key, Sources};

const HOME: [(&str, &str); 1] = [("HOME", "/home/op")];

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    load_with(file, environment, Flags::default())
}

fn load_with(file: &str, environment: &[(&str, &str)], flags: Flags) -> Result<Config, String> {
    let pairs = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let file = (!file.is_empty()).then(|| ("mcphub.toml".into(), file.to_owned()));
    let sources = Sources { file, environment: pairs.collect(), flags };
    Config::load(&sources).map_err(|error| error.to_string())
}

fn refusal(file: &str, environment: &[(&str, &str)]) -> String {
    let environment: Vec<_> = HOME.iter().chain(environment).copied().collect();
    load(file, &environment).err().unwrap()
}

#[test]
fn nothing_has_to_be_configured() {
    let config = load("", &HOME).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:3000");
    assert_eq!(config.public_url.as_str(), "http://127.0.0.1:3000/");
    assert_eq!(config.data_dir, Path::new("/home/op/.local/share/mcphub"));
    assert_eq!(config.heads_dir, Path::new("/home/op/.local/state/mcphub"));
    assert_eq!(config.key_dir(), Some(Path::new("/home/op/.config/mcphub")));
    assert_eq!((config.quota.calls_per_minute(), config.quota.concurrent_calls()), (600, 256));
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(config.children.environment, [("PATH".to_owned(), path.to_owned())].into());
    assert!(matches!(config.database, DatabaseUrls::Sqlite));
    assert!(config.check_listener().is_ok());
}

#[test]
fn the_usual_folders_follow_xdg_and_a_relative_one_is_ignored() {
    let xdg = [
        ("HOME", "/home/op"),
        ("XDG_DATA_HOME", "/d"),
        ("XDG_CONFIG_HOME", "relative"),
        ("XDG_STATE_HOME", "/s"),
    ];
    let config = load("", &xdg).unwrap();
    assert_eq!(config.data_dir, Path::new("/d/mcphub"));
    assert_eq!(config.key_dir(), Some(Path::new("/home/op/.config/mcphub")));
    assert_eq!(config.heads_dir, Path::new("/s/mcphub"));
}

#[test]
fn without_a_home_each_missing_folder_names_its_setting() {
    assert!(load("", &[]).err().unwrap().contains("--data-dir"));
    assert!(load("data_dir = '/d'", &[]).err().unwrap().contains("heads_dir"));
    let error = load("data_dir = '/d'\n[audit]\nheads_dir = '/h'", &[]).err().unwrap();
    assert_eq!(
        error,
        "neither XDG_CONFIG_HOME nor HOME is set: say where with key_dir in [vault] (or MCPHUB_VAULT__KEY_DIR)"
    );
    let all = "data_dir = '/d'\n[audit]\nheads_dir = '/h'\n[vault]\nkey_dir = '/k'";
    assert!(load(all, &[]).is_ok());
}

#[test]
fn flags_stand_over_variables_over_the_file() {
    let file = "listen = '127.0.0.1:1'\n[limits]\ncalls_per_minute = 1\nconcurrent_calls = 1";
    let variables = [HOME[0], ("MCPHUB_LISTEN", "127.0.0.1:2"), ("MCPHUB_LIMITS__CALLS_PER_MINUTE", "2")];
    let flags = Flags { listen: Some("127.0.0.1:3".to_owned()), ..Flags::default() };
    let config = load_with(file, &variables, flags).unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!((config.quota.calls_per_minute(), config.quota.concurrent_calls()), (2, 1));
}

#[test]
fn every_kind_of_value_can_be_a_variable() {
    let config = load(
        "",
        &[
            HOME[0],
            ("PATH", "/not/for/children"),
            ("MCPHUB_BEHIND_PROXY", "true"),
            ("MCPHUB_DATA_DIR", "/data"),
            ("MCPHUB_HTTP__ALLOWED_HOSTS", "a.example, b.example"),
            ("MCPHUB_CHILDREN__ENVIRONMENT__https_proxy", "http://proxy:8080"),
            ("MCPHUB_CHILDREN__ENVIRONMENT__NPM_CONFIG__X", "1"),
            ("MCPHUB_CHILDREN__PATH", "/bin"),
            ("MCPHUB_CHILDREN__IDLE_SECONDS", "7"),
            ("MCPHUB_CHILDREN__NAMESPACES", "required"),
        ],
    )
    .unwrap();
    assert!(config.behind_proxy);
    assert_eq!(config.data_dir, Path::new("/data"));
    assert_eq!(config.allowed_hosts, ["a.example", "b.example"]);
    assert_eq!((config.children.idle.as_secs(), config.children.namespaces), (7, Namespaces::Required));
    let children: Vec<_> =
        config.children.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(children, ["NPM_CONFIG__X=1", "PATH=/bin", "https_proxy=http://proxy:8080"]);
}

#[test]
fn an_unknown_key_is_told_the_nearest_one() {
    let table = [
        ("lisen = 'x'", "lisen: did you mean listen?"),
        ("calls_per_minute = 1", "calls_per_minute: did you mean limits.calls_per_minute?"),
        ("[limit]\ncalls_per_minute = 1", "limit: did you mean limits?"),
        ("[limits]\ncalls_per_minit = 1", "limits.calls_per_minit: did you mean limits.calls_per_minute?"),
        ("[children.env]\nA = 'b'", "children.env: did you mean children.environment?"),
    ];
    for (file, expected) in table {
        assert_eq!(refusal(file, &[]), format!("mcphub.toml: there is no setting {expected}"));
    }
    assert_eq!(refusal("limits = 5", &[]), "mcphub.toml: limits is a section: write [limits]");
    assert_eq!(
        refusal("", &[("MCPHUB_LIMITS__CALL_PER_MINUTE", "1")]),
        "MCPHUB_LIMITS__CALL_PER_MINUTE: there is no setting limits.call_per_minute: did you mean limits.calls_per_minute?"
    );
    assert!(refusal("", &[("MCPHUB_CHILDREN__ENVIRONMENT__", "1")]).contains("there is no setting"));
}

#[test]
fn bounds_hold_and_there_is_no_off() {
    let table = [
        ("[limits]\ncalls_per_minute = 0", "limits: calls_per_minute is 0: expected 1 to 10000000"),
        (
            "[limits]\ncalls_per_minute = 10000001",
            "limits: calls_per_minute is 10000001: expected 1 to 10000000",
        ),
        ("[limits]\nconcurrent_calls = 0", "limits: concurrent_calls is 0: expected 1 to 100000"),
        ("[children]\nidle_seconds = 0", "children.idle_seconds: is 0: expected 1 to 86400"),
        ("[children]\nprocesses = 10001", "children.processes: is 10001: expected 1 to 10000"),
        ("[children]\nprocesses_per_person = 0", "children.processes_per_person: is 0: expected 1 to 1000"),
        ("[children.environment]\nPATH = '/x'", "children.environment.PATH: set children.path instead"),
        (
            "[children.environment]\nLD_PRELOAD = '/x'",
            "children.environment: a variable that begins with LD_ or DYLD_ would load foreign code into what confines the children",
        ),
        ("listen = '127.0.0.1'", "listen: expected an address with a port, such as 127.0.0.1:3000"),
        ("public_url = 'ftp://x'", "public_url: expected a URL such as https://mcp.example.org"),
    ];
    for (file, expected) in table {
        assert_eq!(refusal(file, &[]), expected);
    }
    assert!(load("[limits]\ncalls_per_minute = 10000000", &HOME).is_ok());
}

#[test]
fn no_error_quotes_a_value() {
    let table = [
        ("database = 'postgres://me:s3cret@db/x'", vec![]),
        ("[database]\nurl = 'postgres://me:s3cret@db/x", vec![]),
        ("[database]\nurl = ['s3cret']\nworker_url = 'x'", vec![]),
        ("[database]\nurl = 's3cret'", vec![]),
        ("profile = 's3cret'", vec![]),
        ("public_url = 's3cret'", vec![]),
        ("[vault]\nkey = 's3cret'", vec![]),
        ("", vec![("MCPHUB_VAULT__KEY", "s3cret")]),
        ("", vec![("MCPHUB_BEHIND_PROXY", "s3cret")]),
        ("", vec![("MCPHUB_LIMITS__CALLS_PER_MINUTE", "s3cret")]),
        ("", vec![("MCPHUB_VAULT__KEYS", "s3cret")]),
    ];
    for (file, environment) in table {
        let error = refusal(file, &environment);
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn the_key_comes_from_a_file_or_from_a_variable_that_is_asked_for() {
    let key = ("MCPHUB_VAULT__KEY", "a-key");
    let asked = ("MCPHUB_VAULT__PROVIDER", "env");
    assert!(matches!(load("", &[HOME[0], key, asked]).unwrap().key, Key::Value(_)));
    assert!(refusal("", &[asked]).contains("MCPHUB_VAULT__KEY is not set"));
    assert!(refusal("", &[key]).contains("vault.provider is file"));
    assert!(refusal("[vault]\nkey = 'x'\nprovider = 'env'", &[]).contains("must not stand in a file"));
}

#[test]
fn postgresql_needs_both_logins() {
    let flags = |url: Option<&str>, worker: Option<&str>| Flags {
        database: DatabaseFlags { url: url.map(str::to_owned), worker_url: worker.map(str::to_owned) },
        ..Flags::default()
    };
    let both = load_with("", &HOME, flags(Some("postgres://a"), Some("postgres://b"))).unwrap();
    assert!(matches!(both.database, DatabaseUrls::Postgres { .. }));
    for one in [flags(Some("postgres://a"), None), flags(None, Some("postgres://b"))] {
        assert!(load_with("", &HOME, one).err().unwrap().contains("needs both"));
    }
}

#[test]
fn no_server_is_let_into_files_with_the_databases_passwords() {
    let private = |file: &str, environment: &[(&str, &str)]| {
        let environment: Vec<_> = HOME.iter().chain(environment).copied().collect();
        load(file, &environment).unwrap().settings(Process::Serve, "mcphub".into()).upstream.private
    };
    let file = "[database]\nurl = 'postgres://a'\nworker_url = 'postgres://b'";
    let (here, own) = (std::env::current_dir().unwrap().join("mcphub.toml"), Path::new("/home/op/.pgpass"));
    for path in [here.as_path(), own] {
        assert!(private(file, &[]).iter().any(|one| one == path), "{}", path.display());
    }
    let elsewhere = private(file, &[("PGPASSFILE", "/etc/passwords")]);
    assert!(elsewhere.iter().any(|one| one == Path::new("/etc/passwords")));
    assert_eq!(private("", &[]).len(), 3, "data, heads and key");
}

#[test]
fn without_tls_only_loopback_is_listened_on_unless_a_proxy_ends_it() {
    let table = [
        ("127.0.0.1:3000", false, true),
        ("127.1.2.3:3000", false, true),
        ("[::1]:3000", false, true),
        ("0.0.0.0:3000", false, false),
        ("[::]:3000", false, false),
        ("192.168.0.1:3000", false, false),
        ("0.0.0.0:3000", true, true),
    ];
    for (listen, behind_proxy, fine) in table {
        let file = format!("listen = '{listen}'\nbehind_proxy = {behind_proxy}");
        let checked = load(&file, &HOME).unwrap().check_listener();
        assert_eq!(checked.is_ok(), fine, "{listen} {behind_proxy}");
    }
}

#[test]
fn production_refuses_what_is_fine_on_a_laptop() {
    let production = "profile = 'production'\n";
    assert!(load(production, &HOME).unwrap().check_listener().is_ok());
    let open = format!("{production}listen = '0.0.0.0:3000'\n");
    let error = load(&open, &HOME).unwrap().check_listener().unwrap_err().to_string();
    assert!(error.contains("--behind-proxy"), "{error}");
    let proxied = load(&format!("{open}behind_proxy = true"), &HOME).unwrap();
    assert!(proxied.check_listener().is_ok(), "TLS ends before it");
    let key = [("MCPHUB_VAULT__KEY", "a-key"), ("MCPHUB_VAULT__PROVIDER", "env")];
    assert!(refusal(production, &key).contains("production refuses"));
    let inside = format!("{production}data_dir = '/d'\n[vault]\nkey_dir = '/d/keys'");
    assert!(refusal(&inside, &[]).contains("outside"));
    let laptop = load("data_dir = '/d'\n[vault]\nkey_dir = '/d/keys'", &HOME).unwrap();
    assert!(laptop.key_lies_in_data());
}

#[test]
fn a_key_lies_in_the_data_however_its_path_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(place("data/keys")).unwrap();
    std::fs::create_dir(place("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place("data"), place("link")).unwrap();
    std::os::unix::fs::symlink(place("elsewhere"), place("data/out")).unwrap();
    let table = [
        ("data", "data", true),
        ("data", "data/keys", true),
        ("data", "data/not/yet/there", true),
        ("data", "elsewhere/../data/keys", true),
        ("data", "link/keys", true),
        ("data", "link/new", true),
        ("link", "data/keys", true),
        ("link", "data/out/../data/keys", true),
        ("data", "elsewhere", false),
        ("data", "data/out", false),
        ("data", "data/../elsewhere", false),
        ("data", "data-keys", false),
        ("new/data", "new/keys", false),
        ("new/data", "new/data/keys", true),
    ];
    for (data, keys, inside) in table {
        let file = format!("data_dir = {:?}\n[vault]\nkey_dir = {:?}", place(data), place(keys));
        let config = load(&file, &HOME).unwrap();
        assert_eq!(config.key_lies_in_data(), inside, "{keys} in {data}");
        let production = load(&format!("profile = 'production'\n{file}"), &HOME);
        assert_eq!(production.is_err(), inside, "{keys} in {data}");
    }
}

#[test]
fn a_password_is_no_argument() {
    let flags = |url: &str, worker: &str| Flags {
        database: DatabaseFlags { url: Some(url.to_owned()), worker_url: Some(worker.to_owned()) },
        ..Flags::default()
    };
    let bare = "postgres://app@db.example/mcphub?sslmode=require";
    assert!(load_with("", &HOME, flags(bare, bare)).is_ok());
    for url in [
        "postgres://app:s3cret@db.example/mcphub",
        "postgres://db.example/mcphub?user=app&password=s3cret",
        "postgres://db.example/mcphub?PASSWORD=s3cret",
        "postgres://app:s3cret@db.example:99999/mcphub",
        "app:s3cret@db.example",
        "host=db.example password=s3cret",
    ] {
        for (flags, variable) in
            [(flags(url, bare), "MCPHUB_DATABASE__URL"), (flags(bare, url), "MCPHUB_DATABASE__WORKER_URL")]
        {
            let error = load_with("", &HOME, flags).err();
            let Some(error) = error else { panic!("{url} was taken") };
            assert!(error.contains(variable) && !error.contains("s3cret"), "{error}");
        }
    }
    let variables = [
        HOME[0],
        ("MCPHUB_DATABASE__URL", "postgres://app:s3cret@db.example/mcphub"),
        ("MCPHUB_DATABASE__WORKER_URL", "postgres://worker:s3cret@db.example/mcphub"),
    ];
    let config = load("", &variables).unwrap();
    let shown = format!("{:?}", config.settings(mcphub_hub::Process::Command, "mcphub".into()).place);
    assert!(shown.contains("app@db.example") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_free_port_becomes_part_of_the_public_address_unless_one_is_set() {
    let address = "127.0.0.1:4711".parse().unwrap();
    let mut config = load("listen = '127.0.0.1:0'", &HOME).unwrap();
    config.set_listener(address);
    assert_eq!(config.public_url.as_str(), "http://127.0.0.1:4711/");
    let mut config = load("listen = '127.0.0.1:0'\npublic_url = 'https://hub.example'", &HOME).unwrap();
    config.set_listener(address);
    assert_eq!(config.public_url.as_str(), "https://hub.example/");
}

#[test]
fn the_page_about_the_configuration_has_every_key_and_no_other() {
    let page = include_str!("../../../../docs/configuration.md");
    let (keys, _) = page.split_once("## A server's definition").unwrap();
    let rows =
        keys.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(key, _)| key);
    let known = KEYS.iter().map(|(key, _)| *key).chain([FREE]);
    assert_eq!(rows.collect::<BTreeSet<_>>(), known.collect());
}
