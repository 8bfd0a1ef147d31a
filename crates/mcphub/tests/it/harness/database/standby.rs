//! A PostgreSQL of the test's own with a synchronous standby: what the first acknowledges, the second has.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{eventually, tool};

const PASSWORD: &str = "a-password-of-a-test";

/// Is the server that serves first.
pub(crate) struct Primary(Server);

/// Says how a server is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shutdown {
    /// It says farewell to its clients and writes everything down.
    Fast,
    /// It ends at once, and recovers when it starts again.
    Immediate,
}

/// Is the one that takes its place.
pub(crate) struct Standby(Server);

struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Primary {
    /// Makes a cluster and starts it.
    pub(crate) fn start() -> Self {
        let folder = folder();
        let file = folder.path().join("password");
        std::fs::write(&file, PASSWORD).unwrap();
        give(&file);
        run(
            "initdb",
            &["--username=postgres", "--auth=scram-sha-256", "--locale=C", "--no-sync"],
            |initdb| {
                initdb.arg("--pgdata").arg(folder.path().join("data")).arg("--pwfile").arg(&file);
            },
        );
        Self(Server::start(folder))
    }

    /// Returns the superuser's address.
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    /// Stops it.
    pub(crate) fn stop(&mut self, how: Shutdown) {
        self.0.end(how);
    }

    /// Starts it again at the same address.
    pub(crate) fn start_again(&mut self) {
        self.0.child = Server::spawn(&self.0.folder, self.0.port);
        eventually("the server answers again", || self.0.ask("SELECT 1"));
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Standby {
    /// Copies a server and follows it from here on; commits wait for the copy.
    pub(crate) fn of(primary: &Primary) -> Self {
        let folder = folder();
        run("pg_basebackup", &["--write-recovery-conf", "--checkpoint=fast", "--no-sync"], |copy| {
            copy.arg("--pgdata").arg(folder.path().join("data")).arg("--dbname").arg(primary.url());
        });
        let standby = Self(Server::start(folder));
        primary.0.run("ALTER SYSTEM SET synchronous_standby_names = '*'");
        primary.0.run("SELECT pg_reload_conf()");
        let state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        eventually("the standby follows", || (primary.0.run(state) == "1").then_some(()));
        standby
    }

    /// Makes it the one that serves.
    pub(crate) fn promote(&self) {
        self.0.run("SELECT pg_promote()");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.0.port).into()
    }
}

impl Server {
    fn start(folder: TempDir) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let server = Self { child: Self::spawn(&folder, port), port, folder };
        eventually("the server answers", || server.ask("SELECT 1"));
        server
    }

    fn spawn(folder: &TempDir, port: u16) -> Child {
        let mut server = command("postgres");
        server.arg("-D").arg(folder.path().join("data"));
        for setting in [format!("port={port}"), "unix_socket_directories=".to_owned()] {
            server.arg("-c").arg(setting);
        }
        server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Ends it with all its processes.
    fn end(&mut self, how: Shutdown) {
        let signal = match how {
            Shutdown::Fast => "-INT",
            Shutdown::Immediate => "-QUIT",
        };
        let ended = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(ended.is_ok_and(|status| status.success()), "{} can be ended", self.folder.path().display());
        self.child.wait().expect("it has ended");
    }

    fn url(&self) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    fn run(&self, statement: &str) -> String {
        self.ask(statement).unwrap_or_else(|| panic!("{statement}"))
    }

    fn ask(&self, statement: &str) -> Option<String> {
        let mut psql = command("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", statement]);
        let output = psql.arg(self.url()).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.end(Shutdown::Immediate);
        }
    }
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    give(folder.path());
    folder
}

/// Gives a file to the account that PostgreSQL runs as, which isn't root.
fn give(path: &Path) {
    if let Some((user, group)) = account() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

fn account() -> Option<(u32, u32)> {
    let name = std::env::var("MCPHUB_TEST_POSTGRES_USER").ok()?;
    let id = |kind: &str| {
        let output = Command::new("id").args([kind, &name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    Some((id("-u"), id("-g")))
}

fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(PathBuf::from(tool("MCPHUB_TEST_POSTGRES_BIN")).join(program.as_ref()));
    command.current_dir("/").env("LC_ALL", "C");
    if let Some((user, group)) = account() {
        command.uid(user).gid(group);
    }
    command
}

fn run(program: &str, args: &[&str], more: impl FnOnce(&mut Command)) {
    let mut command = command(program);
    command.args(args);
    more(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
