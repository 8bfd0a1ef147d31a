//! An installation in a folder of its own: commands, a running hub, a client.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) mod bare;
pub(crate) mod client;
pub(crate) mod database;
pub(crate) mod lines;
pub(crate) mod notes;
pub(crate) mod page;
pub(crate) mod peer;
pub(crate) mod relay;
pub(crate) mod schema;
pub(crate) mod witness;

/// The databases that everything is tested on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// Runs a scenario on both databases.
macro_rules! on_both {
    ($($(#[$meta:meta])* fn $name:ident($installation:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            fn scenario($installation: $crate::harness::Installation) $body

            $(#[$meta])*
            #[test]
            fn on_sqlite() {
                scenario($crate::harness::Installation::new($crate::harness::Database::Sqlite));
            }

            $(#[$meta])*
            #[test]
            fn on_postgres() {
                scenario($crate::harness::Installation::new($crate::harness::Database::Postgres));
            }
        }
    )+};
}
pub(crate) use on_both;

/// Is an installation: its folder, its environment, its database.
pub(crate) struct Installation {
    folder: TempDir,
    variables: BTreeMap<String, String>,
}

/// Is a running hub; ended with the test.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: std::net::SocketAddr,
    log: PathBuf,
}

impl Installation {
    pub(crate) fn new(database: Database) -> Self {
        let variables = match database {
            Database::Sqlite => BTreeMap::new(),
            Database::Postgres => prepare(&tool("MCPHUB_TEST_POSTGRES_URL")),
        };
        Self::with(variables)
    }

    /// Makes one on a PostgreSQL of the test's own.
    pub(crate) fn on(superuser: &str) -> Self {
        Self::with(prepare(superuser))
    }

    fn with(database: BTreeMap<String, String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let mut variables = BTreeMap::from([
            ("HOME".to_owned(), place("home")),
            ("XDG_CONFIG_HOME".to_owned(), place("config")),
            ("XDG_STATE_HOME".to_owned(), place("state")),
            ("XDG_DATA_HOME".to_owned(), place("share")),
            ("PATH".to_owned(), std::env::var("PATH").unwrap()),
            ("MCPHUB_LIMITS__CALLS_PER_MINUTE".to_owned(), "1000000".to_owned()),
        ]);
        variables.extend(database);
        Self { folder, variables }
    }

    /// Makes another node of it: a folder of its own, with the same database and settings.
    pub(crate) fn another_node(&self) -> Self {
        let settings = self.variables.iter().filter(|(name, _)| name.starts_with("MCPHUB_"));
        Self::with(settings.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sets a variable for all commands from here on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Takes a variable from all commands from here on.
    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    /// Shows a variable that all commands have.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Writes a file into the installation's folder.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs `mcphub --data-dir D` with the words of a line, and `input` on standard input.
    pub(crate) fn run(&self, line: &[&str], input: &str) -> Output {
        let mut child = self
            .command()
            .args(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Begins a command whose end the test decides.
    pub(crate) fn begin(&self, line: &[&str]) -> Child {
        let mut command = self.command();
        command.args(line).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    /// Runs a command that must succeed, with a text on standard input.
    pub(crate) fn ok_with(&self, line: &str, input: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.run(&words, input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mcphub {line} failed: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed, and reads the JSON that it printed.
    pub(crate) fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --json"))).unwrap()
    }

    /// Imports servers, and grants a person everything on one of them through the group `devs`. What
    /// exists already stays.
    pub(crate) fn grant_all(&self, person: &str, server: &str, file: &Value) {
        let path = self.file("servers.json", &file.to_string());
        if !self.ok("user list").contains(person) {
            self.ok(&format!("user add {person} --role user"));
        }
        if !self.ok("group list").contains("devs") {
            self.ok("group add devs");
        }
        self.ok(&format!("group join devs {person}"));
        self.ok(&format!("server import {}", path.display()));
        self.ok(&format!("grant add devs {server} --rights read,write,execute"));
    }

    /// Makes a hub key and returns its text.
    pub(crate) fn key(&self, person: &str) -> String {
        self.json(&format!("key create {person} --name test"))["key"].as_str().unwrap().to_owned()
    }

    /// Starts the hub on a free port and waits until it listens.
    pub(crate) fn serve(&self) -> Serving {
        self.start(self.command())
    }

    /// Starts the hub where an earlier one was.
    pub(crate) fn serve_at(&self, address: &str) -> Serving {
        self.start_at(self.command(), address)
    }

    /// Starts the hub where the system lets it open only so many files.
    pub(crate) fn serve_with_files(&self, limit: u32) -> Serving {
        let hub = self.command();
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().envs(&self.variables);
        shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
        shell.arg(hub.get_program()).args(hub.get_args());
        self.start(shell)
    }

    /// Starts the hub where its data lie on a disk of their own, seen by nobody else but through
    /// `/proc/PID/root`; `options` are those of a tmpfs.
    pub(crate) fn serve_on_disk(&self, options: &str) -> Serving {
        self.start(self.on_disk(options, ""))
    }

    /// Tries the same on a disk that something was done to.
    pub(crate) fn try_serve_on_disk(&self, options: &str, mount: &str) -> Output {
        let mut command = self.on_disk(options, mount);
        command.args(["serve", "--listen", "127.0.0.1:0"]).output().unwrap()
    }

    fn on_disk(&self, options: &str, then: &str) -> Command {
        let hub = self.command();
        let (data, disk) = (self.data_dir(), self.folder.path().join("disk"));
        std::fs::create_dir_all(&disk).unwrap();
        let (data, disk) = (data.display(), disk.display());
        let then = if then.is_empty() { String::new() } else { format!("&& mount {then} '{data}'") };
        let mut shell = Command::new("unshare");
        shell.env_clear().envs(&self.variables).args([
            "--user",
            "--map-root-user",
            "--mount",
            "/bin/sh",
            "-c",
        ]);
        shell.arg(format!(
            "mount -t tmpfs -o {options} none '{disk}' && cp -a '{data}/.' '{disk}' && mount --move '{disk}' '{data}' {then} \
             && cd / && exec \"$0\" \"$@\""
        ));
        shell.arg(hub.get_program()).args(hub.get_args());
        shell
    }

    /// Runs a command where a hub's disk is to be seen, and reads the JSON that it printed.
    pub(crate) fn json_beside(&self, hub: &Serving, line: &str) -> Value {
        let command = self.command();
        let mut enter = Command::new("nsenter");
        enter.env_clear().envs(&self.variables).args(["--preserve-credentials", "--user", "--mount"]);
        enter.args(["--target", &hub.id().to_string()]).arg(command.get_program()).args(command.get_args());
        let output = enter.args(line.split_whitespace()).arg("--json").output().unwrap();
        let (printed, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "mcphub {line}: {printed} {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn start(&self, command: Command) -> Serving {
        self.start_at(command, "127.0.0.1:0")
    }

    fn start_at(&self, mut command: Command, address: &str) -> Serving {
        let mut child = command
            .args(["serve", "--listen", address])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.log())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the hub did not start: {line:?}: {}", self.logged()));
        Serving { child, address, log: self.log_path() }
    }

    /// Shows what the hub has logged.
    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log(&self) -> std::fs::File {
        std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("serve.log")
    }

    /// Writes a command of this installation, without its words.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcphub"));
        command.env_clear().envs(&self.variables).arg("--data-dir").arg(self.data_dir());
        command
    }
}

impl Serving {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reads how much memory the hub holds, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Reads a figure without labels that the hub shows of itself.
    pub(crate) fn metric(&self, name: &str) -> usize {
        let page = client::send(self.address, "GET", "/metrics", &[], "").body;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }

    /// Asks the hub to stop and waits until it has.
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let well = self.child.wait().unwrap().success();
        assert!(well, "the hub did not stop well: {}", std::fs::read_to_string(&self.log).unwrap());
    }

    /// Kills the hub as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.child.kill().expect("the hub can be ended");
            self.child.wait().expect("the hub has ended");
        }
    }
}

/// Waits until something is so, for at most ten seconds.
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(10), what, probe)
}

/// Waits until something is so, for a while.
pub(crate) fn eventually_within<T>(span: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + span;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Names what the test command installed.
pub(crate) fn tool(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"))
}

/// Says how often a hub is killed in a test: a few times, unless somebody wants to know it better.
pub(crate) fn kills() -> u64 {
    std::env::var("MCPHUB_TEST_KILLS").map_or(4, |kills| kills.parse().expect("a number"))
}

/// Makes a database of its own on the test command's server.
fn prepare(superuser: &str) -> BTreeMap<String, String> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("it_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcphub"))
        .args(["database", "prepare", "--json", "--name", &name, "--role-prefix", &name])
        .args(["--admin-url-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(superuser.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let urls: Value = serde_json::from_slice(&output.stdout).unwrap();
    let url = |key: &str| urls[key].as_str().unwrap().to_owned();
    BTreeMap::from([
        ("MCPHUB_DATABASE__URL".to_owned(), url("url")),
        ("MCPHUB_DATABASE__WORKER_URL".to_owned(), url("worker_url")),
    ])
}
