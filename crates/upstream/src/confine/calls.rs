//! The system calls that no MCP server needs: those that reach other processes, the kernel's own
//! configuration, or namespaces and interfaces in which the other rules don't hold.

use std::collections::BTreeMap;
use std::io;

use mcphub_domain::sandbox::Hosts;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

use super::{Confinement, Space};

/// Refused with `EPERM`, whatever the arguments.
const DENIED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// The memory, queues and semaphores of System V: the machine's, unless the child has a namespace for them.
const MACHINES_MEMORY: &[i64] = &[
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shmget,
];

/// The namespaces that `clone` could make.
const NAMESPACES: [i32; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWTIME,
];
/// Types into a terminal as its user would (`libc` has it in other widths elsewhere).
const TIOCSTI: i32 = 0x5412;
/// The bits of a socket's type that say which it is, without its flags (`SOCK_TYPE_MASK`).
const TYPE: u64 = 0xf;

/// Makes the filters: what is refused, what seems not to exist, and other names for the same calls.
pub(super) fn filters(confinement: &Confinement, space: Space) -> io::Result<[BpfProgram; 3]> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().map(|number| (*number, Vec::new())).collect();
    let flags = NAMESPACES.into_iter().map(|flag| rule(&[(0, SeccompCmpOp::MaskedEq(bits(flag)), flag)]));
    refused.insert(libc::SYS_clone, flags.collect::<io::Result<_>>()?);
    refused.insert(libc::SYS_ioctl, vec![rule(&[(1, SeccompCmpOp::Eq, TIOCSTI)])?]);
    refused.insert(libc::SYS_socket, sockets(confinement, space)?);
    if confinement.is_cut_off() {
        // Landlock doesn't rule over datagrams to named Unix sockets, which every datagram socket can send.
        let kinds = [libc::SOCK_DGRAM, libc::SOCK_RAW];
        let kinds = kinds.into_iter().map(|kind| rule(&[(1, SeccompCmpOp::MaskedEq(TYPE), kind)]));
        refused.insert(libc::SYS_socketpair, kinds.collect::<io::Result<_>>()?);
    }
    if space == Space::Shared {
        refused.extend(MACHINES_MEMORY.iter().map(|number| (*number, Vec::new())));
    }
    if space == Space::Shared && confinement.is_cut_off() {
        refused.extend(unruled()?);
    }
    // The flags of `clone3` lie in memory, where no filter sees them; without it libraries use `clone`.
    let missing = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([filter(refused, libc::EPERM)?, filter(missing, libc::ENOSYS)?, other_numbers()])
}

/// Refuses the numbers of x86-64's second set of calls (x32), where a kernel has it: the lists name the first.
fn other_numbers() -> BpfProgram {
    const FIRST: u32 = 0x4000_0000; // __X32_SYSCALL_BIT
    const NUMBER: u32 = 0; // where `seccomp_data` has it
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const IS_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    vec![
        step(LOAD, NUMBER),
        sock_filter { jf: 1, ..step(IS_AT_LEAST, FIRST) },
        step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Refuses the sockets that reach past the rules about files and connections.
///
/// Landlock doesn't rule over named Unix sockets (a database's, a container engine's), so whoever may not
/// reach all of the machine makes none; pairs of connected ones are another call. Where the network is the
/// machine's and Landlock rules over TCP alone, the internet has nothing but TCP.
fn sockets(confinement: &Confinement, space: Space) -> io::Result<Vec<SeccompRule>> {
    let not = |family| (0, SeccompCmpOp::Ne, family);
    let is = |family| (0, SeccompCmpOp::Eq, family);
    let mut known = vec![not(libc::AF_NETLINK)];
    // Landlock rules over ports, whatever the address; so who may connect to nothing has no such socket.
    if space == Space::Own || confinement.hosts != Hosts::Listed(Vec::new()) {
        known.extend([not(libc::AF_INET), not(libc::AF_INET6)]);
    }
    if !confinement.is_cut_off() {
        known.push(not(libc::AF_UNIX));
    }
    let mut rules = vec![known];
    for family in [libc::AF_INET, libc::AF_INET6] {
        rules.push(vec![is(family), (1, SeccompCmpOp::MaskedEq(TYPE), libc::SOCK_RAW)]);
        if confinement.is_cut_off() && space == Space::Shared {
            rules.push(vec![is(family), (1, SeccompCmpOp::MaskedEq(TYPE), libc::SOCK_DGRAM)]);
            rules.push(vec![is(family), (2, SeccompCmpOp::Gt, libc::IPPROTO_TCP)]);
        }
    }
    rules.iter().map(|conditions| rule(conditions)).collect()
}

/// Refuses what connects, or lets others connect, past Landlock's rule about ports: data that open a connection (TCP
/// Fast Open), and listening on whatever port the kernel picks.
fn unruled() -> io::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let sending = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];
    let opening = SeccompCmpOp::MaskedEq(bits(libc::MSG_FASTOPEN));
    let rules = sending
        .into_iter()
        .map(|(number, flags)| Ok((number, vec![rule(&[(flags, opening.clone(), libc::MSG_FASTOPEN)])?])));
    rules.chain([Ok((libc::SYS_listen, Vec::new()))]).collect()
}

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, error: i32) -> io::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let refused = SeccompAction::Errno(error.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

/// Is a condition: which argument, how it is compared, and with what.
type Condition = (u8, SeccompCmpOp, i32);

fn rule(conditions: &[Condition]) -> io::Result<SeccompRule> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), bits(*value))
    });
    let conditions = conditions.collect::<Result<_, _>>().map_err(io::Error::other)?;
    SeccompRule::new(conditions).map_err(io::Error::other)
}

/// Reads a C constant as the bits that the kernel is handed.
const fn bits(value: i32) -> u64 {
    value.cast_unsigned() as u64
}
