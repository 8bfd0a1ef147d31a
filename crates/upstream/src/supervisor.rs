//! What runs between the hub and a child: it starts the command, and ends the command's whole tree
//! when the command ends, when the hub asks for it, or when the hub dies in any way.
//!
//! It adopts orphans (as a child subreaper), so that no descendant gets away by forking twice. The
//! parent-death signal is not used: it fires when the *thread* that started the process ends.

use std::fs;
use std::io;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

/// How long processes have between SIGTERM and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);
const KILL_ROUNDS: u32 = 100;
const ROUND: Duration = Duration::from_millis(20);
const CANNOT_START: u8 = 126;

/// Runs `command` with the caller's standard streams until it ends, `parent` ends, or a signal comes:
/// SIGTERM gives the tree two seconds to end by itself, SIGINT none. Returns the command's exit code.
///
/// It is the body of the hidden `mcphub __child` and takes over the whole process.
pub fn supervise(parent: u32, command: &str, args: &[String]) -> ExitCode {
    match run(parent, command, args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mcphub: {command} can't be run: {error}");
            ExitCode::from(CANNOT_START)
        }
    }
}

fn run(parent: u32, command: &str, args: &[String]) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut parent = watch(parent)?;
        // A session of its own: the terminal's Ctrl-C is for the hub, which ends its children itself.
        // It fails only in a process that leads a group already, which serves as well.
        if let Err(error) = rustix::process::setsid()
            && error != Errno::PERM
        {
            return Err(error.into());
        }
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let mut signals = Signals::new()?;
        let child = Command::new(command).args(args).spawn()?;
        let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let end = wait(&mut signals, &mut parent, child).await;
        end_tree(&mut signals, &end).await;
        Ok(end.code())
    })
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
    fn code(&self) -> ExitCode {
        let code = match self {
            Self::Exited(status) => status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
                .unwrap_or(1),
            Self::Asked | Self::AskedAtOnce => 0,
        };
        ExitCode::from(u8::try_from(code).unwrap_or(1))
    }
}

async fn wait(signals: &mut Signals, parent: &mut oneshot::Receiver<()>, child: Option<Pid>) -> End {
    loop {
        // Signals merge, so reap all there is; one may have come before the first wait.
        if let Reaped::Found(status) = reap(child) {
            return End::Exited(status);
        }
        tokio::select! {
            _ = signals.child.recv() => {}
            _ = signals.terminate.recv() => return End::Asked,
            _ = signals.interrupt.recv() => return End::AskedAtOnce,
            _ = &mut *parent => return End::Asked,
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
    if !matches!(end, End::AskedAtOnce) {
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
    // Killing takes rounds: a process can fork while the tree is read.
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
