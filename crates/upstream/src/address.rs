//! Which addresses a host name may lead to.
//!
//! An address is global when it is neither reserved nor private, and none is hidden inside it: the
//! IPv4 address in a mapped, 6to4, NAT64 or Teredo address is judged too. Some names are judged as well:
//! those under which clouds hand out credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses that hand out a machine's cloud credentials. No MCP server lives there, so that not even
/// an allowlist opens them.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)), // containers of AWS (ECS)
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)), // and of Kubernetes there (EKS)
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), // Azure's platform, a public address
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Names under which they are found. The last two need a resolver that adds `internal`.
const METADATA_NAMES: [&str; 6] = [
    "metadata.goog",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "metadata.platformequinix.com",
    "metadata.google",
    "instance-data.ec2",
];
/// First labels of such names, alone or under `internal`: `metadata.google.internal`, `instance-data`.
const METADATA_LABELS: [&str; 3] = ["metadata", "instance-data", "rancher-metadata"];

/// Says whether a host name may lead to `address`, given the networks that an admin allowed.
pub(crate) fn is_allowed(address: IpAddr, networks: &[IpNet]) -> bool {
    let canonical = address.to_canonical();
    !is_metadata(address)
        && (is_global(address) || networks.iter().any(|network| network.contains(&canonical)))
}

/// Says whether `address` hands out a machine's cloud credentials.
pub(crate) fn is_metadata(address: IpAddr) -> bool {
    let hands_out = |v4: Ipv4Addr| METADATA.contains(&IpAddr::V4(v4));
    match address.to_canonical() {
        IpAddr::V4(v4) => hands_out(v4),
        IpAddr::V6(v6) => {
            METADATA.contains(&IpAddr::V6(v6))
                || hidden(v6).is_some_and(hands_out)
                || is_local_nat64(v6) && translations(v6).into_iter().any(hands_out)
        }
    }
}

/// Says whether a name, in small letters and without a last dot, is where a cloud hands out credentials.
pub(crate) fn is_metadata_name(name: &str) -> bool {
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    let is_inside = rest.is_empty() || rest == "internal" || rest.ends_with(".internal");
    METADATA_NAMES.contains(&name) || is_inside && METADATA_LABELS.contains(&first)
}

/// Says whether `address` belongs to the public internet.
pub(crate) fn is_global(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => is_global_v6(v6),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)                    // this network, private, loopback
            | (100, 64..=127, _)                // shared by carriers (RFC 6598)
            | (169, 254, _)                     // link-local
            | (172, 16..=31, _) | (192, 168, _) // private
            | (192, 0, 0 | 2)                   // protocol assignments, documentation
            | (192, 31, 196) | (192, 52, 193) | (192, 175, 48) // AS112 and AMT anycast
            | (192, 88, 99)                     // 6to4 relays
            | (198, 18..=19, _)                 // benchmarks
            | (198, 51, 100) | (203, 0, 113)    // documentation
            | (224..=255, _, _) // multicast, reserved, broadcast
    )
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = hidden(address) {
        return is_global_v4(v4);
    }
    let [a, b, ..] = address.segments();
    match (a, b) {
        (0x2001, 0x0000..=0x01ff) => false, // protocol assignments, ORCHID, Teredo's own
        (0x2001, 0x0db8) | (0x3ff0..=0x3fff, _) => false, // documentation
        (0x5f00, _) => false,               // segment routing
        (0x2000..=0x3fff, _) => true,       // global unicast
        _ => false,                         // ULA, link-local, multicast, all the rest
    }
}

/// Returns the IPv4 address that traffic to an IPv6 address ends at.
fn hidden(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let joined = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        (0x2002, high) => Some(joined(high, c)), // 6to4
        (0x2001, 0) => Some(joined(!g, !h)),     // Teredo: the client's address, inverted
        (0x0064, 0xff9b) if [c, d, e, f] == [0; 4] => Some(joined(g, h)), // NAT64, well-known prefix
        (0, 0) if (c, d, e) == (0, 0, 0) && f == 0 && (g, h) > (0, 1) => Some(joined(g, h)), // compatible
        _ => None,
    }
}

/// Says whether a translator of the local network takes an address (RFC 8215): it is never global, and where
/// the IPv4 address stands in it is the network's choice.
fn is_local_nat64(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x0064, 0xff9b, c, d, e, f, ..] if [c, d, e, f] != [0; 4])
}

/// Lists the IPv4 addresses that a translator may read in an address, by prefixes of 48, 56, 64 and 96 bits
/// (RFC 6052 2.2). The ninth octet is none of theirs.
fn translations(address: Ipv6Addr) -> [Ipv4Addr; 4] {
    let [_, _, _, _, _, _, g, h, _, j, k, l, m, n, o, p] = address.octets();
    [[g, h, j, k], [h, j, k, l], [j, k, l, m], [m, n, o, p]].map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{is_allowed, is_global, is_metadata, is_metadata_name};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn public_addresses_are_global() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.1.1",
            "198.17.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
            "64:ff9b::808:808",
        ] {
            assert!(is_global(ip(text)), "{text}");
        }
    }

    #[test]
    fn special_addresses_are_not_global_however_they_are_written() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "64:ff9b:1::7f00:1",
            "64:ff9b:1::808:808",
            "64:ff9b:1:7f00:0:100:808:808",
            "64:ff9b:2::808:808",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:f5ff:fffe",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "2002:c0a8:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_global(ip(text)), "{text}");
        }
    }

    #[test]
    fn an_allowlist_opens_its_networks_and_no_others() {
        let networks = ["10.0.0.0/8".parse().unwrap(), "fd12::/16".parse().unwrap()];
        let table = [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd12::5", true),
            ("8.8.8.8", true),
            ("192.168.0.1", false),
            ("127.0.0.1", false),
            ("fd13::5", false),
        ];
        for (text, allowed) in table {
            assert_eq!(is_allowed(ip(text), &networks), allowed, "{text}");
        }
    }

    #[test]
    fn no_allowlist_opens_cloud_credentials() {
        let networks = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1::a9:fea9:fe00:0",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a83f:81:1000:808:808",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "169.254.170.23",
            "::ffff:168.63.129.16",
        ] {
            assert!(is_metadata(ip(text)), "{text}");
            assert!(!is_allowed(ip(text), &networks), "{text}");
        }
        assert!(is_allowed(ip("127.0.0.1"), &networks));
    }

    #[test]
    fn names_of_cloud_credentials_are_known() {
        for name in [
            "metadata",
            "metadata.google.internal",
            "metadata.goog",
            "instance-data",
            "instance-data.ec2.internal",
            "instance-data.eu-west-1.compute.internal",
        ] {
            assert!(is_metadata_name(name), "{name}");
        }
        for name in ["metadata.example.com", "instance-data.example", "google.internal", "a.goog"] {
            assert!(!is_metadata_name(name), "{name}");
        }
    }
}
