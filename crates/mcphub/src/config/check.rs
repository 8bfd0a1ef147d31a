//! From what is written to what can be used.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mcphub_domain::{Quota, SecretText};
use mcphub_hub::DatabaseUrls;
use url::Url;

use super::places::Places;
use super::raw::{self, KeyProvider, Raw};
use super::{Children, Config, ConfigError, DatabaseFlags, Key, Profile};

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);
/// What child processes find programs on; the hub's own PATH is none of their business.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const IDLE_SECONDS: u64 = 300;
const PROCESSES_PER_PERSON: usize = 16;
const PROCESSES: usize = 256;

/// Checks everything that can be checked before anything is opened.
pub(super) fn config(raw: Raw, environment: &[(String, String)]) -> Result<Config, ConfigError> {
    let places = Places::new(environment);
    let listen = raw.listen.as_deref().map_or(Ok(LISTEN), address)?;
    let data_dir = raw.data_dir.map_or_else(|| places.data(), Ok)?;
    let config = Config {
        listen,
        behind_proxy: raw.behind_proxy,
        profile: raw.profile,
        public_url_follows_listener: raw.public_url.is_none(),
        public_url: public_url(raw.public_url.as_deref(), listen)?,
        data_dir,
        heads_dir: raw.audit.heads_dir.map_or_else(|| places.heads(), Ok)?,
        quota: quota(&raw.limits)?,
        children: children(raw.children)?,
        allowed_hosts: raw.http.allowed_hosts,
        allowed_origins: raw.http.allowed_origins,
        database: database(raw.database)?,
        passwords: Vec::new(),
        key: key(raw.vault, &places)?,
    };
    profile(&config)?;
    Ok(config)
}

/// Refuses a password in an argument: everybody on the machine can read those.
pub(super) fn flags(flags: &DatabaseFlags) -> Result<(), ConfigError> {
    let urls = [("url", &flags.url), ("worker_url", &flags.worker_url)];
    let found = urls.into_iter().find(|(_, url)| url.as_deref().is_some_and(holds_password));
    let Some((key, _)) = found else { return Ok(()) };
    let (flag, variable) = match key {
        "url" => ("--database-url", "MCPHUB_DATABASE__URL"),
        _ => ("--worker-url", "MCPHUB_DATABASE__WORKER_URL"),
    };
    Err(ConfigError::Refused(format!(
        "{flag} holds a password, and arguments are visible to everybody on the machine: set {variable}, write \
         {key} below [database] into the configuration file, or leave the password out and keep it in ~/.pgpass"
    )))
}

/// Says whether a database's address holds a password, wherever the driver would look for one. Of a
/// text that is no address one can't know, so it does.
pub(crate) fn holds_password(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return true };
    url.cannot_be_a_base()
        || url.password().is_some()
        || url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("password"))
}

/// Refuses to serve where others could read along.
pub(super) fn listener(config: &Config) -> Result<(), ConfigError> {
    if config.listen.ip().is_loopback() {
        return Ok(());
    }
    if config.behind_proxy {
        return Ok(());
    }
    Err(ConfigError::Refused(format!(
        "listening on {} without TLS would send keys in plain text: listen on 127.0.0.1, or say \
         --behind-proxy if TLS ends at a proxy before the hub",
        config.listen
    )))
}

/// Writes a listener's address into a URL.
pub(super) fn set_address(url: &mut Url, address: SocketAddr) {
    if let Ok(new) = plain_url(address) {
        *url = new;
    }
}

fn profile(config: &Config) -> Result<(), ConfigError> {
    if config.profile != Profile::Production {
        return Ok(());
    }
    let refuse = |text: &str| Err(ConfigError::Refused(text.to_owned()));
    if matches!(config.key, Key::Value(_)) {
        return refuse(
            "a key in a variable is easily shown, so production refuses it: set provider = \"file\" in [vault]",
        );
    }
    if config.key_lies_in_data() {
        return refuse(
            "the key lies in the data directory, so a copy of the data would be readable: \
             set key_dir in [vault] to a folder outside of it",
        );
    }
    Ok(())
}

fn address(text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        ConfigError::invalid("listen", "expected an address with a port, such as 127.0.0.1:3000")
    })
}

fn public_url(text: Option<&str>, listen: SocketAddr) -> Result<Url, ConfigError> {
    let wrong = || ConfigError::invalid("public_url", "expected a URL such as https://mcp.example.org");
    let url = text.map_or_else(|| plain_url(listen), Url::parse).map_err(|_| wrong())?;
    let usable = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if usable { Ok(url) } else { Err(wrong()) }
}

fn plain_url(address: SocketAddr) -> Result<Url, url::ParseError> {
    Url::parse(&format!("http://{address}"))
}

fn quota(limits: &raw::Limits) -> Result<Quota, ConfigError> {
    let usual = Quota::default();
    Quota::new(
        limits.calls_per_minute.unwrap_or(usual.calls_per_minute()),
        limits.concurrent_calls.unwrap_or(usual.concurrent_calls()),
    )
    .map_err(|error| ConfigError::invalid("limits", error.to_string()))
}

fn children(raw: raw::Children) -> Result<Children, ConfigError> {
    let mut environment = raw.environment;
    let path = raw.path.unwrap_or_else(|| PATH.to_owned());
    if environment.insert("PATH".to_owned(), path).is_some() {
        return Err(ConfigError::invalid("children.environment.PATH", "set children.path instead"));
    }
    for (name, value) in &environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(ConfigError::invalid(
                "children.environment",
                "a name or value can't be a variable's",
            ));
        }
        if name.starts_with("LD_") || name.starts_with("DYLD_") {
            return Err(ConfigError::invalid(
                "children.environment",
                "a variable that begins with LD_ or DYLD_ would load foreign code into what confines the children",
            ));
        }
    }
    let idle = bounded("children.idle_seconds", raw.idle_seconds.unwrap_or(IDLE_SECONDS), 86_400)?;
    let own = raw.processes_per_person.unwrap_or(PROCESSES_PER_PERSON);
    Ok(Children {
        environment,
        idle: Duration::from_secs(idle),
        processes_per_person: bounded("children.processes_per_person", own, 1_000)?,
        processes: bounded("children.processes", raw.processes.unwrap_or(PROCESSES), 10_000)?,
        namespaces: raw.namespaces,
    })
}

fn bounded<T: PartialOrd + From<u8> + std::fmt::Display>(
    key: &str,
    value: T,
    most: T,
) -> Result<T, ConfigError> {
    if value < T::from(1) || value > most {
        return Err(ConfigError::invalid(key, format!("is {value}: expected 1 to {most}")));
    }
    Ok(value)
}

fn database(raw: raw::Database) -> Result<DatabaseUrls, ConfigError> {
    match (raw.url, raw.worker_url) {
        (None, None) => Ok(DatabaseUrls::Sqlite),
        (Some(app), Some(worker)) => Ok(DatabaseUrls::Postgres { app, worker }),
        (Some(_), None) | (None, Some(_)) => Err(ConfigError::Refused(
            "PostgreSQL needs both database.url and database.worker_url: \
             use the two lines that `mcphub database prepare` prints"
                .to_owned(),
        )),
    }
}

fn key(raw: raw::Vault, places: &Places<'_>) -> Result<Key, ConfigError> {
    match (raw.provider, raw.key) {
        (KeyProvider::Env, Some(key)) => Ok(Key::Value(SecretText::new(key))),
        (KeyProvider::Env, None) => Err(ConfigError::Refused(
            "vault.provider is env, but MCPHUB_VAULT__KEY is not set: \
             set it to 32 random bytes in hex, such as `openssl rand -hex 32` prints"
                .to_owned(),
        )),
        (KeyProvider::File, Some(_)) => Err(ConfigError::Refused(
            "MCPHUB_VAULT__KEY is set, but vault.provider is file: set MCPHUB_VAULT__PROVIDER=env, or unset the key"
                .to_owned(),
        )),
        (KeyProvider::File, None) => Ok(Key::Folder(raw.key_dir.map_or_else(|| places.keys(), Ok)?)),
    }
}
