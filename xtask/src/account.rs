//! Who runs this, and as whom a server runs that refuses to run as root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;

/// The account that every Linux distribution has and that owns nothing.
const UNPRIVILEGED: &str = "nobody";

/// An entry of the account database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// The account's name.
    pub(crate) name: String,
    /// The user's number.
    pub(crate) uid: u32,
    /// The main group's number.
    pub(crate) gid: u32,
}

impl Account {
    /// Returns the account to drop to when this runs as root, else nothing.
    pub(crate) fn unprivileged() -> Result<Option<Self>, Failure> {
        if !is_root()? {
            return Ok(None);
        }
        let path = Path::new("/etc/passwd");
        let text = fs::read_to_string(path).map_err(|cause| Failure::io("reading", path, cause))?;
        let account = text.lines().filter_map(Self::parse).find(|account| account.name == UNPRIVILEGED);
        account.map(Some).ok_or_else(|| {
            let remedy = "PostgreSQL doesn't run as root; add the account, or don't run this as root";
            Failure::missing(format!("the account `{UNPRIVILEGED}`"), remedy)
        })
    }

    /// Makes `command` run as this account, without further groups.
    pub(crate) fn drop_to(&self, command: &mut Command) {
        command.gid(self.gid).uid(self.uid);
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid })
    }
}

/// Tells whether this process may do everything.
pub(crate) fn is_root() -> Result<bool, Failure> {
    let own = Path::new("/proc/self");
    fs::metadata(own).map(|entry| entry.uid() == 0).map_err(|cause| Failure::io("reading", own, cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_by_its_fields() {
        let account = Account::parse("nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin");
        assert_eq!(account, Some(Account { name: "nobody".to_owned(), uid: 65534, gid: 65533 }));
    }

    #[test]
    fn a_broken_entry_is_no_account() {
        assert_eq!(Account::parse("nobody:x"), None);
        assert_eq!(Account::parse("nobody:x:many:0"), None);
    }
}
