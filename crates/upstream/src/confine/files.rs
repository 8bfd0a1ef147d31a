//! What a child may read, execute and change, by Landlock; and, where the network is the machine's, which
//! TCP port it may connect to. Landlock also keeps it from other processes' memory and environment
//! (`ptrace` access, which `/proc` asks for), from signalling them, and from their abstract sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::Confinement;

/// The oldest Landlock that keeps everything (Linux 6.12): signals and abstract sockets came with it.
const NEEDED: ABI = ABI::V6;
/// Folders of programs and libraries, which hold nobody's secrets.
pub(super) const SYSTEM: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];
/// What programs look up of the system, without what only administrators read.
const LOOKED_UP: [&str; 25] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
];
/// What programs ask about the machine and themselves. Other processes' secrets in `/proc` need `ptrace`
/// access.
const MACHINE: [&str; 3] = ["/proc", "/sys/devices/system/cpu", "/sys/fs/cgroup"];
/// Devices that hold nothing.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Memory that processes share by name: the child's own, if it has a space of its own.
pub(super) const SHARED_MEMORY: &str = "/dev/shm";

/// Says what of the machine a child has for itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// The memory that processes share by name is its own.
    pub(super) own_memory: bool,
    /// The network is the machine's, so that ports have to be ruled over.
    pub(super) by_port: bool,
    /// The proxy's port.
    pub(super) proxy: Option<u16>,
}

/// Applies the rules to this thread and everything that it starts. There is no way back.
///
/// Fails if the kernel can't keep all of them.
pub(super) fn restrict(confinement: &Confinement, reach: Reach) -> io::Result<()> {
    let granted = granted(confinement)?;
    let status = rules(confinement, reach)
        .and_then(|rules| rules.add_rules(granted.into_iter().map(Ok::<_, RulesetError>)))
        .and_then(RulesetCreated::restrict_self)
        .map_err(|error| io::Error::other(format!("Landlock of Linux 6.12 or newer is needed: {error}")))?;
    if status.ruleset == RulesetStatus::FullyEnforced && status.no_new_privs {
        return Ok(());
    }
    Err(io::Error::other(
        "Landlock of Linux 6.12 or newer is needed: the kernel keeps only a part of the rules",
    ))
}

/// Rules over everything, and grants what every child has.
fn rules(confinement: &Confinement, reach: Reach) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    let by_port = confinement.is_cut_off() && reach.by_port;
    if by_port {
        rules = rules.handle_access(AccessNet::ConnectTcp | AccessNet::BindTcp)?;
    }
    let look: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = rules
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, AccessFs::from_read(NEEDED)))?
        .add_rules(path_beneath_rules(LOOKED_UP.iter().chain(&MACHINE), look))?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::ReadFile | AccessFs::WriteFile))?;
    if reach.own_memory {
        rules = rules.add_rules(path_beneath_rules([SHARED_MEMORY], changing() & !AccessFs::Execute))?;
    }
    match reach.proxy.filter(|_| by_port) {
        Some(port) => rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp)),
        None => Ok(rules),
    }
}

/// Opens what this child is granted. It must exist: a grant that does nothing would hide a mistake.
fn granted(confinement: &Confinement) -> io::Result<Vec<PathBeneath<OwnedFd>>> {
    let read = confinement.read.iter().map(|path| (path, AccessFs::from_read(NEEDED)));
    let write = confinement.write.iter().chain([&confinement.home]).map(|path| (path, changing()));
    read.chain(write)
        .map(|(path, access)| {
            let opened = open(path)?;
            let is_folder = FileType::from_raw_mode(fstat(&opened)?.st_mode) == FileType::Directory;
            let access = if is_folder { access } else { access & AccessFs::from_file(NEEDED) };
            Ok(PathBeneath::new(opened, access))
        })
        .collect()
}

/// Opens a path that had no links when it was granted. If one is there now, somebody turned it elsewhere.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// Is everything that can be done with files, but for making and driving devices.
fn changing() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEEDED) & !(AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev)
}

/// Lists all folders that every child may read.
pub(super) fn common() -> impl Iterator<Item = PathBuf> {
    SYSTEM.iter().chain(&LOOKED_UP).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::{Confinement, granted};

    #[test]
    fn a_path_that_was_turned_into_a_link_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        for name in ["home", "a/granted", "b/granted"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        let confinement = Confinement {
            home: at("home"),
            read: vec![at("a/granted")],
            write: Vec::new(),
            hosts: mcphub_domain::sandbox::Hosts::default(),
            namespaces: crate::settings::Namespaces::Off,
            memory: 0,
            processes: 0,
            cgroup: None,
        };
        assert_eq!(granted(&confinement).unwrap().len(), 2);
        for turned in ["a/granted", "a"] {
            std::fs::rename(at(turned), at("away")).unwrap();
            std::os::unix::fs::symlink(at("b"), at(turned)).unwrap();
            assert!(granted(&confinement).is_err(), "{turned}");
            std::fs::remove_file(at(turned)).unwrap();
            std::fs::rename(at("away"), at(turned)).unwrap();
        }
    }
}
