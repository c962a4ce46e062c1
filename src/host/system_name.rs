//! What the system says this host is called: Python's `socket.getfqdn()`, which names every series so far.
//!
//! That is: ask for the addresses of the node name, look the first one up backwards, take the first of the
//! canonical name and its aliases that has a dot, else the canonical name, else the node name. With
//! `127.0.0.1 localhost` first in `/etc/hosts` the answer can be `localhost`; it is what the original posts,
//! so it is what we post. The resolver may block for longer than anybody wants to wait: it is asked on a thread
//! of its own, which is left behind.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const HOSTS: &str = "/etc/hosts";

/// The name of this host as the original agent finds it, unless the resolver takes longer than `limit`.
#[must_use]
pub fn within(limit: Duration) -> Option<String> {
    let (answer, answered) = mpsc::channel();
    let ask = move || {
        let node = node();
        // Whoever asked may have gone on without.
        answer.send(canonical(&node).unwrap_or(node)).ok();
    };
    thread::Builder::new().name("hostname".to_owned()).spawn(ask).ok()?;
    answered.recv_timeout(limit).ok()
}

/// What the kernel calls this host.
#[must_use]
pub fn node() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn canonical(node: &str) -> Option<String> {
    let address = dns_lookup::lookup_host(node).ok()?.next()?;
    let canonical = dns_lookup::lookup_addr(&address).ok()?;
    if canonical.contains('.') {
        return Some(canonical);
    }
    // The resolver's interface tells no aliases of an address, but a name without a dot comes from the hosts
    // file, where they can be read.
    let hosts = fs::read_to_string(HOSTS).unwrap_or_default();
    Some(alias_with_dot(&hosts, address, &canonical).unwrap_or(canonical))
}

/// The first alias with a dot on the line that the resolver answered from: the first one of `address`.
fn alias_with_dot(hosts: &str, address: IpAddr, canonical: &str) -> Option<String> {
    let mut names = hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let listed: IpAddr = words.next()?.parse().ok()?;
        means(listed, address).then_some(words)
    })?;
    if names.next()? != canonical {
        return None;
    }
    names.find(|alias| alias.contains('.')).map(str::to_owned)
}

/// Whether a line for `listed` answers for `address`: when IPv4 is asked for, the resolver also takes lines
/// that map it into IPv6, and `::1` for 127.0.0.1.
fn means(listed: IpAddr, address: IpAddr) -> bool {
    match (listed, address) {
        (IpAddr::V6(listed), IpAddr::V4(address)) => {
            listed.to_ipv4_mapped() == Some(address)
                || (listed == Ipv6Addr::LOCALHOST && address == Ipv4Addr::LOCALHOST)
        }
        _ => listed == address,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn it_is_what_python_says_here() {
        let python = Command::new("python3").args(["-c", "import socket; print(socket.getfqdn())"]).output();
        match python {
            Ok(output) if output.status.success() => {
                assert_eq!(within(LONG).unwrap(), String::from_utf8(output.stdout).unwrap().trim_end());
            }
            // Nothing to compare with, but it must still be a name.
            _ => assert!(!within(LONG).unwrap().is_empty()),
        }
    }

    #[test]
    fn the_alias_is_taken_from_the_line_that_the_resolver_answered_from() {
        let hosts = "\
            # 10.0.0.7 plant-7 comment.example.net\n\
            127.0.0.1\tlocalhost localhost.localdomain # local.host\n\
            ::1 ip6-localhost ip6.localdomain\n\
            10.0.0.7 plant-7 gateway plant-7.example.net other.example.net\n\
            10.0.0.7 plant-7 late.example.net\n\
            ::ffff:10.0.0.8 plant-8 plant-8.example.net\n\
            nonsense plant-9 plant-9.example.net\n";
        let cases = [
            ("127.0.0.1", "localhost", Some("localhost.localdomain")),
            ("::1", "ip6-localhost", Some("ip6.localdomain")),
            ("10.0.0.7", "plant-7", Some("plant-7.example.net")),
            ("10.0.0.8", "plant-8", Some("plant-8.example.net")),
            ("10.0.0.7", "from-dns", None),
            ("10.0.0.9", "plant-9", None),
        ];
        for (address, canonical, alias) in cases {
            let address = address.parse().unwrap();
            assert_eq!(alias_with_dot(hosts, address, canonical).as_deref(), alias, "{address} {canonical}");
        }
        let only_v6 = "::1 localhost localhost.example.net\n";
        let alias = alias_with_dot(only_v6, Ipv4Addr::LOCALHOST.into(), "localhost");
        assert_eq!(alias.as_deref(), Some("localhost.example.net"));
    }
}
