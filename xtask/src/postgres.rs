//! One throw-away PostgreSQL cluster on a free port of the loopback address.
//!
//! It never outlives this process: a small shell holds the other end of a pipe and, when the pipe
//! closes for whatever reason, stops the server and removes its data.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::account::Account;
use crate::failure::Failure;
use crate::run;
use crate::tools::postgres::Programs;
use crate::tools::{make, remove};

/// Starts `$1` on the data folder `$2` with the further arguments, and ends it with the input.
///
/// PostgreSQL stops at once upon QUIT; TERM is for the first moment, when it still ignores QUIT.
const SUPERVISOR: &str = r#"
program=$1 data=$2
shift 2
exec 3<&0
"$program" -D "$data" "$@" 3<&- &
server=$!
{ cat >/dev/null; kill -TERM "$server"; kill -QUIT "$server"; } <&3 &
wait "$server"
kill "$!" 2>/dev/null
rm -rf "$data"
"#;

/// How often, and how patiently, a starting server is asked whether it is there: 30 s in all.
const ATTEMPTS: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// A running cluster; dropping it stops the server and removes its data.
pub(crate) struct Cluster {
    bin: PathBuf,
    account: Option<Account>,
    url: String,
    folder: PathBuf,
    supervisor: Child,
}

impl Cluster {
    /// Makes an empty cluster and starts it.
    pub(crate) fn start(programs: &Programs) -> Result<Self, Failure> {
        run::timed("PostgreSQL: starting", || {
            let folder = prepare(programs)?;
            let password = random_digits::<16>()?;
            initialize(programs, &folder, &password)?;
            let port = free_port()?;
            let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
            let supervisor = launch(programs, &folder, port)?;
            let mut cluster = Self {
                bin: programs.bin.clone(),
                account: programs.account.clone(),
                url,
                folder,
                supervisor,
            };
            cluster.wait_until_ready()?;
            Ok(cluster)
        })
    }

    /// Returns the superuser's URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the variables by which tests find the server.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let bin = self.bin.display().to_string();
        let mut all = vec![("MCPHUB_TEST_POSTGRES_URL", self.url.clone()), ("MCPHUB_TEST_POSTGRES_BIN", bin)];
        all.extend(self.account.iter().map(|account| ("MCPHUB_TEST_POSTGRES_USER", account.name.clone())));
        all
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            if self.answers() {
                return Ok(());
            }
            if !matches!(self.supervisor.try_wait(), Ok(None)) {
                break;
            }
            thread::sleep(PAUSE);
        }
        let log = fs::read_to_string(log(&self.folder)).unwrap_or_else(|cause| cause.to_string());
        Err(Failure::step("starting PostgreSQL", format!("it doesn't answer; its log says:\n{log}")))
    }

    fn answers(&self) -> bool {
        let mut query = Command::new(self.bin.join("psql"));
        query.args(["--no-psqlrc", "--quiet", "--command", "SELECT 1"]).arg("--dbname").arg(&self.url);
        query.env("PGCONNECT_TIMEOUT", "2").current_dir("/");
        run::succeeds(&mut query)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let stopped = self.supervisor.wait().map_err(|cause| Failure::step("stopping", cause.to_string()));
        if let Err(failure) = stopped.and_then(|_| remove(&self.folder)) {
            eprintln!("PostgreSQL: {failure}");
        }
    }
}

/// Makes the cluster's folder for the account that the server will run as.
fn prepare(programs: &Programs) -> Result<PathBuf, Failure> {
    make(&programs.clusters)?;
    set_mode(&programs.clusters, 0o755)?;
    remove_leftovers(&programs.clusters)?;
    let name = format!("{}-{}", std::process::id(), random_digits::<4>()?);
    let folder = programs.clusters.join(name);
    make(&folder)?;
    set_mode(&folder, 0o700)?;
    own(&folder, programs.account.as_ref())?;
    Ok(folder)
}

/// Removes what runs left that were killed together with their supervisor.
fn remove_leftovers(clusters: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(clusters).map_err(|cause| Failure::io("reading", clusters, cause))?;
    for entry in entries {
        let entry = entry.map_err(|cause| Failure::io("reading", clusters, cause))?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split_once('-')).map(|(owner, _)| owner);
        let owner_lives = owner.is_some_and(|owner| Path::new("/proc").join(owner).exists());
        if !owner_lives && is_old(&entry.path()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Tells whether a folder wasn't touched for a day, so that nobody in another container uses it.
fn is_old(folder: &Path) -> bool {
    let modified = fs::metadata(folder).and_then(|entry| entry.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_secs(24 * 60 * 60)))
}

fn initialize(programs: &Programs, folder: &Path, password: &str) -> Result<(), Failure> {
    let file = folder.join("password");
    fs::write(&file, password).map_err(|cause| Failure::io("writing", &file, cause))?;
    set_mode(&file, 0o600)?;
    own(&file, programs.account.as_ref())?;
    let mut initdb = command(&programs.bin.join("initdb"), programs.account.as_ref());
    initdb.args([
        "--username=postgres",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    initdb.arg("--pgdata").arg(data(folder)).arg("--pwfile").arg(&file);
    run::silent("initdb", &mut initdb)?;
    fs::remove_file(&file).map_err(|cause| Failure::io("removing", &file, cause))
}

fn launch(programs: &Programs, folder: &Path, port: u16) -> Result<Child, Failure> {
    let path = log(folder);
    let log = File::create(&path).map_err(|cause| Failure::io("creating", &path, cause))?;
    let errors = log.try_clone().map_err(|cause| Failure::io("opening", &path, cause))?;
    let mut shell = command(Path::new("sh"), programs.account.as_ref());
    shell.args(["-c", SUPERVISOR, "supervisor"]).arg(programs.bin.join("postgres")).arg(data(folder));
    for setting in settings(port) {
        shell.arg("-c").arg(setting);
    }
    // In a group of its own, so that Ctrl-C ends this process and only thereby the server.
    shell.process_group(0).stdin(Stdio::piped()).stdout(log).stderr(errors);
    shell.spawn().map_err(|cause| Failure::step("starting PostgreSQL", cause.to_string()))
}

fn settings(port: u16) -> [String; 5] {
    [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "max_connections=200".to_owned(),
        "fsync=on".to_owned(),
    ]
}

/// Returns a command that runs as `account`, in a folder that it can always enter.
fn command(program: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env("LC_ALL", "C");
    if let Some(account) = account {
        account.drop_to(&mut command);
    }
    command
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn own(path: &Path, account: Option<&Account>) -> Result<(), Failure> {
    let Some(account) = account else { return Ok(()) };
    chown(path, Some(account.uid), Some(account.gid)).map_err(|cause| Failure::io("giving away", path, cause))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    let permissions = Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(|cause| Failure::io("opening", path, cause))
}

/// Returns a port that is free now.
fn free_port() -> Result<u16, Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|cause| Failure::step("finding a port", cause.to_string()))
}

/// Returns `N` random bytes in hexadecimal digits.
fn random_digits<const N: usize>() -> Result<String, Failure> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    let read = File::open(path).and_then(|mut source| source.read_exact(&mut bytes));
    read.map_err(|cause| Failure::io("reading", path, cause))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the supervisor over a program that does `script`, in place of a server.
    fn supervise(name: &str, script: &str) -> (Child, PathBuf) {
        let folder = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
        remove(&folder).unwrap();
        make(&data(&folder)).unwrap();
        let program = folder.join("program");
        // Written by another process: a file that this one has open for writing can't be executed.
        let mut write = Command::new("sh");
        write.args(["-c", r#"printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod +x "$1""#, "write"]);
        run::silent("writing a program", write.arg(&program).arg(script)).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", SUPERVISOR, "supervisor"]).arg(program).arg(data(&folder));
        (shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), folder)
    }

    #[test]
    fn the_server_ends_when_its_owner_is_gone() {
        let (mut supervisor, folder) = supervise("gone", r#"sleep 10; touch "$2.finished""#);
        drop(supervisor.stdin.take());
        supervisor.wait().unwrap();
        let finished = folder.join("data.finished").exists();
        let data_is_left = data(&folder).exists();
        remove(&folder).unwrap();
        assert!(!finished, "the program ran to its own end");
        assert!(!data_is_left);
    }

    #[test]
    fn the_supervisor_ends_with_its_server() {
        let (mut supervisor, folder) = supervise("early", "exit 1");
        let lifeline = supervisor.stdin.take();
        supervisor.wait().unwrap();
        remove(&folder).unwrap();
        drop(lifeline);
    }

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, other) = (random_digits::<16>().unwrap(), random_digits::<16>().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}
