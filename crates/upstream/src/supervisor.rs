//! What runs between the hub and a child: it starts the command, and ends the command's whole tree
//! when the command ends, when the hub asks for it, or when the hub dies in any way.
//!
//! It adopts orphans (as a child subreaper), so that no descendant gets away by forking twice. The hub's
//! end is watched and not signalled: a parent-death signal fires when the *thread* that started the process
//! ends. It watches what a confined tree uses, and connects for it.

use std::fs;
use std::future::{Future, pending};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::time::Duration;

use mcphub_domain::sandbox::Hosts;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout_at};

use crate::confine::{self, Confinement, Egress, Group, Parent, Place, Space, Usage};

/// How long processes have between SIGTERM and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);
/// Killing takes rounds: a process can fork while it is killed.
pub(crate) const KILL_ROUNDS: u32 = 100;
pub(crate) const ROUND: Duration = Duration::from_millis(20);
/// How often it looks at what a confined tree uses.
const LOOK: Duration = Duration::from_millis(250);
/// The exit code of the hidden command when its words make no sense.
const USAGE: u8 = 2;
/// The exit code of what a signal ended is this and the signal's number, as shells have it.
const SIGNALLED: u8 = 128;
/// The exit code of a tree that was killed.
const KILLED: u8 = SIGNALLED + 9;

/// Is the body of the hidden `mcphub __child`, which takes over the whole process. Its words are for this
/// program alone:
///
/// - `supervise PARENT [via VARIABLES] CONFINEMENT|off COMMAND…` runs the command with the caller's standard
///   streams until it ends, `PARENT` ends, or a signal comes: SIGTERM gives the tree two seconds to end by
///   itself, SIGINT none. The exit code is the command's. `VARIABLES`, with commas, are those of the
///   environment in which the operator declared the proxy beyond; the rest of it is the server's own.
/// - `prepare` and `confined` are what it starts on the way to a confined command.
pub fn child(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((step, command)) = Step::parse(&words) else {
        eprintln!("mcphub: `__child` is for the hub itself");
        return ExitCode::from(USAGE);
    };
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let done = match step {
        Step::Supervise(parent, via, confinement) => supervise(parent, via, confinement.as_ref(), &command),
        Step::Prepare(space, confinement) => confine::prepare(space, &confinement, &command),
        Step::Confined(space, port, confinement) => confine::confined(space, port, &confinement, &command),
    };
    done.unwrap_or_else(|error| confine::cannot_start(&command, &error))
}

/// Is what a process does on the way to a command.
enum Step {
    Supervise(u32, Option<Parent>, Option<Confinement>),
    Prepare(Space, Confinement),
    Confined(Space, u16, Confinement),
}

impl Step {
    fn parse<'a>(words: &'a [&'a str]) -> Option<(Self, &'a [&'a str])> {
        let read = |json: &str| serde_json::from_str(json).ok();
        match words {
            ["supervise", parent, "via", variables, json, command @ ..] => {
                Some((Self::Supervise(parent.parse().ok()?, declared(variables), Some(read(json)?)), command))
            }
            ["supervise", parent, "off", command @ ..] => {
                Some((Self::Supervise(parent.parse().ok()?, None, None), command))
            }
            ["supervise", parent, json, command @ ..] => {
                Some((Self::Supervise(parent.parse().ok()?, None, Some(read(json)?)), command))
            }
            ["prepare", space, json, command @ ..] => {
                Some((Self::Prepare(Space::parse(space)?, read(json)?), command))
            }
            ["confined", space, port, json, command @ ..] => {
                Some((Self::Confined(Space::parse(space)?, port.parse().ok()?, read(json)?), command))
            }
            _ => None,
        }
    }
}

fn supervise(
    hub: u32,
    via: Option<Parent>,
    confinement: Option<&Confinement>,
    command: &[String],
) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut parent = watch(hub)?;
        // A session of its own: the terminal's Ctrl-C is for the hub, which ends its children itself.
        // It fails only in a process that leads a group already, which serves as well.
        if let Err(error) = rustix::process::setsid()
            && error != Errno::PERM
        {
            return Err(error.into());
        }
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut signals = Signals::new()?;
        let group = confinement.and_then(control_group);
        let confinement = confinement.cloned().map(|confinement| {
            let cgroup = group.as_ref().map(|group| group.path().to_owned());
            Confinement { cgroup, ..confinement }
        });
        let mut tree = Tree::start(confinement.as_ref(), via, command)?;
        confine::let_go_of_streams()?;
        let end = tree.wait(&mut signals, &mut parent).await;
        end_tree(&mut signals, &end).await;
        end.tell();
        Ok(end.code().into())
    })
}

/// Is a command with what belongs to it.
struct Tree {
    /// Its first process.
    first: Option<Pid>,
    /// What it may use together.
    limits: Option<Limits>,
    /// Its way out of a network of its own; it never ends.
    egress: Pin<Box<dyn Future<Output = ()>>>,
    /// Lets it know that this process lives.
    _life: Option<OwnedFd>,
}

struct Limits {
    most: Usage,
    looks: Interval,
}

impl Tree {
    fn start(confinement: Option<&Confinement>, via: Option<Parent>, command: &[String]) -> io::Result<Self> {
        let Some(confinement) = confinement else {
            let (program, args) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let child = Command::new(program).args(args).spawn()?;
            let first = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            return Ok(Self { first, limits: None, egress: Box::pin(pending()), _life: None });
        };
        let started = confine::start(confinement, command)?;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let most = Usage { memory: confinement.memory, threads: confinement.processes };
        let egress: Pin<Box<dyn Future<Output = ()>>> = match (&confinement.hosts, started.listener) {
            (Hosts::Listed(rules), Some(listener)) => {
                let egress = Egress::new(rules.clone(), via);
                Box::pin(async move {
                    let Err(error) = egress.serve(listener).await;
                    say(&format!("the server has no network any more: {error}"));
                    pending().await
                })
            }
            _ => Box::pin(pending()),
        };
        let (first, limits) = (Some(started.first), Some(Limits { most, looks }));
        Ok(Self { first, limits, egress, _life: Some(started.life) })
    }

    async fn wait(&mut self, signals: &mut Signals, parent: &mut oneshot::Receiver<()>) -> End {
        loop {
            // Signals merge, so reap all there is; one may have come before the first wait.
            if let Reaped::Found(status) = reap(self.first) {
                return End::Exited(status);
            }
            tokio::select! {
                _ = signals.child.recv() => {}
                _ = signals.terminate.recv() => return End::Asked,
                _ = signals.interrupt.recv() => return End::AskedAtOnce,
                _ = &mut *parent => return End::Asked,
                () = exceeded(self.limits.as_mut()) => return End::UsedTooMuch,
                () = &mut self.egress => {}
            }
        }
    }
}

/// Makes a control group for the tree where that can be; the other limits hold without it.
fn control_group(confinement: &Confinement) -> Option<Group> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    let root = if hybrid.exists() { hybrid } else { Path::new("/sys/fs/cgroup") };
    let place = Place { root, membership: &membership, supervisor: std::process::id() };
    Group::make(&place, confinement).unwrap_or_else(|error| {
        say(&format!("without a control group: {error}"));
        None
    })
}

/// Finds the proxy beyond. The environment is the child's, where definitions and people have their say, so
/// that only the hub's word for a variable makes it the operator's; a word can't hold the password itself.
fn declared(variables: &str) -> Option<Parent> {
    variables.split(',').find_map(|name| Parent::parse(std::env::var_os(name)?.to_str()?))
}

/// Says something on standard error, which the server's log takes in. That nobody reads it any more ends nothing.
fn say(text: &str) {
    drop(writeln!(io::stderr(), "mcphub: {text}"));
}

/// Waits until a tree uses more than it may.
async fn exceeded(limits: Option<&mut Limits>) {
    let Some(Limits { most, looks }) = limits else { return pending().await };
    loop {
        looks.tick().await;
        let used = Usage::below(rustix::process::getpid());
        if used.memory > most.memory {
            let most = most.memory >> 20;
            return say(&format!(
                "the server is ended: it uses more than {most} MiB (`sandbox`, `memoryMb`)"
            ));
        }
        if used.threads > most.threads {
            let most = most.threads;
            return say(&format!(
                "the server is ended: it is more than {most} threads (`sandbox`, `processes`)"
            ));
        }
    }
}

/// Opens the parent, makes sure that it is still the one that started this process, and tells when
/// it ends. A thread of its own waits; it ends with the process.
fn watch(parent: u32) -> io::Result<oneshot::Receiver<()>> {
    let gone = || io::Error::other("the process that started it is gone");
    let pid = i32::try_from(parent).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    if rustix::process::getppid() != Some(pid) {
        return Err(gone());
    }
    let (told, ended) = oneshot::channel();
    std::thread::Builder::new().name("parent".to_owned()).spawn(move || {
        let mut wanted = [PollFd::new(&fd, PollFlags::IN)];
        while poll(&mut wanted, None) == Err(Errno::INTR) {}
        // Dropping the sender tells it, whatever the wait ended with.
        drop(told);
    })?;
    Ok(ended)
}

struct Signals {
    child: Stream,
    terminate: Stream,
    interrupt: Stream,
}

/// Says why the tree ends.
enum End {
    /// The command ended.
    Exited(WaitStatus),
    /// The hub asked for it, or is gone.
    Asked,
    /// The hub asked for it, at once.
    AskedAtOnce,
    /// It uses more than it may.
    UsedTooMuch,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl End {
    fn code(&self) -> u8 {
        match self {
            Self::Exited(status) => confine::exit_code(*status),
            Self::Asked | Self::AskedAtOnce => 0,
            Self::UsedTooMuch => KILLED,
        }
    }

    /// Says how a command ended that ended by itself, and not well. On the way through a sandbox a signal has become an
    /// exit code.
    fn tell(&self) {
        let Self::Exited(status) = self else { return };
        match (status.terminating_signal(), self.code()) {
            (Some(signal), _) => say(&format!("the server was ended by signal {signal}")),
            (None, 0) => {}
            (None, code @ 129..=192) => {
                say(&format!(
                    "the server ended with exit code {code}, perhaps by signal {}",
                    code - SIGNALLED
                ));
            }
            (None, code) => say(&format!("the server ended with exit code {code}")),
        }
    }
}

enum Reaped {
    /// The wanted child ended.
    Found(WaitStatus),
    /// Others live on.
    Others,
    /// No child is left.
    None,
}

/// Takes note of all children that ended, adopted ones included.
fn reap(wanted: Option<Pid>) -> Reaped {
    let mut found = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if Some(pid) == wanted => found = Some(status),
            Ok(Some(_)) => {}
            Ok(None) => return found.map_or(Reaped::Others, Reaped::Found),
            Err(_) => return found.map_or(Reaped::None, Reaped::Found),
        }
    }
}

async fn end_tree(signals: &mut Signals, end: &End) {
    if matches!(end, End::Exited(_) | End::Asked) {
        signal_tree(rustix::process::getpid(), Signal::TERM);
        let deadline = Instant::now() + GRACE;
        loop {
            if matches!(reap(None), Reaped::None) {
                return;
            }
            let next = async {
                tokio::select! {
                    _ = signals.child.recv() => true,
                    _ = signals.interrupt.recv() => false,
                }
            };
            if !matches!(timeout_at(deadline, next).await, Ok(true)) {
                break;
            }
        }
    }
    for _ in 0..KILL_ROUNDS {
        signal_tree(rustix::process::getpid(), Signal::KILL);
        if matches!(reap(None), Reaped::None) {
            return;
        }
        sleep(ROUND).await;
    }
}

/// Sends a signal to every descendant of a process.
pub(crate) fn signal_tree(root: Pid, signal: Signal) {
    for pid in descendants(root) {
        if rustix::process::kill_process(pid, signal).is_err() {
            // It ended meanwhile, which is what the signal is for.
        }
    }
}

/// Lists the descendants of a process, by the parents that `/proc` tells.
pub(crate) fn descendants(root: Pid) -> Vec<Pid> {
    let processes = processes();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(processes.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

/// Lists all processes with their parents.
fn processes() -> Vec<(Pid, Pid)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name in brackets may hold anything, so read after its last bracket.
            let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
            Some((Pid::from_raw(pid)?, Pid::from_raw(parent)?))
        })
        .collect()
}
