//! The configuration: defaults, one file, variables and flags, read once and handed down checked.
//!
//! Nothing here reads the environment or the clock; the sources are arguments. No error quotes a
//! value, because it may be a secret.

mod check;
mod keys;
mod places;
mod raw;
mod variables;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::providers::{Format, Serialized, Toml};
use figment::value::Dict;
use figment::{Figment, Provider};
use mcphub_domain::{Quota, SecretText};
use mcphub_hub::{
    DatabaseUrls, KeySource, Namespaces, Place, PlainHttp, Process, Settings, UpstreamSettings,
};
use serde::{Deserialize, Serialize};
use url::Url;

pub(crate) use check::holds_password;
use places::Places;
use raw::Raw;
pub(crate) use variables::KEY as KEY_VARIABLE;

/// Holds the texts that a configuration is made from.
#[derive(Default)]
pub(crate) struct Sources {
    /// The file, with its path.
    pub(crate) file: Option<(PathBuf, String)>,
    /// The environment that the process was started with.
    pub(crate) environment: Vec<(String, String)>,
    /// What the command line says.
    pub(crate) flags: Flags,
}

/// Holds the settings that the command line can give.
#[derive(Default, Serialize)]
pub(crate) struct Flags {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) behind_proxy: Option<bool>,
    pub(crate) database: DatabaseFlags,
}

/// Holds the addresses of a database that the command line can give.
#[derive(Default, Serialize)]
pub(crate) struct DatabaseFlags {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worker_url: Option<String>,
}

/// Says how strict the hub is with its own configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// Allows what is fine on a laptop.
    #[default]
    Default,
    /// Refuses it.
    Production,
}

/// Is the configuration, checked.
pub(crate) struct Config {
    /// Where `serve` listens.
    pub(crate) listen: SocketAddr,
    /// Whether TLS ends at a proxy before the hub.
    pub(crate) behind_proxy: bool,
    /// How strict the hub is.
    pub(crate) profile: Profile,
    /// The address under which people reach the hub.
    pub(crate) public_url: Url,
    /// The folder of the data.
    pub(crate) data_dir: PathBuf,
    /// The folder of the signed heads of the log.
    pub(crate) heads_dir: PathBuf,
    /// How much one person may do.
    pub(crate) quota: Quota,
    /// What child processes get.
    pub(crate) children: Children,
    /// Names in the Host header that are accepted beside the usual ones.
    pub(crate) allowed_hosts: Vec<String>,
    /// Origins that are accepted beside the hub's own.
    pub(crate) allowed_origins: Vec<String>,
    database: DatabaseUrls,
    /// The files that may hold the database's passwords.
    passwords: Vec<PathBuf>,
    key: Key,
    public_url_follows_listener: bool,
}

/// Says what child processes get.
pub(crate) struct Children {
    /// All of the outside that they see.
    pub(crate) environment: BTreeMap<String, String>,
    /// How long an unused one is kept.
    pub(crate) idle: Duration,
    /// How many one person may have.
    pub(crate) processes_per_person: usize,
    /// How many there may be.
    pub(crate) processes: usize,
    /// Whether they get namespaces of their own.
    pub(crate) namespaces: Namespaces,
}

/// Says where the key-encryption key comes from.
enum Key {
    Folder(PathBuf),
    Value(SecretText),
}

/// Says what is wrong with the configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ConfigError {
    /// A key means nothing.
    #[error("{place}: there is no setting {key}: did you mean {nearest}?")]
    UnknownKey {
        /// The file or variable that it stands in.
        place: String,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: &'static str,
    },
    /// A value can't be used.
    #[error("{place}: {reason}")]
    Invalid {
        /// The key or variable.
        place: String,
        /// What was expected.
        reason: String,
    },
    /// A folder has no usual place, because the environment doesn't say where home is.
    #[error("neither {variable} nor HOME is set: say where with {setting}")]
    NoPlace {
        /// The variable that would say it.
        variable: &'static str,
        /// The setting that says it as well.
        setting: &'static str,
    },
    /// The settings don't go together, or the profile refuses one.
    #[error("{0}")]
    Refused(String),
}

impl ConfigError {
    fn invalid(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), reason: reason.into() }
    }
}

impl Config {
    /// Puts the sources together, the later over the earlier: defaults, file, variables, flags.
    pub(crate) fn load(sources: &Sources) -> Result<Self, ConfigError> {
        check::flags(&sources.flags.database)?;
        let mut figment = Figment::new();
        if let Some((path, text)) = &sources.file {
            let values = read_file(path, text)?;
            figment = figment.merge(Serialized::defaults(values));
        }
        let variables = variables::read(&sources.environment)?;
        let figment =
            figment.merge(Serialized::defaults(variables)).merge(Serialized::defaults(&sources.flags));
        let raw: Raw = figment.extract().map_err(|error| wrong_type(&error))?;
        let mut config = check::config(raw, &sources.environment)?;
        if let DatabaseUrls::Postgres { .. } = config.database {
            config
                .passwords
                .extend(sources.file.iter().filter_map(|(path, _)| std::path::absolute(path).ok()));
            config.passwords.extend(Places::new(&sources.environment).passwords());
        }
        Ok(config)
    }

    /// Refuses to serve where others could read along.
    pub(crate) fn check_listener(&self) -> Result<(), ConfigError> {
        check::listener(self)
    }

    /// Takes over the address that the listener got, for a configured port of 0.
    pub(crate) fn set_listener(&mut self, address: SocketAddr) {
        self.listen = address;
        if self.public_url_follows_listener {
            check::set_address(&mut self.public_url, address);
        }
    }

    /// Uses other folders, with everything else as it is.
    pub(crate) fn move_to(&mut self, data_dir: PathBuf, keys: PathBuf, heads: PathBuf) {
        self.data_dir = data_dir;
        self.key = Key::Folder(keys);
        self.heads_dir = heads;
        self.database = DatabaseUrls::Sqlite;
    }

    /// Names the folder of the key file, unless the key comes from a variable.
    pub(crate) fn key_dir(&self) -> Option<&Path> {
        match &self.key {
            Key::Folder(folder) => Some(folder),
            Key::Value(_) => None,
        }
    }

    /// Says whether a copy of the data directory would hold the key too, wherever links lead.
    pub(crate) fn key_lies_in_data(&self) -> bool {
        self.key_dir().is_some_and(|folder| places::lies_in(folder, &self.data_dir))
    }

    /// Names the folder of what child processes wrote to standard error.
    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    /// Says where everything is kept.
    pub(crate) fn place(&self) -> Place {
        Place { data_dir: self.data_dir.clone(), database: self.database.clone() }
    }

    /// Says how the hub is to be; `program` is this program, which supervises child processes.
    pub(crate) fn settings(&self, process: Process, program: PathBuf) -> Settings {
        let mut upstream = UpstreamSettings::new(
            program,
            self.children.environment.clone(),
            self.logs_dir(),
            self.data_dir.join("homes"),
        );
        upstream.private = [&self.data_dir, &self.heads_dir].map(Clone::clone).into();
        upstream.private.extend(self.key_dir().map(Path::to_owned));
        upstream.private.extend(self.passwords.iter().cloned());
        upstream.idle = self.children.idle;
        upstream.processes_per_person = self.children.processes_per_person;
        upstream.processes = self.children.processes;
        upstream.namespaces = self.children.namespaces;
        upstream.plain_http = match self.profile {
            Profile::Default => PlainHttp::Allowed,
            Profile::Production => PlainHttp::LoopbackOnly,
        };
        Settings {
            place: self.place(),
            process,
            key: match &self.key {
                Key::Folder(folder) => KeySource::Folder(folder.clone()),
                Key::Value(value) => KeySource::Value(SecretText::new(value.expose().to_owned())),
            },
            heads: self.heads_dir.clone(),
            quota: self.quota,
            public_url: self.public_url.clone(),
            upstream,
        }
    }
}

fn read_file(path: &Path, text: &str) -> Result<Dict, ConfigError> {
    let place = path.display().to_string();
    let read = Toml::string(text).data().map_err(|error| ConfigError::invalid(&place, syntax(&error)))?;
    let values = read.into_iter().next().map(|(_, values)| values).unwrap_or_default();
    keys::check(&place, &values)?;
    let vault = values.get("vault").and_then(|vault| vault.as_dict());
    if vault.is_some_and(|vault| vault.contains_key("key")) {
        return Err(ConfigError::invalid(place, "vault.key must not stand in a file: set MCPHUB_VAULT__KEY"));
    }
    Ok(values)
}

/// Keeps the place and the reason of a syntax error, and leaves out the line that it quotes.
fn syntax(error: &figment::Error) -> String {
    let text = error.to_string();
    let lines = [text.lines().next(), text.lines().skip(1).last()];
    lines.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

fn wrong_type(error: &figment::Error) -> ConfigError {
    use figment::error::Kind;
    let expected = match &error.kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => expected.clone(),
        Kind::UnknownVariant(_, known) => format!("one of {}", known.join(", ")),
        _ => "another value".to_owned(),
    };
    ConfigError::invalid(error.path.join("."), format!("expected {expected}"))
}
