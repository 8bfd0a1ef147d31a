//! Child processes: how one starts, with exactly the declared environment, and how it ends.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mcphub_domain::Sandbox;
use mcphub_domain::sandbox::Hosts;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::confine::{self, Ground};
use crate::log::create_private;
use crate::settings::Settings;
use crate::supervisor::{GRACE, signal_tree};
use crate::target::ResolvedStdio;

/// How long a process has to end after its input is closed.
const FAREWELL: Duration = Duration::from_secs(2);
/// The variables in which an operator declares the proxy beyond.
const PROXY: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
/// How long its supervisor has to end the tree, beyond the tree's own grace.
const SUPERVISOR: Duration = Duration::from_secs(3);

/// Is a supervisor with its tree.
pub(crate) struct Process {
    child: Child,
}

/// Are the ends of a process's standard streams.
pub(crate) struct Streams {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

/// Says when a process ends, and how quickly.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// Its input closes, and it has time to end by itself.
    pub(crate) gently: CancellationToken,
    /// Its tree is killed.
    pub(crate) at_once: CancellationToken,
}

impl Process {
    /// Starts a process in a home directory of its own.
    pub(crate) async fn start(
        settings: &Settings,
        target: &ResolvedStdio,
        sandbox: &Sandbox,
        home: &Path,
    ) -> io::Result<(Self, Streams)> {
        let temporary = home.join("tmp");
        create_private(home).await?;
        create_private(&temporary).await?;
        let mut environment = environment(&settings.child_environment, target, home);
        let path = environment.get("PATH").map_or("", |path| path.as_str());
        let program = find(&target.command, path)?;
        let mut words = vec!["__child".to_owned(), "supervise".to_owned(), std::process::id().to_string()];
        match sandbox {
            Sandbox::Off => {
                tracing::warn!(command = target.command, "this server's process runs without a sandbox");
                words.push("off".to_owned());
            }
            Sandbox::On(profile) => {
                if matches!(profile.hosts, Hosts::Listed(_)) {
                    words.extend(lead_beyond(&mut environment, &settings.child_environment));
                }
                let ground = Ground { program: &program, target, home, settings };
                words.push(serde_json::to_string(&confine::confinement(profile, &ground)?)?);
            }
        }
        let mut command = Command::new(&settings.supervisor);
        command
            .args(words)
            .arg(program)
            .args(&target.args)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value.as_str())))
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let unfit = |error| io::Error::other(format!("{}: {error}", settings.supervisor.display()));
        let mut child = command.spawn().map_err(unfit)?;
        let missing = || io::Error::other("a standard stream is missing");
        let streams = Streams {
            stdin: child.stdin.take().ok_or_else(missing)?,
            stdout: child.stdout.take().ok_or_else(missing)?,
            stderr: child.stderr.take().ok_or_else(missing)?,
        };
        Ok((Self { child }, streams))
    }

    /// Waits until the process ends by itself or is asked to, and sees to it that its tree is gone.
    pub(crate) async fn keep(mut self, stop: &Stop) {
        let supervisor = self.pid();
        tokio::select! {
            ended = self.child.wait() => {
                if ended.is_ok_and(|status| status.signal().is_some()) {
                    end_orphans(supervisor);
                }
            }
            () = stop.gently.cancelled() => self.end_gently(stop).await,
            () = stop.at_once.cancelled() => self.end_at_once().await,
        }
    }

    /// Its input is closed already: wait, then ask, then kill.
    async fn end_gently(&mut self, stop: &Stop) {
        let left = tokio::select! {
            left = timeout(FAREWELL, self.child.wait()) => left.is_ok(),
            () = stop.at_once.cancelled() => false,
        };
        if left {
            return;
        }
        if !stop.at_once.is_cancelled() {
            self.signal(Signal::TERM);
            let ended = tokio::select! {
                ended = timeout(GRACE + SUPERVISOR, self.child.wait()) => ended.is_ok(),
                () = stop.at_once.cancelled() => false,
            };
            if ended {
                return;
            }
        }
        self.end_at_once().await;
    }

    async fn end_at_once(&mut self) {
        self.signal(Signal::INT);
        if timeout(SUPERVISOR, self.child.wait()).await.is_err() {
            // The supervisor itself hangs: kill the tree before it, or the tree is orphaned.
            if let Some(pid) = self.pid() {
                signal_tree(pid, Signal::KILL);
            }
            if let Err(error) = self.child.kill().await {
                tracing::warn!(%error, "a server's process can't be killed");
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid()
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!(%error, "a server's process is gone already");
        }
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }
}

impl Drop for Process {
    /// Ends the tree even if nobody waits for it; an ended child has no id any more.
    fn drop(&mut self) {
        self.signal(Signal::TERM);
    }
}

/// Ends what a supervisor left that was killed itself: the group that it led.
fn end_orphans(supervisor: Option<Pid>) {
    if let Some(group) = supervisor
        && let Err(error) = kill_process_group(group, Signal::KILL)
    {
        tracing::debug!(%error, "a killed supervisor left nothing behind");
    }
}

type Environment = BTreeMap<String, Zeroizing<String>>;

/// Puts the environment together: what an admin declared for all children, then the server's own.
fn environment(declared: &BTreeMap<String, String>, target: &ResolvedStdio, home: &Path) -> Environment {
    let mut all = Environment::new();
    for (name, folder) in [("HOME", home), ("TMPDIR", &home.join("tmp"))] {
        all.insert(name.to_owned(), Zeroizing::new(folder.to_string_lossy().into_owned()));
    }
    all.extend(declared.iter().map(|(name, value)| (name.clone(), Zeroizing::new(value.clone()))));
    all.extend(target.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

/// Leaves none but the operator's own word for the proxy beyond, and tells the supervisor that it is. The child
/// sees its supervisor's proxy in these variables, so that a definition loses nothing.
fn lead_beyond(environment: &mut Environment, declared: &BTreeMap<String, String>) -> Vec<String> {
    environment.retain(|name, _| !PROXY.contains(&name.as_str()));
    let ours: Vec<(&str, &String)> =
        PROXY.iter().filter_map(|name| Some((*name, declared.get(*name)?))).collect();
    environment
        .extend(ours.iter().map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).clone()))));
    let names: Vec<&str> = ours.iter().map(|(name, _)| *name).collect();
    if names.is_empty() { Vec::new() } else { vec!["via".to_owned(), names.join(",")] }
}

/// Finds a program on the declared `PATH`; the hub's own is not asked.
fn find(command: &str, path: &str) -> io::Result<PathBuf> {
    let missing = |text: String| Err(io::Error::new(io::ErrorKind::NotFound, text));
    if command.contains('/') {
        let program = PathBuf::from(command);
        return match program.is_absolute() && is_program(&program) {
            true => Ok(program),
            false => missing(format!("{command} is not the absolute path of a program")),
        };
    }
    let folders = path.split(':').map(Path::new).filter(|folder| folder.is_absolute());
    match folders.map(|folder| folder.join(command)).find(|program| is_program(program)) {
        Some(program) => Ok(program),
        None => missing(format!("{command} is not on the PATH that is declared for children")),
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use zeroize::Zeroizing;

    use super::{environment, find, lead_beyond};
    use crate::target::ResolvedStdio;

    #[test]
    fn programs_are_found_on_the_declared_path_only() {
        assert_eq!(find("sh", "/nowhere:/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
        for (command, path) in
            [("sh", ""), ("sh", "."), ("sh", "bin"), ("./sh", "/bin"), ("bin/sh", "/"), ("/etc/passwd", "")]
        {
            assert!(find(command, path).is_err(), "{command} {path}");
        }
    }

    #[test]
    fn a_server_s_own_variables_win_and_nothing_else_is_there() {
        let declared = BTreeMap::from([("PATH".into(), "/bin".into()), ("A".into(), "hub".into())]);
        let env = BTreeMap::from([("A".into(), Zeroizing::new("server".into()))]);
        let target = ResolvedStdio { command: "x".into(), args: Vec::new(), env };
        let all = environment(&declared, &target, Path::new("/home/x"));
        let shown: Vec<String> =
            all.iter().map(|(name, value)| format!("{name}={}", value.as_str())).collect();
        assert_eq!(shown, ["A=server", "HOME=/home/x", "PATH=/bin", "TMPDIR=/home/x/tmp"]);
    }

    #[test]
    fn the_proxy_beyond_is_the_operator_s_alone() {
        let env = ["HTTPS_PROXY", "http_proxy"].map(|name| (name.into(), Zeroizing::new("server".into())));
        let target = ResolvedStdio { command: "x".into(), args: Vec::new(), env: env.into() };
        let table = [
            (BTreeMap::new(), Vec::new(), None),
            (BTreeMap::from([("HTTPS_PROXY".into(), "hub".into())]), vec!["via", "HTTPS_PROXY"], Some("hub")),
        ];
        for (declared, via, expected) in table {
            let mut all = environment(&declared, &target, Path::new("/home/x"));
            assert_eq!(lead_beyond(&mut all, &declared), via);
            assert_eq!(all.get("HTTPS_PROXY").map(|value| value.as_str()), expected);
            assert!(!all.contains_key("http_proxy"));
        }
    }
}
