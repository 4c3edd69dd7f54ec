//! Which addresses a provider credential may point at: public ones over TLS, and the hosts the operator allows.
//!
//! Pure functions, asked twice: by the admin plane when a base URL is stored ([`Guard::check_url`]), and by the proxy with every
//! address a name resolves to, right before it connects ([`Guard::check_address`]), because a name can resolve differently
//! a moment later. Not here: resolving and connecting (`proxy`).
//!
//! Invariant: what is not known to be public is not public.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Error, ErrorKind, Result};
use crate::provider::Endpoint;

/// The operator's list of upstreams that may be private or without TLS; empty by default.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: HashSet<String>,
}

impl Guard {
    /// Takes hosts as the configuration writes them: `gpu.internal`, `10.0.0.7`, `[::1]`, or with a port (`localhost:11434`),
    /// which then allows that port alone.
    pub fn new<I, T>(allowed: I) -> Self
    where
        I: IntoIterator<Item = T>,
        T: AsRef<str>,
    {
        Self { allowed: allowed.into_iter().map(|host| normal(host.as_ref())).collect() }
    }

    /// Whether the operator allows this very host, whatever it is.
    pub fn allows(&self, endpoint: &Endpoint) -> bool {
        let host = normal(&endpoint.host);
        let with_port = if host.contains(':') {
            format!("[{host}]:{}", endpoint.port)
        } else {
            format!("{host}:{}", endpoint.port)
        };
        self.allowed.contains(&host) || self.allowed.contains(&with_port)
    }

    /// Checks what can be known of a base URL without resolving it. Errors: a 400 on `base_url`.
    pub fn check_url(&self, endpoint: &Endpoint) -> Result<()> {
        if self.allows(endpoint) {
            return Ok(());
        }
        let refuse = |why: &str| Err(Error::invalid("base_url", format!("Invalid 'base_url': {why}.")));
        if !endpoint.tls {
            return refuse("the scheme must be https");
        }
        let host = normal(&endpoint.host);
        match host.parse::<IpAddr>() {
            Ok(address) if is_public(address) => Ok(()),
            Ok(_) => refuse("the address is not public; the operator can allow it in 'allow_private_upstreams'"),
            Err(_) if is_local_name(&host) => {
                refuse("the name is not public; the operator can allow it in 'allow_private_upstreams'")
            }
            Err(_) => Ok(()),
        }
    }

    /// Checks an address that the endpoint's name resolved to. Errors: `ProviderUnreachable`, which names the host and not
    /// the address.
    pub fn check_address(&self, endpoint: &Endpoint, address: IpAddr) -> Result<()> {
        if is_public(address) || self.allows(endpoint) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::ProviderUnreachable,
            "The provider's host resolves to an address that is not public.",
        )
        .with_cause(format!("{} resolves to {address}, which is not allowed", endpoint.host)))
    }
}

/// A host in one spelling: lower case, no brackets, no dot at the end.
fn normal(host: &str) -> String {
    let host = host.trim().to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::to_owned);
    bare.unwrap_or(host).trim_end_matches('.').to_owned()
}

/// Names that lead to this machine, its network or its cloud's metadata by convention.
fn is_local_name(host: &str) -> bool {
    const SUFFIXES: [&str; 6] = [".localhost", ".local", ".internal", ".localdomain", ".lan", ".home.arpa"];
    // A name without a dot is only ever completed by a local search domain.
    !host.contains('.') || SUFFIXES.iter().any(|suffix| host.ends_with(suffix))
}

/// Whether an address belongs to the public internet: by IANA's special-purpose registries, less what clouds use inside.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 175, 48)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    // Azure's host agent answers on an address that looks public.
    !special && address != Ipv4Addr::new(168, 63, 129, 16)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // The well-known NAT64 prefix is how a network without IPv4 reaches it; what counts is the address inside.
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() {
        return is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    }
    let global = a & 0xe000 == 0x2000;
    let special = matches!((a, b), (0x2001, ..0x0200) | (0x2001, 0x0db8) | (0x2002, _) | (0x3fff, ..0x1000));
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::parse(url).unwrap()
    }

    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "100::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn a_base_url_must_be_public_and_https() {
        let guard = Guard::default();
        for good in [
            "https://api.openai.com/v1",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]/v1",
            "https://my.azure.example:8443",
        ] {
            assert!(guard.check_url(&endpoint(good)).is_ok(), "{good}");
        }
        for bad in [
            "http://api.openai.com/v1",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://metadata.google.internal/",
            "https://metadata/",
            "https://10.1.2.3/",
            "https://printer.local/",
            "https://①②⑦.0.0.1/",
            "https://0/",
        ] {
            let error = guard.check_url(&endpoint(bad)).unwrap_err();
            assert_eq!(error.param(), Some("base_url"), "{bad}");
        }
    }

    #[test]
    fn the_operator_allows_hosts_one_by_one() {
        let guard = Guard::new(["GPU.internal", "localhost:11434", "[fd00::7]"]);
        assert!(guard.check_url(&endpoint("http://gpu.internal:9000/v1")).is_ok());
        assert!(guard.check_url(&endpoint("http://localhost:11434")).is_ok());
        assert!(guard.check_url(&endpoint("http://localhost:11435")).is_err());
        assert!(guard.check_url(&endpoint("http://[fd00::7]:80")).is_ok());
        assert!(guard.check_url(&endpoint("https://other.internal")).is_err());
    }

    #[test]
    fn a_public_name_that_turns_private_is_refused_at_the_connect() {
        let guard = Guard::new(["gpu.internal"]);
        let rebound = endpoint("https://rebind.example/v1");
        assert!(guard.check_url(&rebound).is_ok());
        let error = guard.check_address(&rebound, "169.254.169.254".parse().unwrap()).unwrap_err();
        assert!(!error.message().contains("169.254"));
        assert!(guard.check_address(&rebound, "9.9.9.9".parse().unwrap()).is_ok());
        assert!(guard.check_address(&endpoint("https://gpu.internal"), "10.0.0.1".parse().unwrap()).is_ok());
    }
}
