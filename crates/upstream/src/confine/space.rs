//! Namespaces: a child's own users, processes, network and mounts (`namespaces(7)`).

use std::fmt::Display;
use std::fs;
use std::io;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::files::SHARED_MEMORY;
use super::{Confinement, mounts};

/// The process numbers that the kernel gives out once and never again: when it has come to the last one, it goes on
/// behind these (`RESERVED_PIDS`).
const RESERVED_PIDS: u64 = 300;

/// Moves this process, which has one thread, into namespaces of its own; only what it starts next is in
/// the namespace of processes. What it starts keeps the right to mount, until it gives that up.
pub(super) fn enter(confinement: &Confinement) -> io::Result<()> {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if confinement.is_cut_off() {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    if confinement.is_cut_off() {
        raise_loopback()?;
    }
    let all = CapabilitySet::SYS_ADMIN;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: all, permitted: all, inheritable: all },
    )?;
    Ok(rustix::thread::configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true)?)
}

/// Mounts what belongs to the namespaces, and says whether memory to share by name is among it.
///
/// Inside some containers the kernel refuses a part. Then it is said on the standard error what the child has not.
pub(super) fn furnish(confinement: &Confinement) -> io::Result<bool> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let memory = mount("mcphub", SHARED_MEMORY, "tmpfs", flags, c"size=64m,mode=0700");
    lacking("no memory to share by name", memory);
    let processes = mount("proc", "/proc", "proc", flags, None);
    lacking("no `/proc` of its own: it sees the numbers of other processes", processes);
    if processes.is_ok() && pids_are_limited_apart() {
        // Later the numbers of all that live have to be among those that are given out again.
        let most = confinement.processes.saturating_add(RESERVED_PIDS);
        fs::write("/proc/sys/kernel/pid_max", most.to_string())?;
    }
    let mounts = mounts::protect(confinement, memory.is_ok());
    lacking(
        "no mounts that it can only read: it can change modes of files that are the hub's user's",
        mounts,
    );
    Ok(memory.is_ok())
}

fn lacking(what: &str, done: Result<(), impl Display>) {
    if let Err(error) = done {
        eprintln!("mcphub: the kernel refuses a part of the sandbox ({error}); the server has {what}");
    }
}

/// Says whether a namespace of processes has a limit of its own (Linux 6.14). It holds for the superuser
/// too, whom `RLIMIT_NPROC` exempts. In an older kernel it is the machine's.
fn pids_are_limited_apart() -> bool {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_str().unwrap_or_default().split(['.', '-']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) >= (6, 14)
}

/// Switches `lo` on: the proxy listens there.
fn raise_loopback() -> io::Result<()> {
    const NEW_LINK: u16 = 16; // RTM_NEWLINK
    const REQUEST_AND_ACK: u16 = 1 | 4; // NLM_F_REQUEST | NLM_F_ACK
    const ERROR: [u8; 2] = 2_u16.to_ne_bytes(); // NLMSG_ERROR
    const LOOPBACK: i32 = 1; // it is the first interface of every network namespace
    const UP: u32 = 1; // IFF_UP
    let mut message = Vec::with_capacity(32);
    // struct nlmsghdr { len, type, flags, sequence, port }, struct ifinfomsg { family, pad, type, index, flags, change }
    message.extend(32_u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut reply = [0; 64];
    let (length, _) = rustix::net::recv(&socket, &mut reply, RecvFlags::empty())?;
    let reply = reply.get(..length).unwrap_or_default();
    let code = reply.get(16..20).and_then(|code| Some(i32::from_ne_bytes(code.try_into().ok()?)));
    match code {
        Some(0) if reply.get(4..6) == Some(&ERROR) => Ok(()),
        Some(code) if code < 0 => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::other("the kernel's answer about `lo` makes no sense")),
    }
}

/// Closes every file but the standard streams: what whoever started the hub left open.
pub(super) fn close_inherited() -> io::Result<()> {
    let open = fs::read_dir("/proc/self/fd")?;
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // The listing's own is closed already.
        nix::unistd::close(number).unwrap_or(());
    }
    Ok(())
}

/// Puts the null device in the place of the standard input and output, so that their other ends learn
/// when the command closes them.
pub(crate) fn let_go_of_streams() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
