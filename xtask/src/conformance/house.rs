//! The server of the suite, and a hub before it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::failure::Failure;
use crate::run;
use crate::tools;
use crate::tools::node::Node;

const STEP: &str = "conformance: starting";

/// Is a program beside this one; ended with it.
pub(super) struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        if let Err(cause) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("a program of the conformance run can't be ended: {cause}");
        }
    }
}

impl Beside {
    /// Starts a program and reads the first line that it prints.
    fn start(command: &mut Command) -> Result<(Self, String), Failure> {
        let text = run::text(command);
        let failed = |cause: std::io::Error| Failure::step(STEP, format!("{text}: {cause}"));
        let mut beside = Self(command.stdout(Stdio::piped()).spawn().map_err(failed)?);
        let mut line = String::new();
        if let Some(stdout) = beside.0.stdout.take() {
            let mut stdout = BufReader::new(stdout);
            let read = stdout.read_line(&mut line);
            read.map_err(failed)?;
            // What it prints later goes nowhere, but the pipe stays open.
            std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        }
        match line.trim() {
            "" => Err(Failure::step(STEP, format!("{text} said nothing"))),
            line => Ok((beside, line.to_owned())),
        }
    }
}

/// Is the server with what the suite asks for.
pub(crate) struct Fixture {
    port: String,
    _server: Beside,
}

impl Fixture {
    pub(crate) fn start(repository: &Path, python: &Path, results: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(python);
        command.arg(repository.join("peers/python/conformance_server.py"));
        let log = log(&results.join("server.log"))?;
        let (server, line) = Beside::start(command.stdin(Stdio::null()).stderr(log))?;
        Ok(Self { port: port(&line)?, _server: server })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }
}

/// Is a hub before the server, and before the hub what adds the key that the suite doesn't send.
pub(crate) struct House {
    port: String,
    _door: (Beside, ChildStdin),
    _hub: Beside,
}

impl House {
    pub(crate) fn start(
        repository: &Path,
        node: &Node,
        fixture: &Fixture,
        results: &Path,
    ) -> Result<Self, Failure> {
        let mut door = Command::new(&node.program);
        door.arg(repository.join("peers/node/bearer.mjs")).stdin(Stdio::piped());
        let (mut door, line) = Beside::start(&mut door)?;
        let port = port(&line)?;
        let origin = ("MCPHUB_HTTP__ALLOWED_ORIGINS", format!("http://127.0.0.1:{port}"));
        let setting = Setting::new(repository, results.join("hub"), origin)?;
        let key = set_up(&setting, fixture)?;
        let (hub, address) = setting.serve()?;
        let mut input = door.0.stdin.take().ok_or_else(|| Failure::step(STEP, "no standard input"))?;
        writeln!(input, "{address} {key}").map_err(|cause| Failure::step(STEP, cause.to_string()))?;
        Ok(Self { port, _door: (door, input), _hub: hub })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp/fixture", self.port)
    }
}

/// Is an installation of its own.
pub(super) struct Setting {
    program: PathBuf,
    folder: PathBuf,
    own: (&'static str, String),
}

/// Lets a person use the server, and returns her key.
fn set_up(setting: &Setting, fixture: &Fixture) -> Result<String, Failure> {
    let servers = setting.folder.join("servers.json");
    let url = fixture.url();
    let text = format!(r#"{{"mcpServers":{{"fixture":{{"type":"streamable-http","url":"{url}"}}}}}}"#);
    fs::write(&servers, text).map_err(|cause| Failure::io("writing", &servers, cause))?;
    let servers = servers.display().to_string();
    setting.run(&["user", "add", "alice", "--role", "user"])?;
    setting.run(&["group", "add", "people"])?;
    setting.run(&["group", "join", "people", "alice"])?;
    setting.run(&["server", "import", &servers])?;
    setting.run(&["grant", "add", "people", "fixture", "--rights", "read,write,execute"])?;
    setting.key("alice")
}

impl Setting {
    /// Takes a folder for it, and one variable of its own.
    pub(super) fn new(
        repository: &Path,
        folder: PathBuf,
        own: (&'static str, String),
    ) -> Result<Self, Failure> {
        tools::make(&folder)?;
        Ok(Self { program: repository.join("target/debug/mcphub"), folder, own })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for name in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
            command.env(name, self.folder.join(name));
        }
        command.env("MCPHUB_LIMITS__CALLS_PER_MINUTE", "1000000");
        command.env(self.own.0, &self.own.1);
        command.arg("--data-dir").arg(self.folder.join("data"));
        command
    }

    /// Runs one command, and returns what it printed.
    pub(super) fn run(&self, words: &[&str]) -> Result<String, Failure> {
        run::silent(STEP, self.command().args(words))
    }

    /// Makes a key for a person.
    pub(super) fn key(&self, name: &str) -> Result<String, Failure> {
        let printed = self.run(&["key", "create", name, "--name", "suite", "--json"])?;
        let key = printed.split('"').find(|part| part.starts_with("mcphub_"));
        key.map(str::to_owned).ok_or_else(|| Failure::step(STEP, "no key was made"))
    }

    /// Serves, and returns where.
    pub(super) fn serve(&self) -> Result<(Beside, String), Failure> {
        let log = log(&self.folder.join("hub.log"))?;
        let mut serve = self.command();
        serve.args(["serve", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stderr(log);
        let (hub, line) = Beside::start(&mut serve)?;
        Ok((hub, line.split_whitespace().last().unwrap_or_default().to_owned()))
    }
}

fn log(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|cause| Failure::io("creating", path, cause))
}

/// Reads where a program says that it listens.
fn port(line: &str) -> Result<String, Failure> {
    let port = line.strip_prefix("listening ").map(str::to_owned);
    port.ok_or_else(|| Failure::step(STEP, format!("`{line}` names no port")))
}
