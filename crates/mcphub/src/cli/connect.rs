//! `mcphub connect`: how a client reaches a hub that runs.

use clap::Args;
use mcphub_domain::{GroupName, SecretText};
use mcphub_hub::Remote;
use url::{Host, Url};

use super::Options;
use super::answer::Answer;
use super::failure::Failure;
use super::serve::Signals;
use crate::config::KEY_VARIABLE;
use crate::{Machine, connect};

/// Says which hub, and what of it. The key comes from MCPHUB_KEY: arguments are visible to everybody on the machine.
#[derive(Args, Debug)]
pub(super) struct Connect {
    /// Speak on standard input and output, for a client that starts this as its server; the hub key comes from MCPHUB_KEY
    #[arg(long, required = true)]
    stdio: bool,
    /// Reach one server or group alone, with its own names
    #[arg(long, value_name = "NAME")]
    name: Option<GroupName>,
    /// The hub's base address, such as https://mcp.example.org [default: public_url of the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
}

impl Connect {
    /// Bridges until the client goes away, or a signal comes.
    pub(super) async fn run(self, options: Options, machine: &Machine) -> Result<Answer, Failure> {
        let base = match self.url {
            Some(url) => url,
            None => options.load(machine, None)?.public_url,
        };
        let endpoint = endpoint(base, self.name.as_ref())?;
        let remote = Remote::new(endpoint.as_str(), &key(machine)?);
        let remote = remote.map_err(|error| Failure::new("unusable", error.to_string()))?;
        let mut signals = Signals::new().map_err(|error| Failure::io("signals", &error))?;
        let bridged = connect::run(remote, signals.come()).await;
        bridged.map_err(|error| Failure::io("standard input and output", &error))?;
        Ok(Answer::silent())
    }
}

fn key(machine: &Machine) -> Result<SecretText, Failure> {
    let key = machine.variable(KEY_VARIABLE).map(str::trim).filter(|key| !key.is_empty());
    let missing = "MCPHUB_KEY is not set: put a hub key there, in the environment that the client gives this program; \
                   `mcphub key create PERSON --name NAME` makes one";
    key.map(|key| SecretText::new(key.to_owned())).ok_or_else(|| Failure::new("key_missing", missing))
}

/// Finds the endpoint below a hub's base address, which may be written as the address of all.
fn endpoint(mut url: Url, name: Option<&GroupName>) -> Result<Url, Failure> {
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_bare {
        let wrong = "--url: expected a hub's base address and nothing more, such as https://mcp.example.org; \
                     the key belongs into MCPHUB_KEY";
        return Err(Failure::usage(wrong));
    }
    if url.scheme() == "http" && !is_here(&url) {
        return Err(Failure::new(
            "no_tls",
            format!(
                "{} is reached without TLS, so that the key could be read on the way: use https; http is for a hub on this machine",
                url.origin().ascii_serialization()
            ),
        ));
    }
    let base = url.path().trim_end_matches('/');
    let base = base.strip_suffix("/mcp").unwrap_or(base);
    let path = name.map_or_else(|| format!("{base}/mcp"), |name| format!("{base}/mcp/{name}"));
    url.set_path(&path);
    Ok(url)
}

/// Says whether an address is one of this machine.
fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::endpoint;

    fn at(url: &str, name: Option<&str>) -> Option<String> {
        let name = name.map(|name| name.parse().unwrap());
        endpoint(url.parse().unwrap(), name.as_ref()).ok().map(String::from)
    }

    #[test]
    fn an_endpoint_lies_below_the_base_address() {
        for (url, name, expected) in [
            ("http://127.0.0.1:3000", None, "http://127.0.0.1:3000/mcp"),
            ("http://127.0.0.1:3000/mcp/", Some("devs"), "http://127.0.0.1:3000/mcp/devs"),
            ("http://localhost:3000", Some("devs"), "http://localhost:3000/mcp/devs"),
            ("http://[::1]:3000/", None, "http://[::1]:3000/mcp"),
            ("https://example.org/hub/", Some("github"), "https://example.org/hub/mcp/github"),
            ("https://example.org/hub/mcp", None, "https://example.org/hub/mcp"),
        ] {
            assert_eq!(at(url, name).as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn without_tls_only_this_machine_is_reached() {
        for url in [
            "http://example.org",
            "http://10.0.0.1:3000",
            "http://0.0.0.0:3000",
            "http://localhost.example.org",
            "ftp://127.0.0.1",
            "http://user:secret@127.0.0.1",
            "https://example.org/?key=x",
        ] {
            assert_eq!(at(url, None), None, "{url}");
        }
    }
}
