//! What people copy from the documents reaches nobody's device: addresses and names are those that are set apart for
//! documentation (RFC 5737, RFC 3849, RFC 2606), or this machine itself. And what `SECURITY.md` claims has a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the documents' links may lead: nobody configures these.
const LINKS: [&str; 6] =
    ["github.com", "rustup.rs", "keepachangelog.com", "semver.org", "www.w3.org", "json-schema.org"];

/// Keys whose values are devices or servers.
const PLACES: [&str; 6] = ["ip_devices", "ip_targets", "ip_address", "status_hosts", "server_name", "url"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn below(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { below(&path, files) } else { files.push(path) }
    }
}

/// Each document, and what of it people read.
fn documents() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = ["README.md", "SECURITY.md", "CHANGELOG.md", "BENCHMARKS.md", "CONTRIBUTING.md"]
        .map(|it| root().join(it))
        .into();
    for directory in ["config", "docs", "setup"] {
        below(&root().join(directory), &mut files);
    }
    let mut documents: Vec<(String, String)> = Vec::new();
    let is_picture = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "png");
    for path in files.into_iter().filter(|path| !is_picture(path)) {
        documents.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
    }
    let mut sources = Vec::new();
    for directory in ["src", "examples"] {
        below(&root().join(directory), &mut sources);
    }
    for path in sources.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        let comments: Vec<&str> = text
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with("///") || line.starts_with("//!"))
            .collect();
        documents.push((path.display().to_string(), comments.join("\n")));
    }
    let commands = support::COMMANDS.into_iter().chain([""]);
    for command in commands {
        let arguments = [command, "--help"];
        let arguments = if command.is_empty() { &arguments[1..] } else { &arguments[..] };
        let help = Command::new(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd")).args(arguments).output().unwrap();
        assert!(help.status.success(), "{command}");
        documents.push((format!("{command} --help"), String::from_utf8(help.stdout).unwrap()));
    }
    documents
}

/// Words that could be addresses: runs of these characters that nothing else touches.
fn runs(text: &str, of: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    let touches = |character: Option<char>| character.is_some_and(|it| it.is_alphanumeric() || it == '_');
    let mut rest = 0;
    std::iter::from_fn(move || {
        loop {
            let start = rest + text[rest..].find(&of)?;
            let end = text[start..].find(|it| !of(it)).map_or(text.len(), |length| start + length);
            rest = end;
            let before = text[..start].chars().next_back();
            if !touches(before) && !touches(text[end..].chars().next()) {
                return Some(&text[start..end]);
            }
        }
    })
}

fn is_documentation_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_loopback()
        || address.is_unspecified()
        || matches!((a, b, c), (192, 0, 2) | (198, 51, 100) | (203, 0, 113))
}

fn is_documentation_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unspecified() || matches!(address.segments(), [0x2001, 0xdb8, ..])
}

fn is_documentation_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let set_apart = ["example.net", "example.com", "example.org"];
    name == "localhost" || set_apart.iter().any(|it| name == *it || name.ends_with(&format!(".{it}")))
}

/// Whether a text in the place of a device or a server is one that reaches nobody.
fn is_harmless(place: &str) -> bool {
    // What the reader fills in.
    if place.is_empty() || place.starts_with(['<', '$', '{', '@', '…']) || place.starts_with("serial:") {
        return true;
    }
    let place = place.split_once("://").map_or(place, |(_, rest)| rest.split('/').next().unwrap_or_default());
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if place.matches(':').count() > 1 => place,
        None => place.split(':').next().unwrap_or_default(),
    };
    match (host.parse::<Ipv4Addr>(), host.parse::<Ipv6Addr>()) {
        (Ok(address), _) => is_documentation_v4(address),
        (_, Ok(address)) => is_documentation_v6(address),
        _ => is_documentation_name(host),
    }
}

/// What stands in the places of devices and servers, in YAML.
fn places(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut list: Option<usize> = None;
    for line in text.lines() {
        let code = line.trim_start_matches(['#', ' ']);
        let indent = line.len() - code.len();
        match (list, code.strip_prefix("- ")) {
            (Some(of), Some(item)) if indent >= of => found.extend(words(item).into_iter().next()),
            _ => list = None,
        }
        for key in PLACES {
            let Some((before, value)) = line.split_once(&format!("{key}:")) else { continue };
            let value = value.split(" #").next().unwrap_or_default().trim();
            // A longer key, or a sentence about this one.
            let first = value.split([',', '}']).next().unwrap_or_default().trim();
            let prose = !value.starts_with(['[', '"', '\'']) && first.contains(' ');
            if before.ends_with(|it: char| it.is_alphanumeric() || it == '_') || prose {
                continue;
            }
            match value.strip_prefix('[') {
                Some(items) => found.extend(words(items)),
                None if value.is_empty() => list = Some(indent),
                None => found.extend(words(value).into_iter().next()),
            }
        }
    }
    found
}

/// The words of a YAML list up to its end, without quotes.
fn words(items: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for character in items.chars() {
        match (character, quote) {
            ('"' | '\'', None) => quote = Some(character),
            (it, Some(open)) if it == open => quote = None,
            (']' | '}' | '`', None) => break,
            (',', None) => words.push(String::new()),
            (it, _) => words.last_mut().unwrap().push(it),
        }
    }
    words.into_iter().map(|word| word.trim().to_owned()).collect()
}

/// Everything in `text` that could reach somebody.
fn strange(text: &str) -> Vec<String> {
    let mut strange = Vec::new();
    for run in runs(text, |it| it.is_ascii_digit() || it == '.') {
        if let Ok(address) = run.trim_end_matches('.').parse::<Ipv4Addr>()
            && !is_documentation_v4(address)
        {
            strange.push(address.to_string());
        }
    }
    for run in runs(text, |it| it.is_ascii_hexdigit() || it == ':') {
        if let Ok(address) = run.trim_end_matches(':').parse::<Ipv6Addr>()
            && !is_documentation_v6(address)
        {
            strange.push(address.to_string());
        }
    }
    for scheme in ["http://", "https://", "mqtt://", "mqtts://"] {
        for rest in text.split(scheme).skip(1) {
            let host = rest.split(|it: char| !(it.is_alphanumeric() || "-._:[]@".contains(it))).next().unwrap();
            let host = host.rsplit('@').next().unwrap();
            if !LINKS.contains(&host.trim_end_matches(['.', ':'])) && !is_harmless(host.trim_end_matches(['.', ':'])) {
                strange.push(format!("{scheme}{host}"));
            }
        }
    }
    strange.extend(places(text).into_iter().filter(|place| !is_harmless(place)));
    strange
}

#[test]
fn documents_name_documentation_addresses_only() {
    let documents = documents();
    assert!(documents.len() > 100, "{}", documents.len());
    // The clause of a specification is written like an address; an address with a zone is of one machine's link only.
    let known = |name: &str, it: &str| {
        (name.ends_with("serial.rs") && it == "2.5.1.1") || (name.ends_with("endpoint.rs") && it == "fe80::1")
    };
    let found: Vec<String> = documents
        .iter()
        .flat_map(|(name, text)| strange(text).into_iter().map(move |it| (name, it)))
        .filter(|(name, it)| !known(name, it))
        .map(|(name, it)| format!("{name}: {it}"))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    let devices: usize = documents.iter().map(|(_, text)| places(text).len()).sum();
    assert!(devices > 15, "the places of devices are found: {devices}");
}

#[test]
fn a_planted_address_or_name_is_found() {
    for bad in [
        "ip_devices: [192.168.1.20:1502]",
        "  - group_name: a\n    ip_devices:\n      - meter1.example.net\n      - plc7",
        "ip_devices: [meter1.example.net, boiler.plant]",
        "  ip_address: pattoo.example.de",
        "# ip_address: 10.0.0.7",
        "{ip_devices: ['[fd00::7]:502'], unit: 1}",
        "curl http://192.0.3.1/metrics",
        "url: https://tsdb.plant.net:8086",
        "url: tsdb.plant.net:8086",
        "$ pattoo_agent_modbustcpd probe 172.16.0.9 40001",
        "the device at 8.8.8.8.",
        "posts to 2001:470::1",
        "status_hosts: [status.example.net.evil.org]",
    ] {
        assert!(!strange(bad).is_empty(), "{bad}");
    }
    for good in [
        "ip_devices: [192.0.2.20:1502, \"[2001:db8::7]:502\", meter1.example.net]",
        "ip_devices:\n  - serial:/dev/ttyUSB0\n  - 198.51.100.7",
        "ip_address: 127.0.0.1",
        "url: https://mimir.example.net:9009/api/v1/push",
        "see https://github.com/PalisadoesFoundation/pattoo, version 1.88.0, at 14:32:47.170",
        "[`crate::files::lock`] and std::fs::File",
        "status_listen: 0.0.0.0:20204",
    ] {
        assert_eq!(strange(good), [""; 0], "{good}");
    }
}

#[test]
fn every_test_that_the_security_document_names_is_there() {
    let document = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let table = document.split("## Each with its test").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.contains("| test |"));
    let names: Vec<&str> =
        rows.flat_map(|row| row.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2)).collect();
    assert!(names.len() > 15, "{names:?}");
    let mut files = Vec::new();
    for directory in ["src", "tests"] {
        below(&root().join(directory), &mut files);
    }
    let sources: String = files.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let missing: Vec<_> = names.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
