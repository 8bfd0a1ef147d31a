//! Mounts of a child's own. Landlock doesn't rule over modes, owners, times and attributes of files; where a mount can
//! only be read, nobody changes them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_bind_recursive, mount_remount};

use super::{Confinement, files};

/// What the kernel may have locked on a mount, and has to be said again with every change.
const KEPT: [(&str, MountFlags); 6] = [
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
];

/// Is a line of `/proc/self/mountinfo`.
#[derive(PartialEq, Eq, Debug)]
struct Mounted {
    place: PathBuf,
    flags: MountFlags,
}

/// Makes everything unchangeable but what the child may change, and the memory that it shares by name if that is its
/// own. What it may change is mounted over itself before.
pub(super) fn protect(confinement: &Confinement, own_memory: bool) -> io::Result<()> {
    let mut changed: Vec<&Path> = confinement.write.iter().map(PathBuf::as_path).collect();
    changed.push(&confinement.home);
    for path in &changed {
        let opened = files::open(path)?;
        let place = format!("/proc/self/fd/{}", opened.as_raw_fd());
        mount_bind_recursive(&place, &place)?;
    }
    // The folder that it is in lies on the mount below.
    rustix::process::chdir(&confinement.home)?;
    changed.extend(own_memory.then_some(Path::new(files::SHARED_MEMORY)));
    let mounted = fs::read("/proc/self/mountinfo")?;
    for Mounted { place, flags } in mounted.split(|byte| *byte == b'\n').filter_map(Mounted::parse) {
        if changed.iter().any(|path| place.starts_with(path)) {
            continue;
        }
        match mount_remount(&place, MountFlags::BIND | MountFlags::RDONLY | flags, "") {
            // Another mount hides it, or its folder is closed: then the child doesn't reach it either.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::INVAL) => {}
            Err(error) => return Err(io::Error::other(format!("{}: {error}", place.display()))),
        }
    }
    Ok(())
}

impl Mounted {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ').skip(4);
        let (place, options) = (fields.next()?, std::str::from_utf8(fields.next()?).ok()?);
        let kept = KEPT.iter().filter(|(name, _)| options.split(',').any(|option| option == *name));
        let flags = kept.fold(MountFlags::empty(), |flags, (_, flag)| flags | *flag);
        Some(Self { place: PathBuf::from(OsString::from_vec(unescape(place))), flags })
    }
}

/// Reads a path in which blanks, line breaks and backslashes stand as `\` and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(digits.unwrap_or(*first));
        rest = after.get(digits.map_or(0, |_| 3)..).unwrap_or_default();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{MountFlags, Mounted};

    #[test]
    fn a_line_is_read_with_what_is_locked_on_it() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134c rw,nosuid,relatime master:1 - ext3 /dev/root rw";
        let place = r"/mnt/a b\c".into();
        let flags = MountFlags::NOSUID | MountFlags::RELATIME;
        assert_eq!(Mounted::parse(line), Some(Mounted { place, flags }));
        assert_eq!(Mounted::parse(b""), None);
    }
}
