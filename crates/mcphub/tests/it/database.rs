//! Passwords of databases: they come by variable or file, and stand in no argument and no message.

use url::Url;

use crate::harness::{Database, Installation, eventually, tool};

/// Takes an address apart: without its password, and the password.
fn apart(url: &str) -> (String, String) {
    let mut url: Url = url.parse().unwrap();
    let password = url.password().unwrap().to_owned();
    url.set_password(None).unwrap();
    (url.into(), password)
}

/// Runs a command that must be refused as written wrongly, and returns what it says.
fn refused(installation: &Installation, line: &[&str]) -> String {
    let output = installation.run(line, "");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line:?}: {told}");
    assert!(output.stdout.is_empty());
    told
}

#[test]
fn a_password_in_an_argument_is_refused_with_the_right_way() {
    let hub = Installation::new(Database::Sqlite);
    let url = "postgres://app:s3cret@127.0.0.1:9/mcphub";
    for (line, way) in [
        (vec!["--database-url", url, "--worker-url", url, "user", "list"], "MCPHUB_DATABASE__URL"),
        (vec!["--database-url", "postgres://h/?password=s3cret", "user", "list"], "MCPHUB_DATABASE__URL"),
    ] {
        let told = refused(&hub, &line);
        assert!(told.contains(way) && !told.contains("s3cret"), "{told}");
    }
}

#[test]
fn passwords_that_stand_elsewhere_open_the_database() {
    let mut hub = Installation::new(Database::Postgres);
    let ((admin, admin_password), name) =
        (apart(&tool("MCPHUB_TEST_POSTGRES_URL")), format!("it_pass_{}", std::process::id()));
    let prepare = |hub: &Installation, words: [&str; 2]| {
        let line = ["database", "prepare", "--json", "--name", &name, "--role-prefix", &name];
        let output = hub.run(&[&line[..], &words[..]].concat(), "");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !told.contains(&admin_password), "{words:?}: {told}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let file = hub.file("admin.url", &format!("{}\n", tool("MCPHUB_TEST_POSTGRES_URL")));
    let made = prepare(&hub, ["--admin-url-file", file.to_str().unwrap()]);
    let whole = tool("MCPHUB_TEST_POSTGRES_URL");
    let warned =
        hub.run(&["database", "prepare", "--name", &name, "--role-prefix", &name, "--admin-url", &whole], "");
    let told = String::from_utf8(warned.stderr).unwrap();
    assert!(
        warned.status.success() && told.contains("--admin-url-file") && !told.contains(&admin_password),
        "{told}"
    );
    hub.set("PGPASSWORD", &admin_password);
    let again = prepare(&hub, ["--admin-url", &admin]);
    assert_eq!(
        apart(made["url"].as_str().unwrap()).0,
        again["url"],
        "a login that was there keeps its password"
    );
    hub.unset("PGPASSWORD");

    let (app, app_password) = apart(made["url"].as_str().unwrap());
    let (worker, worker_password) = apart(made["worker_url"].as_str().unwrap());
    let lines = [(&name, "app", &app_password), (&name, "worker", &worker_password)]
        .map(|(name, role, password)| format!("*:*:*:{name}_{role}:{password}\n"));
    let passwords = hub.file("passwords", &lines.concat());
    std::fs::set_permissions(&passwords, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    hub.set("PGPASSFILE", passwords.to_str().unwrap());
    hub.unset("MCPHUB_DATABASE__URL");
    hub.unset("MCPHUB_DATABASE__WORKER_URL");
    let words = ["--database-url", &app, "--worker-url", &worker];
    let output = hub.run(&[&words[..], &["user", "add", "alice"]].concat(), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    hub.set("MCPHUB_DATABASE__URL", made["url"].as_str().unwrap());
    hub.set("MCPHUB_DATABASE__WORKER_URL", made["worker_url"].as_str().unwrap());
    let serving = hub.serve();
    let arguments = eventually("the hub's arguments can be read", || {
        std::fs::read(format!("/proc/{}/cmdline", serving.id())).ok().filter(|text| !text.is_empty())
    });
    let arguments = String::from_utf8(arguments).unwrap();
    assert!(arguments.contains("serve"));
    for password in [&app_password, &worker_password] {
        assert!(!arguments.contains(password.as_str()) && !hub.logged().contains(password.as_str()));
    }
}
