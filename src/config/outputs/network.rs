//! What every output over a network takes: `url`, `tls`, who we are, `headers`, `proxy`, `timeout`.
//!
//! Secrets stand in files of their own, never here: `$CREDENTIALS_DIRECTORY` (systemd) is looked in first, then the directory
//! of the file that names them. Their contents are part of the settings, so that a reload takes renewed ones over. A key that
//! is not known is a fault, because it may have been meant to protect something. A proxy is used where one is configured,
//! never because of the environment.

use std::time::Duration;

use awc::http::Uri;
use awc::http::header::{HeaderName, HeaderValue};

use crate::config::path::{credential, path};
use crate::config::tls::{CredentialCache, TlsSection, contents, open_to_all};
use crate::config::value::duration_within;
use crate::config::yaml::cursor::{Cursor, Entry, Report};
use crate::config::yaml::node::Node;
use crate::net::connect::{Proxy, Server};
use crate::outputs::network::{Network, Secret, basic};

/// What it takes.
pub const KEYS: [&str; 8] = ["url", "tls", "username", "password_file", "token_file", "headers", "proxy", "timeout"];

/// What of it is of use without HTTP.
pub const STREAM_KEYS: [&str; 6] = ["url", "tls", "username", "password_file", "proxy", "timeout"];

/// A scheme that a URL may have, whether it is secure, and its port.
pub type Scheme = (&'static str, bool, u16);

/// Those of HTTP.
pub const HTTP: &[Scheme] = &[("http", false, 80), ("https", true, 443)];

/// Those of MQTT.
pub const MQTT: &[Scheme] = &[("mqtt", false, 1883), ("mqtts", true, 8883)];

/// A header that would change how a request is understood.
const NOT_OURS: [&str; 5] = ["host", "content-length", "content-encoding", "transfer-encoding", "connection"];

/// Longer secrets are none.
const MAX_SECRET_BYTES: usize = 8 << 10;

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// As it is written.
    pub text: String,
    /// Whether its scheme is a secure one.
    pub secure: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// The one it names, else that of its scheme.
    pub port: u16,
    /// Empty, or `/base`, without a `/` at its end.
    pub base: String,
}

/// A URL of one of `schemes`.
pub fn url(value: &Cursor<'_>, schemes: &[Scheme], report: &mut Report) -> Option<Url> {
    let names: Vec<_> = schemes.iter().map(|(name, ..)| format!("{name}://")).collect();
    let allowed = format!("a URL such as {}server.example.net", names.join("… or "));
    let Node::Text(text) = &*value.node else {
        report.faults.push(value.unfit(&allowed));
        return None;
    };
    // A newline from a copied text is no part of a URL.
    let text = text.trim();
    let parsed = text.parse::<Uri>().ok();
    let scheme = |uri: &Uri| schemes.iter().find(|(name, ..)| uri.scheme_str() == Some(name)).copied();
    let Some((uri, (_, secure, port))) = parsed.and_then(|uri| scheme(&uri).map(|scheme| (uri, scheme))) else {
        report.faults.push(value.unfit(&allowed));
        return None;
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        // The fault must not show what is in it.
        let message = "found a URL with a login in it; write username and password_file instead";
        report.faults.push(value.diagnostic(message));
        return None;
    }
    // What stands behind a # would be left out without a word.
    if uri.query().is_some() || text.contains('#') {
        report
            .faults
            .push(value.diagnostic("found a URL with a ? or a # in it; its parameters have keys of their own"));
        return None;
    }
    let host = uri.host().unwrap_or_default();
    // The parser finds no port where there is one that cannot be.
    let written = uri.authority().and_then(|authority| authority.as_str().strip_prefix(host)).unwrap_or_default();
    let port = match written.strip_prefix(':') {
        Some(written) => written.parse().ok().filter(|port| *port != 0),
        None => Some(port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let (false, Some(port)) = (host.is_empty(), port) else {
        report.faults.push(value.unfit(&format!("{allowed}, with a port from 1 to 65535 if any")));
        return None;
    };
    // The zone of an address is written so in a URL (RFC 6874).
    let host = host.replacen("%25", "%", 1);
    // Paths of requests begin with a slash of their own.
    let base = uri.path().trim_end_matches('/').to_owned();
    Some(Url { text: text.to_owned(), secure, host, port, base })
}

/// Reads what stands in `entries`, those of the output `item`, whose URL may have one of `schemes`. What is wrong is in the
/// report.
pub fn read(item: &Cursor<'_>, entries: &[Entry<'_>], schemes: &[Scheme], report: &mut Report) -> Option<Network> {
    let faults = report.faults.len();
    let of = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let Some(place) = of("url") else {
        let example = schemes.first().map_or("", |(name, ..)| name);
        report
            .faults
            .push(item.diagnostic(format!("found a server without url; write url: {example}://server.example.net")));
        return None;
    };
    let url = url(place, schemes, report);
    let username = of("username").and_then(|value| line(value, "a name", report));
    let password = of("password_file").and_then(|value| secret(value, report));
    let token = of("token_file").and_then(|value| secret(value, report));
    let headers = of("headers").map_or_else(Vec::new, |value| headers(value, report));
    let proxy = of("proxy").and_then(|value| proxy(value, report));
    let form = "a duration such as 30s, from 1s to 10m";
    let limits = Duration::from_secs(1)..=Duration::from_secs(600);
    let timeout = of("timeout").and_then(|value| duration_within(value, limits, form, report));
    // A secure URL needs no section: then whom this machine believes is believed.
    let tls = match (&url, of("tls")) {
        (Some(url), section) if url.secure => {
            let mut read = TlsSection::default();
            if let Some(section) = section {
                read.read(section, report);
            }
            CredentialCache::default().of_peer(&read, &url.host, section.unwrap_or(place), report)
        }
        (Some(_), Some(section)) => {
            let secure = schemes.iter().find(|(_, secure, _)| *secure).map_or("", |(name, ..)| name);
            report.faults.push(section.diagnostic(format!("found tls, but the url is not one of {secure}://")));
            None
        }
        _ => None,
    };
    if let (Some(value), None) = (of("password_file"), of("username")) {
        report.faults.push(value.diagnostic("found password_file without username; give both"));
    }
    if let (Some(value), Some(_)) = (of("token_file"), of("username")) {
        report.faults.push(value.diagnostic("found token_file and username; give one of the two"));
    }
    let url = url?;
    // A warning only: the server may have no secure port.
    if let (false, Some(value)) = (url.secure, of("password_file").or(of("token_file"))) {
        report.warnings.push(value.diagnostic(
            "found a secret for a url that is not secure: everybody on the way can read it; use a secure url if the server \
             has one",
        ));
    }
    if report.faults.len() > faults {
        return None;
    }
    let server = Server { host: url.host, port: url.port, tls, proxy };
    let timeout = timeout.unwrap_or(Network::TIMEOUT);
    Some(Network { url: url.text, server, base: url.base, username, password, token, headers, timeout })
}

/// What is set, key by key, as it is written in the file; of secrets only that they are set.
#[must_use]
pub fn shown(network: &Network) -> Vec<(&'static str, String)> {
    const HIDDEN: &str = "set (not shown)";
    let Network { url, server, username, password, token, headers, timeout, .. } = network;
    let mut shown = vec![("url", url.clone())];
    shown.extend(username.clone().map(|name| ("username", name)));
    shown.extend(password.as_ref().map(|_| ("password_file", HIDDEN.to_owned())));
    shown.extend(token.as_ref().map(|_| ("token_file", HIDDEN.to_owned())));
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    shown.extend((!names.is_empty()).then(|| ("headers", format!("{} (values not shown)", names.join(", ")))));
    shown.extend(server.proxy.as_ref().map(|proxy| ("proxy", format!("{proxy:?}"))));
    shown.extend(server.tls.as_ref().map(|tls| ("tls.server_name", tls.name())));
    shown.push(("timeout", humantime::format_duration(*timeout).to_string()));
    shown
}

/// A text of one line.
pub fn line(value: &Cursor<'_>, what: &str, report: &mut Report) -> Option<String> {
    match &*value.node {
        Node::Text(text) if !text.is_empty() && !text.chars().any(char::is_control) => Some(text.clone()),
        _ => {
            report.faults.push(value.unfit(&format!("{what}, not empty, on one line")));
            None
        }
    }
}

/// What stands in a file: one line, without the newline at its end.
fn secret(value: &Cursor<'_>, report: &mut Report) -> Option<Secret> {
    let name = path(value, "the name of a file", report)?;
    let path = credential(&name, value, report);
    let bytes = contents(&(path.clone(), value.clone()), report)?;
    if let Some(mode) = open_to_all(&path) {
        report.warnings.push(value.diagnostic(format!(
            "found {}, a secret that every user of this machine can get at (mode {mode:04o}); run chmod o-rwx on it, and \
             change the secret if somebody may have",
            path.display()
        )));
    }
    let text = String::from_utf8(bytes).ok();
    // Some editors write a mark before the text.
    let text = text.map(|text| text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']).to_owned());
    let fit = |text: &String| (1..=MAX_SECRET_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    let Some(text) = text.filter(fit) else {
        report.faults.push(value.diagnostic(format!(
            "found {}, which holds no secret; allowed is one line of text, not empty",
            path.display()
        )));
        return None;
    };
    Some(Secret::new(text))
}

fn headers(value: &Cursor<'_>, report: &mut Report) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for entry in value.entries_of("names of headers and their values", report) {
        let name = HeaderName::from_bytes(entry.key.as_bytes()).ok();
        let name = name.filter(|name| !NOT_OURS.contains(&name.as_str()));
        let Some(name) = name else {
            report.faults.push(entry.key_cursor.diagnostic(format!(
                "found {:?}; allowed is the name of a header, such as X-Scope-OrgID, but none of {}",
                entry.key,
                NOT_OURS.join(", ")
            )));
            continue;
        };
        let text = match &*entry.value.node {
            Node::Text(text) => Some(text.clone()),
            // X-Scope-OrgID: 7 is a text to whoever writes it.
            Node::Integer(number) => Some(number.to_string()),
            _ => None,
        };
        match text.and_then(|text| HeaderValue::from_str(&text).ok()) {
            Some(mut value) => {
                // It may be a token: so marked, no debug output shows it.
                value.set_sensitive(true);
                headers.push((name, value));
            }
            // It may be a secret.
            None => report.faults.push(entry.value.diagnostic("found no value of a header; allowed is a text")),
        }
    }
    headers
}

/// The URL of a proxy, or a mapping of url, username and `password_file`.
fn proxy(value: &Cursor<'_>, report: &mut Report) -> Option<Proxy> {
    const PROXY_KEYS: [&str; 3] = ["url", "username", "password_file"];
    const SCHEMES: &[Scheme] = &[("http", false, 8080)];
    if let Node::Text(_) = &*value.node {
        let Url { host, port, .. } = url(value, SCHEMES, report)?;
        return Some(Proxy { host, port, authorization: None });
    }
    let (mut at, mut username, mut password) = (None, None, None);
    let entries = value.entries_of("url, username and password_file", report);
    let of = |key: &str| entries.iter().find(|entry| entry.key == key);
    if let (Some(entry), None) = (of("password_file"), of("username")) {
        report.faults.push(entry.value.diagnostic("found password_file without username; give both"));
    }
    for entry in entries {
        match entry.key.as_str() {
            "url" => at = url(&entry.value, SCHEMES, report),
            "username" => username = line(&entry.value, "a name", report),
            "password_file" => password = secret(&entry.value, report),
            _ => report.faults.push(entry.unknown(&PROXY_KEYS)),
        }
    }
    let Some(Url { host, port, .. }) = at else {
        report.faults.push(value.diagnostic("found proxy without a url; write proxy: http://proxy.example.net:8080"));
        return None;
    };
    let authorization = username.map(|name| basic(&name, password.as_ref()));
    Some(Proxy { host, port, authorization })
}
