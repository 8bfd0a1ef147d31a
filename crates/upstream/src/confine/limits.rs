//! What a process may use, by resource limits (`setrlimit(2)`), and the capabilities that it gives up.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities};

use super::{Confinement, Space};

/// How many files and sockets one process may have open.
const FILES: u64 = 4_096;
/// How long one file may grow, in bytes.
const FILE: u64 = 4_096 * 1024 * 1024;

/// Sets the limits, for this process and what it starts.
pub(super) fn set(confinement: &Confinement, space: Space) -> io::Result<()> {
    let mut limits = vec![
        (Resource::Core, 0),
        (Resource::Nofile, FILES),
        (Resource::Fsize, FILE),
        (Resource::Data, confinement.memory),
    ];
    // In a space that is shared, the limit would count every process of the user.
    if space == Space::Own {
        limits.push((Resource::Nproc, confinement.processes));
    }
    for (resource, most) in limits {
        let most = match rustix::process::getrlimit(resource).maximum {
            Some(maximum) => most.min(maximum),
            None => most,
        };
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// Gives up every capability; without new privileges, none comes back with another program.
pub(super) fn give_up_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}
