//! Where a child wants to connect to. Its host is read as browsers read it (WHATWG URL 3.5), so that an
//! address is judged as one however it is spelled; what goes on is what was judged, never the spelling.

use std::fmt;
use std::net::IpAddr;

use http::uri::Authority;
use url::Host;

/// Is a host and a port.
pub(super) struct Destination {
    host: Host,
    port: u16,
}

impl Destination {
    /// Reads it from a request, unless it is unclear: without a port, or a name that others might take for
    /// an address.
    pub(super) fn read(authority: &Authority, port: Option<u16>) -> Option<Self> {
        let port = authority.port_u16().or(port)?;
        let text = authority.host();
        let host = Host::parse(text.strip_suffix('.').unwrap_or(text)).ok()?;
        match &host {
            Host::Domain(name) if name.split('.').any(str::is_empty) => None,
            _ => Some(Self { host, port }),
        }
    }

    /// Returns the address, if it is one.
    pub(super) const fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(v4) => Some(IpAddr::V4(v4)),
            Host::Ipv6(v6) => Some(IpAddr::V6(v6)),
        }
    }

    /// Returns the name, if it is one.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Domain(name) => Some(name),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Destination {
    /// Writes it as an authority: IPv6 in brackets.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::Destination;

    fn read(authority: &str) -> Option<String> {
        Destination::read(&authority.parse().unwrap(), Some(80)).map(|destination| destination.to_string())
    }

    #[test]
    fn an_address_is_one_however_it_is_spelled() {
        let table = [
            ("127.1:80", "127.0.0.1:80"),
            ("127.0.0.1.:80", "127.0.0.1:80"),
            ("0x7f.0.0.1:80", "127.0.0.1:80"),
            ("0177.0.0.1:80", "127.0.0.1:80"),
            ("2130706433:80", "127.0.0.1:80"),
            ("169.254.43518:80", "169.254.169.254:80"),
            ("user@127.1:80", "127.0.0.1:80"),
            ("[2606:4700:4700:0::1111]:443", "[2606:4700:4700::1111]:443"),
            ("A.Example.:443", "a.example:443"),
            ("a.example", "a.example:80"),
        ];
        for (authority, expected) in table {
            assert_eq!(read(authority).as_deref(), Some(expected), "{authority}");
        }
        let address = Destination::read(&"127.1:80".parse().unwrap(), None).unwrap();
        assert_eq!(address.address(), Some([127, 0, 0, 1].into()));
        assert_eq!(address.name(), None);
    }

    #[test]
    fn what_others_might_read_otherwise_is_unclear() {
        for authority in ["a.1:80", "1.2.3.4.5:80", "a.0x7f:80", "256.1.1.1:80", "a..b:80", "a..:80", ".:80"]
        {
            assert_eq!(read(authority), None, "{authority}");
        }
        assert!(Destination::read(&"a.example".parse().unwrap(), None).is_none());
    }
}
