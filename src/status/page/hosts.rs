//! By which names the status page may be asked for. Pure.
//!
//! A web page of somebody else can make its own name point to this machine (DNS rebinding), and its script then reads
//! what only this network should see. The browser says the name that it was given in `Host`. So a name is answered only
//! if it is known: an address is none, and `localhost` leads nowhere else; then there are the agent's own host name,
//! whole or its first part, and what `status_hosts` lists.

use std::net::{IpAddr, Ipv6Addr};

/// The names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// The host name of the agent and the names of `status_hosts`.
    #[must_use]
    pub fn new(hostname: &str, configured: &[String]) -> Self {
        let first = hostname.split('.').next().unwrap_or_default();
        let names = [hostname, first].into_iter().map(str::to_owned).chain(configured.iter().cloned());
        Self(
            names.map(|name| name.trim_end_matches('.').to_ascii_lowercase()).filter(|name| !name.is_empty()).collect(),
        )
    }

    /// Whether whoever asks for `host`, which may have a port, is answered.
    #[must_use]
    pub fn allow(&self, host: &str) -> bool {
        let Some(name) = name(host.trim()) else { return false };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() || (name.starts_with('[') && bare.parse::<Ipv6Addr>().is_ok()) {
            return true;
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost" || self.0.contains(&name)
    }
}

/// `host` without its port.
fn name(host: &str) -> Option<&str> {
    if host.starts_with('[') {
        let end = host.find(']')?;
        let port = &host[end + 1..];
        return (port.is_empty() || is_port(port.strip_prefix(':')?)).then_some(&host[..=end]);
    }
    match host.split_once(':') {
        None => Some(host),
        Some((name, port)) => is_port(port).then_some(name),
    }
}

fn is_port(text: &str) -> bool {
    // Also without a digit: `host:` is allowed (RFC 3986, 3.2.3).
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_known_names_are_answered_and_no_other() {
        let hosts = Hosts::new("Gateway7.example.net", &["status.example.com".to_owned()]);
        for host in [
            "127.0.0.1:20204",
            "192.0.2.7",
            "[2001:db8::7]:20204",
            "[::1]",
            "localhost:20204",
            "LOCALHOST",
            "localhost.",
            "gateway7.example.net:20204",
            "gateway7",
            "GATEWAY7.EXAMPLE.NET.",
            "status.example.com",
            " 192.0.2.7 ",
        ] {
            assert!(hosts.allow(host), "{host}");
        }
        for host in [
            "rebind.example.org",
            "rebind.example.org:20204",
            "",
            ":80",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "example.net",
            "status",
            "[rebind.example.org]",
            "[::1]x",
            "[::1",
            "localhost:80:80",
            "user@localhost",
            "localhost/",
            "gateway7.example.net.example.org",
            "1.2.3",
            "0x7f.1",
        ] {
            assert!(!hosts.allow(host), "{host}");
        }
        assert!(!Hosts::new("", &[]).allow(""));
    }
}
