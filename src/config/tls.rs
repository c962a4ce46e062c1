//! `tls`, of devices and of outputs: the files, read and checked once however many devices share them.
//!
//! A peer is believed for the authority that has signed its certificate (`ca`) or for its very certificate (`pin`); where
//! both are given, as when the defaults have the one and a device the other, the pin decides. An output without either
//! believes whom this machine believes; for devices there is no such authority. Paths are relative to the file that names them, but
//! what is in `$CREDENTIALS_DIRECTORY` comes first. A private key that every user can read is worth a warning.
//! The contents are part of the settings, so that a reload takes over a certificate that was renewed in its place.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::path::{credential, path};
use crate::config::provenance::Stated;
use crate::config::yaml::cursor::{Cursor, Report};
use crate::config::yaml::node::Node;
use crate::config::yaml::source;
use crate::files::trust;
use crate::net::tls::{Credentials, CredentialsError, Pem, Pin, Tls, Trust};
use crate::text::Chain;

pub const KEYS: [&str; 5] = ["ca", "pin", "certificate", "key", "server_name"];

/// What the sections about a peer say.
#[derive(Debug, Clone, Default)]
pub struct TlsSection<'a> {
    ca: Option<Named<'a>>,
    pin: Option<Pin>,
    certificate: Option<Named<'a>>,
    key: Option<Named<'a>>,
    server_name: Option<(String, Cursor<'a>)>,
}

/// A file, and where it is named.
pub type Named<'a> = (PathBuf, Cursor<'a>);

impl<'a> TlsSection<'a> {
    /// Adds what stands in `cursor`; what stood elsewhere before stays as far as this says nothing. The keys and
    /// their values for people.
    pub fn read(&mut self, cursor: &Cursor<'a>, report: &mut Report) -> Vec<Stated> {
        let mut stated = Vec::new();
        for entry in cursor.entries_of("ca or pin, certificate, key and server_name", report) {
            let (key, file) = match entry.key.as_str() {
                "ca" => ("tls.ca", &mut self.ca),
                "certificate" => ("tls.certificate", &mut self.certificate),
                "key" => ("tls.key", &mut self.key),
                "pin" => {
                    stated.extend(self.pin(&entry.value, report));
                    continue;
                }
                "server_name" => {
                    stated.extend(self.server_name(entry.value, report));
                    continue;
                }
                _ => {
                    report.faults.push(entry.unknown(&KEYS));
                    continue;
                }
            };
            if let Some(path) = path(&entry.value, "the name of a file", report) {
                let path = credential(&path, &entry.value, report);
                stated.push((key, path.display().to_string()));
                *file = Some((path, entry.value));
            }
        }
        stated
    }

    fn pin(&mut self, value: &Cursor<'a>, report: &mut Report) -> Option<Stated> {
        let pin = match &*value.node {
            Node::Text(text) => text.trim().parse::<Pin>().ok(),
            _ => None,
        };
        let Some(pin) = pin else {
            let allowed =
                "the SHA-256 of the device's certificate: 64 hexadecimal digits in quotes, with or without colons";
            report.faults.push(value.unfit(allowed));
            return None;
        };
        self.pin = Some(pin);
        Some(("tls.pin", pin.to_string()))
    }

    fn server_name(&mut self, value: Cursor<'a>, report: &mut Report) -> Option<Stated> {
        let Node::Text(name) = &*value.node else {
            report.faults.push(value.unfit("a host name or an address"));
            return None;
        };
        let name = name.trim().to_owned();
        self.server_name = Some((name.clone(), value));
        Some(("tls.server_name", name))
    }
}

/// Every set of files that was asked for, read once; `None` for what cannot be used, which has been told.
#[derive(Debug, Default)]
pub struct CredentialCache(HashMap<Asked, Option<Arc<Credentials>>>);

/// Pin, authority, certificate, key.
type Asked = (Option<Pin>, [Option<PathBuf>; 3]);

impl CredentialCache {
    /// What `section` means for the device on `host`, of which it is said at `place` that it is to be secure.
    pub fn tls(
        &mut self,
        section: &TlsSection<'_>,
        host: &str,
        place: &Cursor<'_>,
        report: &mut Report,
    ) -> Option<Tls> {
        if let (None, None) = (&section.ca, section.pin) {
            report.faults.push(place.diagnostic(
                "found tls without tls.ca, the file with the certificate of who signs for the devices, and without tls.pin, \
                 the SHA-256 of the device's own; without either no device can be believed",
            ));
            return None;
        }
        self.of_peer(section, host, place, report)
    }

    /// The same for a server, which may be believed because this machine does.
    pub fn of_peer(
        &mut self,
        section: &TlsSection<'_>,
        host: &str,
        place: &Cursor<'_>,
        report: &mut Report,
    ) -> Option<Tls> {
        // The server name is no part of the key: a thousand devices with one authority share what is read of its file.
        let files =
            [&section.ca, &section.certificate, &section.key].map(|named| named.as_ref().map(|(path, _)| path.clone()));
        let credentials =
            // What is wrong with the files is told at the first device that names them, and not for each of a thousand.
            self.0.entry((section.pin, files)).or_insert_with(|| credentials(section, place, report)).clone()?;
        let (name, said_at) = match &section.server_name {
            Some((name, cursor)) => (name.as_str(), cursor),
            None => (host, place),
        };
        Tls::new(credentials, name)
            .map_err(|error| {
                report.faults.push(said_at.diagnostic(format!("found \"{name}\": {error}; set server_name")));
            })
            .ok()
    }
}

fn credentials(section: &TlsSection<'_>, place: &Cursor<'_>, report: &mut Report) -> Option<Arc<Credentials>> {
    let own = match (&section.certificate, &section.key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some((_, cursor)), None) => {
            report
                .faults
                .push(cursor.diagnostic("found tls.certificate without tls.key; they are given both or not at all"));
            return None;
        }
        (None, Some((_, cursor))) => {
            report
                .faults
                .push(cursor.diagnostic("found tls.key without tls.certificate; they are given both or not at all"));
            return None;
        }
    };
    let trust = match (section.pin, &section.ca) {
        // The pin first: the defaults may have an authority for all, and this device a certificate of its own making.
        (Some(pin), _) => Some(Trust::Pin(pin)),
        (None, Some(ca)) => contents(ca, report).map(Trust::Authority),
        (None, None) => system(place, report),
    };
    let own_pem = own.map(|(certificate, key)| (contents(certificate, report), secret(key, report)));
    // Both were read before this ends, so that what is wrong with either is told.
    let own_pem = match own_pem {
        None => None,
        Some((certificate, key)) => Some((certificate?, key?)),
    };
    let result = Credentials::new(Pem { trust: trust?, own: own_pem });
    result
        .map_err(|error| {
            let file = match (&error, own) {
                (CredentialsError::Certificate(_), Some((certificate, _))) => Some(certificate),
                (CredentialsError::Key(_) | CredentialsError::Pair(_), Some((_, key))) => Some(key),
                _ => section.ca.as_ref(),
            };
            report.faults.push(match file {
                Some((path, cursor)) => cursor.diagnostic(format!("found {}: {}", path.display(), Chain(&error))),
                None => place.diagnostic(format!("found tls: {}", Chain(&error))),
            });
        })
        .ok()
        .map(Arc::new)
}

/// Whom this machine believes.
fn system(place: &Cursor<'_>, report: &mut Report) -> Option<Trust> {
    let found = rustls_native_certs::load_native_certs();
    // A single file that cannot be read is no matter while others can.
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        report.faults.push(place.diagnostic(format!(
            "found tls without tls.ca and tls.pin, and this machine knows no authority{why}; install its ca-certificates, or \
             set one of the two"
        )));
        return None;
    }
    Some(Trust::System(found.certs.iter().map(|certificate| certificate.to_vec()).collect()))
}

/// A file that nobody else should be able to read.
fn secret(named: &Named<'_>, report: &mut Report) -> Option<Vec<u8>> {
    let (path, cursor) = named;
    let contents = contents(named, report)?;
    if let Some(mode) = open_to_all(path) {
        let message = format!(
            "found {}, a private key that every user of this machine can get at (mode {mode:04o}); run chmod o-rwx on it, \
             and have its authority sign another one if somebody may have",
            path.display()
        );
        report.warnings.push(cursor.diagnostic(message));
    }
    Some(contents)
}

/// The mode of a file that every user of this machine can get at.
pub fn open_to_all(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.mode() & 0o7777);
    (mode & 0o007 != 0).then_some(mode)
}

/// What stands in a file that is named in the configuration.
pub fn contents((path, cursor): &Named<'_>, report: &mut Report) -> Option<Vec<u8>> {
    // A secret that `configure` has asked for is not on disk before everything else is right.
    if let Some((_, text)) = report.proposed.iter().find(|(of, _)| of == path) {
        return Some(text.clone().into_bytes());
    }
    match source::read(path) {
        Ok(Some(contents)) => {
            let directory = path.parent().unwrap_or(path);
            // The directory of the configuration is judged once, with the files in it, by `lints::of_owners`.
            for place in [path.as_path(), directory].into_iter().filter(|place| *place != cursor.directory()) {
                if let Some(doubt) = std::fs::metadata(place).ok().as_ref().and_then(trust::doubt) {
                    report.warnings.push(cursor.diagnostic(format!("found {}; {doubt}", place.display())));
                }
            }
            return Some(contents);
        }
        Ok(None) => report.faults.push(cursor.diagnostic(format!("found {}; there is no such file", path.display()))),
        // It says why, and of which file.
        Err(fault) => {
            report.faults.push(cursor.diagnostic(format!("found {}, which {}", path.display(), fault.message)));
        }
    }
    None
}
