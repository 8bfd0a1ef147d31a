//! What the process of a stdio server may touch beyond the default profile.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Component, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How much memory a server's processes may use together unless it says otherwise, in MiB.
const MEMORY_MB: u32 = 2_048;
/// How many processes and threads they may be.
const PROCESSES: u32 = 512;

/// Says how a server's process is confined. Written as `"off"` or as what the default profile lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sandbox {
    /// Not at all: it can do what the hub's own user can.
    Off,
    /// It has the default profile and this.
    On(SandboxProfile),
}

/// Is what a server's process may do beside reading the system's programs and writing its own home.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SandboxProfile {
    /// Files and folders that it may read and execute.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub read: BTreeSet<PathBuf>,
    /// Files and folders that it may also change.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub write: BTreeSet<PathBuf>,
    /// Where it may connect to.
    #[serde(skip_serializing_if = "Hosts::is_default")]
    pub hosts: Hosts,
    /// How much memory its processes may use together, in MiB: 64 to 1048576.
    #[serde(skip_serializing_if = "is_default_memory")]
    pub memory_mb: u32,
    /// How many processes and threads they may be: 16 to 32768.
    #[serde(skip_serializing_if = "is_default_processes")]
    pub processes: u32,
}

/// Says where a process may connect to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Hosts {
    /// To these alone, through the hub's proxy.
    Listed(Vec<HostRule>),
    /// Wherever the machine can, Unix sockets included. Written as `"machine"`.
    Machine(Machine),
}

/// Is the word for the machine's own network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// The machine's own network.
    Machine,
}

/// Is one place that a process may connect to, with or without a port: `*` (every public host),
/// `api.example.com`, `*.example.com:443`, `10.0.0.0/8:5432`, `[::1]:8080`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRule {
    place: Place,
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Public,
    /// Public hosts under this name.
    Under(String),
    /// The host of this name where it is public, and `localhost` on the machine's own loopback.
    Name(String),
    Network(IpNet),
}

/// Is what a connection leads to: the name that was asked for, and one address that it has.
#[derive(Clone, Copy, Debug)]
pub struct Contact<'a> {
    /// The name, or the address in words.
    pub host: &'a str,
    /// The address, unless another looks the name up.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// Whether the address belongs to the public internet, as far as one can tell.
    pub public: bool,
}

/// Says what is wrong with a sandbox.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidSandbox {
    /// A path is relative, goes up, or is everything.
    #[error("{0:?}: expected an absolute path below `/` without `..`")]
    Path(PathBuf),
    /// A host can't be read.
    #[error(
        "hosts: {0:?}: expected `*`, a name, `*.name`, an address or a network, each with or without `:port`"
    )]
    Host(String),
    /// The memory is out of bounds.
    #[error("memoryMb is {0}: expected 64 to 1048576")]
    Memory(u32),
    /// The number of processes is out of bounds.
    #[error("processes is {0}: expected 16 to 32768")]
    Processes(u32),
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::On(SandboxProfile::default())
    }
}

impl Default for SandboxProfile {
    fn default() -> Self {
        Self {
            read: BTreeSet::new(),
            write: BTreeSet::new(),
            hosts: Hosts::default(),
            memory_mb: MEMORY_MB,
            processes: PROCESSES,
        }
    }
}

impl Default for Hosts {
    fn default() -> Self {
        Self::Listed(vec![HostRule { place: Place::Public, port: None }])
    }
}

impl Hosts {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_default_memory(memory_mb: &u32) -> bool {
    *memory_mb == MEMORY_MB
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_default_processes(processes: &u32) -> bool {
    *processes == PROCESSES
}

impl Sandbox {
    /// Says whether it is the default profile alone.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the bounds, and that no path grants everything.
    pub fn check(&self) -> Result<(), InvalidSandbox> {
        match self {
            Self::Off => Ok(()),
            Self::On(profile) => profile.check(),
        }
    }
}

impl SandboxProfile {
    fn check(&self) -> Result<(), InvalidSandbox> {
        for path in self.read.iter().chain(&self.write) {
            let goes_up = path.components().any(|part| part == Component::ParentDir);
            let is_all = path.components().count() < 2;
            if !path.is_absolute() || goes_up || is_all || path.as_os_str().as_encoded_bytes().contains(&0) {
                return Err(InvalidSandbox::Path(path.clone()));
            }
        }
        if !(64..=1 << 20).contains(&self.memory_mb) {
            return Err(InvalidSandbox::Memory(self.memory_mb));
        }
        if !(16..=32_768).contains(&self.processes) {
            return Err(InvalidSandbox::Processes(self.processes));
        }
        Ok(())
    }
}

impl HostRule {
    /// Says whether the rule is about the machine's own loopback.
    pub fn is_loopback(&self) -> bool {
        match &self.place {
            Place::Public | Place::Under(_) => false,
            Place::Name(name) => is_localhost(name),
            Place::Network(network) => network.addr().is_loopback(),
        }
    }

    /// Says whether the rule allows every public host, on every port.
    pub fn is_every_public_host(&self) -> bool {
        self.place == Place::Public && self.port.is_none()
    }

    /// Says whether the rule is about a name, so that it may be looked up. Rules about addresses are not:
    /// whoever may look up any name can tell its owner anything.
    pub fn names(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.');
        let place = match &self.place {
            Place::Public => true,
            Place::Under(name) => is_under(host, name),
            Place::Name(name) => host.eq_ignore_ascii_case(name),
            Place::Network(_) => is_localhost(host),
        };
        place && self.is_for(port)
    }

    /// Says whether the rule allows a contact.
    pub fn allows(&self, contact: Contact<'_>) -> bool {
        let host = contact.host.trim_end_matches('.');
        let place = match &self.place {
            Place::Public => contact.public,
            Place::Under(name) => is_under(host, name) && contact.public,
            Place::Name(name) => host.eq_ignore_ascii_case(name) && may_lead_there(name, contact),
            Place::Network(network) => {
                contact.address.is_some_and(|address| network.contains(&address.to_canonical()))
            }
        };
        place && self.is_for(contact.port)
    }

    fn is_for(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }
}

fn is_localhost(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
}

fn is_under(host: &str, name: &str) -> bool {
    let Some((rest, end)) = host.len().checked_sub(name.len()).and_then(|at| host.split_at_checked(at))
    else {
        return false;
    };
    rest.ends_with('.') && end.eq_ignore_ascii_case(name)
}

/// Says whether a name that is listed may lead where it does. Its owner decides where that is, so that
/// it grants nothing inside.
fn may_lead_there(name: &str, contact: Contact<'_>) -> bool {
    match contact.address.map(|address| address.to_canonical()) {
        None => true,
        Some(address) => contact.public || is_localhost(name) && address.is_loopback(),
    }
}

impl FromStr for HostRule {
    type Err = InvalidSandbox;

    fn from_str(text: &str) -> Result<Self, InvalidSandbox> {
        let invalid = || InvalidSandbox::Host(text.to_owned());
        // An IPv6 address or network has colons of its own, so that its port needs brackets.
        let (place, port) = match text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
            true => (text, None),
            false => match text.rsplit_once(':') {
                Some((place, port)) => (place, Some(port.parse().map_err(|_| invalid())?)),
                None => (text, None),
            },
        };
        let bare = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(place);
        let place = if let Ok(address) = bare.parse::<IpAddr>() {
            Place::Network(address.into())
        } else if let Ok(network) = bare.parse::<IpNet>() {
            Place::Network(network)
        } else if place == "*" {
            Place::Public
        } else if let Some(name) = place.strip_prefix("*.").filter(|name| is_name(name)) {
            Place::Under(name.to_owned())
        } else if is_name(place) {
            Place::Name(place.to_owned())
        } else {
            return Err(invalid());
        };
        Ok(Self { place, port })
    }
}

/// Says whether a text is a host name (RFC 1123 2.1, with the underscores that are in use).
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    // Without a letter it is an address that somebody mistyped.
    text.len() <= 253 && text.split('.').all(label) && text.contains(|c: char| c.is_ascii_alphabetic())
}

impl fmt::Display for HostRule {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Public => to.write_str("*")?,
            Place::Under(name) => write!(to, "*.{name}")?,
            Place::Name(name) => to.write_str(name)?,
            Place::Network(network) => {
                let whole = network.prefix_len() == network.max_prefix_len();
                let text = if whole { network.addr().to_string() } else { network.to_string() };
                match (network, self.port) {
                    (IpNet::V6(_), Some(_)) => write!(to, "[{text}]")?,
                    _ => to.write_str(&text)?,
                }
            }
        }
        self.port.map_or(Ok(()), |port| write!(to, ":{port}"))
    }
}

impl Serialize for HostRule {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Off,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected \"off\", or an object with read, write, hosts, memoryMb, processes")]
enum Form {
    Word(Word),
    Profile(SandboxProfile),
}

impl Serialize for Sandbox {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => Word::Off.serialize(to),
            Self::On(profile) => profile.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Sandbox {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Form::deserialize(from)? {
            Form::Word(Word::Off) => Self::Off,
            Form::Profile(profile) => Self::On(profile),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Contact, HostRule, Hosts, Sandbox};

    #[test]
    fn it_is_read_and_written_in_the_same_words() {
        let texts = [
            r#""off""#,
            "{}",
            r#"{"read":["/srv/docs"],"write":["/srv/out"],"hosts":["*","db.internal:5432"],"memoryMb":64,"processes":16}"#,
            r#"{"hosts":"machine"}"#,
            r#"{"hosts":[]}"#,
            r#"{"hosts":["10.0.0.0/8:5432","[::1]:8080","fd00::/8","127.0.0.1","*.example.com:443"]}"#,
        ];
        for text in texts {
            let sandbox: Sandbox = serde_json::from_str(text).unwrap();
            assert_eq!(sandbox.check(), Ok(()), "{text}");
            assert_eq!(serde_json::to_string(&sandbox).unwrap(), text);
        }
        assert_eq!(serde_json::from_str::<Sandbox>("{}").unwrap(), Sandbox::default());
    }

    #[test]
    fn what_grants_too_much_or_means_nothing_is_refused() {
        let texts = [
            r#""on""#,
            r#"{"reads":["/a"]}"#,
            r#"{"hosts":"all"}"#,
            r#"{"hosts":["a b"]}"#,
            r#"{"hosts":["example.com:99999"]}"#,
            r#"{"hosts":["*.*"]}"#,
            r#"{"hosts":["http://example.com"]}"#,
            r#"{"hosts":["1.2.3"]}"#,
            r#"{"read":["relative"]}"#,
            r#"{"read":["/"]}"#,
            r#"{"write":["/a/../b"]}"#,
            r#"{"memoryMb":63}"#,
            r#"{"memoryMb":1048577}"#,
            r#"{"processes":15}"#,
            r#"{"processes":32769}"#,
        ];
        for text in texts {
            let read = serde_json::from_str::<Sandbox>(text);
            assert!(read.is_err() || read.unwrap().check().is_err(), "{text}");
        }
        for text in [r#"{"memoryMb":1048576}"#, r#"{"processes":32768}"#] {
            assert_eq!(serde_json::from_str::<Sandbox>(text).unwrap().check(), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_host_is_reached_by_the_rule_that_names_it() {
        let table = [
            ("*", "a.example", "8.8.8.8", 80, true),
            ("*", "a.example", "10.0.0.1", 80, false),
            ("*:443", "a.example", "8.8.8.8", 80, false),
            ("*.example.com", "A.Example.COM", "8.8.8.8", 80, true),
            ("*.example.com", "a.example.com", "10.0.0.1", 80, false),
            ("*.example.com", "example.com", "8.8.8.8", 80, false),
            ("*.example.com", "badexample.com", "8.8.8.8", 80, false),
            ("api.example", "API.example.", "8.8.8.8", 443, true),
            ("api.example:443", "api.example", "8.8.8.8", 80, false),
            ("api.example", "api.example", "127.0.0.1", 443, false),
            ("api.example", "api.example", "10.0.0.1", 443, false),
            ("localhost", "localhost", "127.0.0.1", 80, true),
            ("localhost", "LOCALHOST.", "::1", 80, true),
            ("localhost", "localhost", "10.0.0.1", 80, false),
            ("a.localhost", "a.localhost", "127.0.0.1", 80, false),
            ("127.0.0.0/8:80", "localhost", "127.0.0.1", 80, true),
            ("127.0.0.0/8:80", "localhost", "::ffff:127.0.0.1", 80, true),
            ("10.0.0.0/8", "a.example", "10.1.2.3", 1, true),
            ("10.0.0.0/8", "a.example", "11.1.2.3", 1, false),
        ];
        for (rule, host, address, port, expected) in table {
            let public = address == "8.8.8.8";
            let contact = Contact { host, address: Some(address.parse().unwrap()), port, public };
            let rule: HostRule = rule.parse().unwrap();
            assert_eq!(rule.allows(contact), expected, "{rule} {host} {address}");
        }
        assert!(matches!(Hosts::default(), Hosts::Listed(rules) if rules.len() == 1));
    }

    #[test]
    fn a_name_that_another_looks_up_is_taken_at_its_word() {
        let table = [
            ("db.internal", false, true),
            ("a.example", true, false),
            ("*", true, true),
            ("*", false, false),
            ("*.internal", false, false),
            ("0.0.0.0/0", true, false),
        ];
        for (rule, public, expected) in table {
            let contact = Contact { host: "db.internal", address: None, port: 80, public };
            assert_eq!(rule.parse::<HostRule>().unwrap().allows(contact), expected, "{rule} {public}");
        }
    }

    #[test]
    fn a_name_is_looked_up_for_a_rule_that_is_about_it() {
        let table = [
            ("*", "a.example", true),
            ("*:80", "a.example", false),
            ("*.example", "A.Example.", true),
            ("*.example", "example", false),
            ("*.example", "aexample", false),
            ("a.example:443", "a.example", true),
            ("a.example", "b.a.example", false),
            ("0.0.0.0/0", "a.example", false),
            ("127.0.0.1", "localhost", true),
        ];
        for (rule, host, expected) in table {
            assert_eq!(rule.parse::<HostRule>().unwrap().names(host, 443), expected, "{rule} {host}");
        }
    }
}
