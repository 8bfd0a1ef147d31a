//! The hub with everything on: a key, a grant, a limit, a durable record of each call, a credential.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Failure;
use crate::load::now;
use crate::stage::{Actor, free_address, run};

/// Is an installation of the hub: its folder, its environment, its person's key.
pub(crate) struct Hub {
    program: PathBuf,
    folder: PathBuf,
    variables: BTreeMap<&'static str, String>,
    /// The key of the person who calls.
    pub(crate) key: String,
    /// The key of an admin.
    pub(crate) admin: String,
}

impl Hub {
    /// Makes an installation on SQLite, or on a new database of the PostgreSQL at `postgres`.
    pub(crate) fn new(
        program: &Path,
        folder: &Path,
        postgres: Option<&str>,
        servers: &Value,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let place = |name: &str| folder.join(name).display().to_string();
        let variables = BTreeMap::from([
            ("HOME", place("home")),
            ("XDG_CONFIG_HOME", place("config")),
            ("XDG_STATE_HOME", place("state")),
            ("PATH", "/usr/bin:/bin".to_owned()),
            ("MCPHUB_LIMITS__CALLS_PER_MINUTE", "10000000".to_owned()),
            ("MCPHUB_LIMITS__CONCURRENT_CALLS", "4096".to_owned()),
        ]);
        let (program, folder) = (program.to_owned(), folder.to_owned());
        let mut hub = Self { program, folder, variables, key: String::new(), admin: String::new() };
        if let Some(admin) = postgres {
            hub.use_postgres(admin)?;
        }
        hub.fill(servers)?;
        Ok(hub)
    }

    /// Starts serving; returns when it is ready, with the time that this took.
    pub(crate) fn serve(&self) -> Result<(Actor, Duration), Failure> {
        let address = free_address()?;
        let mut command = self.command();
        command.args(["serve", "--listen", &address.to_string()]);
        command.stderr(File::create(self.folder.join("log"))?);
        let start = now();
        let actor = Actor::start(&mut command, address)?;
        actor.wait_until_ready()?;
        Ok((actor, start.elapsed()))
    }

    /// Sets a variable for everything that is run from here on.
    pub(crate) fn set(&mut self, variable: &'static str, value: &str) {
        self.variables.insert(variable, value.to_owned());
    }

    /// Says whether a word stands in what the last hub that served has said.
    pub(crate) fn said(&self, word: &str) -> Result<bool, Failure> {
        let lines = BufReader::new(File::open(self.folder.join("log"))?).split(b'\n');
        for line in lines {
            if String::from_utf8_lossy(&line?).contains(word) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs a command on the installation.
    pub(crate) fn ok(&self, line: &str, input: &str) -> Result<String, Failure> {
        run(self.command().args(line.split_whitespace()), input)
    }

    fn fill(&mut self, servers: &Value) -> Result<(), Failure> {
        let file = self.folder.join("servers.json");
        std::fs::write(&file, servers.to_string())?;
        self.ok("user add alice --role user", "")?;
        self.ok("user add root --role admin", "")?;
        self.ok("group add devs", "")?;
        self.ok("group join devs alice", "")?;
        self.ok(&format!("server import {}", file.display()), "")?;
        for name in names(servers)? {
            self.ok(&format!("grant add devs {name} --rights read,write,execute"), "")?;
        }
        self.fill_in("alice", servers)?;
        self.key = self.make_key("alice")?;
        self.admin = self.make_key("root")?;
        Ok(())
    }

    /// Adds somebody with a key.
    pub(crate) fn add_owner(&self, name: &str) -> Result<String, Failure> {
        self.ok(&format!("user add {name} --role user"), "")?;
        self.make_key(name)
    }

    /// Adds somebody with a key who may call everything.
    pub(crate) fn add_member(&self, name: &str, servers: &Value) -> Result<String, Failure> {
        let key = self.add_owner(name)?;
        self.ok(&format!("group join devs {name}"), "")?;
        self.fill_in(name, servers)?;
        Ok(key)
    }

    fn fill_in(&self, person: &str, servers: &Value) -> Result<(), Failure> {
        for name in names(servers)? {
            self.ok(&format!("credential set {person} {name} TOKEN"), "a token of usual length, 40 bytes")?;
        }
        Ok(())
    }

    fn make_key(&self, person: &str) -> Result<String, Failure> {
        let made = self.ok(&format!("key create {person} --name bench --json"), "")?;
        let key: Value = serde_json::from_str(&made)?;
        Ok(key.get("key").and_then(Value::as_str).ok_or("no key")?.to_owned())
    }

    fn use_postgres(&mut self, admin: &str) -> Result<(), Failure> {
        let name = format!("bench_{}", std::process::id());
        let line = format!("database prepare --admin-url-file - --name {name} --role-prefix {name} --json");
        let prepared: Value = serde_json::from_str(&self.ok(&line, admin)?)?;
        for (variable, field) in
            [("MCPHUB_DATABASE__URL", "url"), ("MCPHUB_DATABASE__WORKER_URL", "worker_url")]
        {
            let url = prepared.get(field).and_then(Value::as_str).ok_or("no address of the database")?;
            self.variables.insert(variable, url.to_owned());
        }
        Ok(())
    }

    /// Is the program with the installation's environment; its arguments follow.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(&self.variables).arg("--data-dir").arg(self.folder.join("data"));
        command
    }
}

fn names(servers: &Value) -> Result<impl Iterator<Item = &String>, Failure> {
    let servers = servers.get("mcpServers").and_then(Value::as_object).ok_or("no mcpServers")?;
    Ok(servers.keys())
}

/// Describes a server over HTTP with a credential of each person.
pub(crate) fn http_server(address: std::net::SocketAddr) -> Value {
    json!({
        "type": "streamable-http",
        "url": format!("http://{address}/mcp"),
        "headers": { "authorization": "Bearer ${USER_TOKEN}" },
    })
}

/// Describes a server over stdio with a credential of each person.
pub(crate) fn stdio_server() -> Result<Value, Failure> {
    let program = std::env::current_exe()?;
    Ok(json!({ "command": program, "args": ["echo-stdio"], "env": { "TOKEN": "${USER_TOKEN}" } }))
}
