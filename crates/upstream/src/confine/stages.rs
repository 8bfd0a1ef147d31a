//! The steps from the supervisor to the child's command. `prepare` makes the namespaces and ends, so that
//! `confined`, the first process in them, is the supervisor's own child; `confined` waits for its word,
//! restricts itself, starts the command, and takes in what the command leaves behind.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};

use super::{Confinement, Space, calls, channel, files, limits, space};
use crate::settings::Namespaces;
use crate::supervisor::{KILL_ROUNDS, ROUND};

/// How this program is found: by what the kernel runs, whatever lies at its path by now.
const SELF: &str = "/proc/self/exe";
/// The exit code of a command that can't be run, as shells have it.
const CANNOT_START: u8 = 126;
/// The variables that tell programs to connect through the proxy.
const PROXY: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
/// What is not asked of the proxy: the child's own loopback.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Is a command that runs confined.
pub(crate) struct Started {
    /// The first process of its tree.
    pub(crate) first: Pid,
    /// Where its connections come in, if it has no other way out.
    pub(crate) listener: Option<TcpListener>,
    /// Tells the first process by its end that the supervisor has ended.
    pub(crate) life: OwnedFd,
}

/// Is what `prepare` tells the supervisor; the listener comes with it.
#[derive(Serialize, Deserialize)]
enum Prepared {
    /// The first process waits.
    Waits(i32),
    /// The kernel refuses the namespaces.
    Refused(String),
}

/// Lets the first process go; the command's standard input comes with it.
#[derive(Serialize, Deserialize)]
struct Go;

/// Starts a command with what the kernel offers, from the supervisor.
pub(crate) fn start(confinement: &Confinement, command: &[String]) -> io::Result<Started> {
    let reason = match confinement.namespaces {
        Namespaces::Off => "they are switched off".to_owned(),
        Namespaces::Preferred | Namespaces::Required => match attempt(confinement, Space::Own, command)? {
            Ok(started) => return Ok(started),
            Err(reason) => format!("the kernel refuses them: {reason}"),
        },
    };
    let refused = |text| Err(io::Error::other(format!("without namespaces ({reason}) {text}")));
    if confinement.namespaces == Namespaces::Required {
        return refused("nothing starts, as `[children] namespaces` says");
    }
    if !confinement.is_kept_by_port() {
        return refused("its `hosts` can't be kept: list `*` or nothing, or `machine`");
    }
    eprintln!("mcphub: without namespaces ({reason}) Landlock and seccomp confine alone");
    attempt(confinement, Space::Shared, command)?.map_err(io::Error::other)
}

fn attempt(
    confinement: &Confinement,
    space: Space,
    command: &[String],
) -> io::Result<Result<Started, String>> {
    let (ours, theirs) = channel::pair()?;
    let words = ["__child", "prepare", space.word(), &serde_json::to_string(confinement)?];
    let mut prepare = Command::new(SELF).args(words).args(command).stdin(theirs).spawn()?;
    let told = channel::receive(&ours);
    prepare.wait()?;
    let unprepared = |error| io::Error::other(format!("it can't be confined: {error}"));
    let (first, listener) = match told.map_err(unprepared)? {
        (Prepared::Waits(first), listener) => (first, listener.map(TcpListener::from)),
        (Prepared::Refused(reason), _) => return Ok(Err(reason)),
    };
    let first = Pid::from_raw(first).ok_or_else(|| unprepared(io::ErrorKind::InvalidData.into()))?;
    channel::send(&ours, &Go, Some(io::stdin().as_fd()))?;
    channel::receive::<Go>(&ours).map_err(unprepared)?;
    Ok(Ok(Started { first, listener, life: ours }))
}

/// Makes the namespaces and the first process in them, and ends. Its standard input leads to the supervisor.
pub(crate) fn prepare(space: Space, confinement: &Confinement, command: &[String]) -> io::Result<ExitCode> {
    if space == Space::Own
        && let Err(error) = space::enter(confinement)
    {
        channel::send(io::stdin(), &Prepared::Refused(error.to_string()), None)?;
        return Ok(ExitCode::SUCCESS);
    }
    let listener = match confinement.is_cut_off() {
        true => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?),
        false => None,
    };
    let port =
        listener.as_ref().map(TcpListener::local_addr).transpose()?.map_or(0, |address| address.port());
    let first = Command::new(SELF)
        .args(["__child", "confined", space.word(), &port.to_string(), &serde_json::to_string(confinement)?])
        .args(command)
        .spawn()?;
    let first = i32::try_from(first.id()).map_err(io::Error::other)?;
    channel::send(io::stdin(), &Prepared::Waits(first), listener.as_ref().map(AsFd::as_fd))?;
    Ok(ExitCode::SUCCESS)
}

/// Confines this process, runs the command in it, and returns its exit code. `port` is the proxy's, 0 if
/// there is none.
pub(crate) fn confined(
    space: Space,
    port: u16,
    confinement: &Confinement,
    command: &[String],
) -> io::Result<ExitCode> {
    space::close_inherited()?;
    let (Go, stdin) = channel::receive(io::stdin())?;
    let stdin = stdin.ok_or_else(|| io::Error::other("the standard input is missing"))?;
    let supervisor = io::stdin().as_fd().try_clone_to_owned()?;
    if space == Space::Own {
        // Now the supervisor is the parent, and its only thread that starts anything lives as long as it does. With
        // this process, the first of its namespace, all others end.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    channel::send(io::stdin(), &Go, None)?;
    if let Some(cgroup) = &confinement.cgroup {
        std::fs::write(cgroup.join("cgroup.procs"), "0")?;
    }
    let furnished = space == Space::Own && space::furnish(confinement)?;
    limits::set(confinement, space)?;
    limits::give_up_capabilities()?;
    let proxy = (port != 0).then_some(port);
    files::restrict(
        confinement,
        files::Reach { own_memory: furnished, by_port: space == Space::Shared, proxy },
    )?;
    for filter in calls::filters(confinement, space)? {
        seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
    }
    if space == Space::Shared {
        std::thread::Builder::new().spawn(move || end_with(&supervisor))?;
    }
    let proxy = proxy.map(|port| Proxy { port, for_loopback: confinement.reaches_loopback() });
    let main = spawn(command, stdin.into(), proxy)?;
    space::let_go_of_streams()?;
    wait(main)
}

/// Waits for the supervisor's end, and kills everything that was started here. Landlock lets signals reach that and
/// nothing else.
fn end_with(supervisor: &OwnedFd) {
    while channel::receive::<Go>(supervisor).is_ok() {}
    for _ in 0..KILL_ROUNDS {
        if nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::SIGKILL).is_err() {
            break;
        }
        std::thread::sleep(ROUND);
    }
    std::process::exit(i32::from(CANNOT_START));
}

/// Is the way out, as the command is told of it.
#[derive(Clone, Copy)]
struct Proxy {
    port: u16,
    /// What the command calls its loopback is the machine's, which was granted.
    for_loopback: bool,
}

fn spawn(command: &[String], stdin: Stdio, proxy: Option<Proxy>) -> io::Result<Pid> {
    let none = || io::Error::from(io::ErrorKind::InvalidInput);
    let (program, args) = command.split_first().ok_or_else(none)?;
    let mut command = Command::new(program);
    command.args(args).stdin(stdin);
    if let Some(Proxy { port, for_loopback }) = proxy {
        let address = format!("http://127.0.0.1:{port}");
        command.envs(PROXY.map(|name| (name, &address)));
        let not_asked = if for_loopback { "" } else { "localhost,127.0.0.1,::1" };
        command.envs(NO_PROXY.map(|name| (name, not_asked)));
        // Node's own `fetch` heeds the others only with it.
        command.env("NODE_USE_ENV_PROXY", "1");
    }
    let child = command.spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(none)
}

/// Takes in every process that ends, until the command does.
fn wait(main: Pid) -> io::Result<ExitCode> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => return Ok(exit_code(status).into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Turns a status into an exit code as shells do: 128 and the signal's number.
pub(crate) fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Says on standard error why a command can't be run, and returns the code for it.
pub(crate) fn cannot_start(command: &[String], error: &io::Error) -> ExitCode {
    eprintln!("mcphub: {} can't be run: {error}", command.first().map_or("the command", String::as_str));
    ExitCode::from(CANNOT_START)
}
