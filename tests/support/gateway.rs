//! Ways to a device other than plain Modbus TCP: it stands behind a gateway, or on a serial line, which speaks RTU or
//! TLS to the agent and Modbus TCP to the device.
//!
//! RTU is written from the serial line's specification; TLS is that of the library that the agent uses too, which
//! is why openssl has a test of its own. A gateway can spoil what passes; it writes down what an agent must never
//! send. One connection of the agent is one of the gateway to the device.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{self, OpenptFlags};
use rustix::termios;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// What happens to replies on an RTU line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Nothing.
    Clean,
    /// A bit of the last value is changed.
    Flips,
    /// A byte comes before them.
    Crackles,
    /// The line says something of its own accord when it is taken up.
    Greets,
}

/// What a line says that greets.
const GREETING: &[u8] = b"+++ registration 4711 +++\r\n";

/// A running gateway; its threads end with the test program.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    line: Arc<Mutex<Line>>,
    violations: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// RTU over TCP to the device.
    pub fn rtu(device: SocketAddr) -> Self {
        let (gateway, listener) = Self::new();
        let (line, violations) = (Arc::clone(&gateway.line), Arc::clone(&gateway.violations));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (line, violations) = (Arc::clone(&line), Arc::clone(&violations));
                thread::spawn(move || rtu(stream, device, &line, &violations));
            }
        });
        gateway
    }

    /// Modbus/TCP Security to the device, with this certificate; only for who has one of `clients`, if that is given.
    pub fn tls(device: SocketAddr, own: &Issued, clients: Option<&Authority>) -> Self {
        Self::secure(server(own, clients), move |agent| relay(agent, device))
    }

    /// A reverse proxy with TLS before a server that closes after each answer.
    pub fn https(server: SocketAddr, own: &Issued) -> Self {
        Self::secure(self::server(own, None), move |agent| pass_on(agent, server))
    }

    fn secure(
        config: ServerConfig,
        serve: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Copy + Send + 'static,
    ) -> Self {
        let (gateway, listener) = Self::new();
        let config = Arc::new(config);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let config = Arc::clone(&config);
                thread::spawn(move || {
                    let Ok(connection) = ServerConnection::new(config) else { return };
                    serve(StreamOwned::new(connection, stream));
                });
            }
        });
        gateway
    }

    fn new() -> (Self, TcpListener) {
        let listener = super::listen_somewhere();
        let address = listener.local_addr().expect("a bound listener has an address");
        let line = Arc::new(Mutex::new(Line::Clean));
        (Self { address, line, violations: Arc::default() }, listener)
    }

    /// The `ip_device` text of the configuration.
    pub fn target(&self) -> String {
        self.address.to_string()
    }

    /// From now on this happens to replies.
    pub fn set(&self, line: Line) {
        *self.line.lock().expect("no gateway thread panics") = line;
    }

    /// What the agent did that it must never do.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().expect("no gateway thread panics").clone()
    }
}

/// A serial line whose other end is a pseudo-terminal, at a path that stays; it is torn off when dropped.
#[derive(Debug)]
pub struct SerialLine {
    path: PathBuf,
    /// Keeps the line up while nobody else has it open.
    _end: File,
    torn: Arc<AtomicBool>,
    violations: Arc<Mutex<Vec<String>>>,
}

impl SerialLine {
    /// A line to the device, whose near end is at `path`.
    pub fn new(path: PathBuf, device: SocketAddr) -> Self {
        let far = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        pty::grantpt(&far).expect("a pseudo-terminal");
        pty::unlockpt(&far).expect("a pseudo-terminal");
        let near = pty::ptsname(&far, Vec::new()).expect("a pseudo-terminal").into_string().expect("a path");
        let end = File::options().read(true).write(true).open(&near).expect("its near end");
        let mut raw = termios::tcgetattr(&end).expect("a terminal");
        raw.make_raw();
        termios::tcsetattr(&end, termios::OptionalActions::Now, &raw).expect("a terminal");
        std::os::unix::fs::symlink(near, &path).expect("a path of its own");
        let (torn, violations) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let line = Far { file: File::from(far), torn: Arc::clone(&torn) };
        let told = Arc::clone(&violations);
        thread::spawn(move || rtu(line, device, &Mutex::new(Line::Clean), &told));
        Self { path, _end: end, torn, violations }
    }

    /// The `ip_device` text of the configuration.
    pub fn target(&self) -> String {
        format!("serial:{}", self.path.display())
    }

    /// What the agent did that it must never do.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().expect("no line's thread panics").clone()
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        self.torn.store(true, Ordering::Relaxed);
        std::fs::remove_file(&self.path).ok();
    }
}

/// The far end; it ends soon after the line is torn off.
struct Far {
    file: File,
    torn: Arc<AtomicBool>,
}

impl Read for Far {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let moment = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        while !self.torn.load(Ordering::Relaxed) {
            let mut waiting = [PollFd::new(&self.file, PollFlags::IN)];
            if poll(&mut waiting, Some(&moment))? > 0 {
                return self.file.read(buffer);
            }
        }
        Ok(0)
    }
}

impl Write for Far {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Serves one RTU line until it ends.
fn rtu(mut line: impl Read + Write, device: SocketAddr, state: &Mutex<Line>, violations: &Mutex<Vec<String>>) {
    let Ok(mut device) = TcpStream::connect(device) else { return };
    if *state.lock().expect("no gateway thread panics") == Line::Greets && line.write_all(GREETING).is_err() {
        return;
    }
    let mut request = [0; 8];
    while line.read_exact(&mut request).is_ok() {
        if checksum(&request) != 0 {
            violations.lock().expect("no gateway thread panics").push(format!("a wrong checksum: {request:?}"));
            return;
        }
        let frame = [&[0, 0, 0, 0, 0, 6], &request[..6]].concat();
        if device.write_all(&frame).is_err() {
            return;
        }
        let Some(mut reply) = adu(&mut device) else { return };
        reply.extend(checksum(&reply).to_le_bytes());
        match *state.lock().expect("no gateway thread panics") {
            Line::Clean | Line::Greets => {}
            Line::Flips => {
                let last = reply.len() - 3;
                reply[last] ^= 0x10;
            }
            Line::Crackles => reply.insert(0, 0),
        }
        if line.write_all(&reply).is_err() {
            return;
        }
    }
}

/// Unit and PDU of the next frame of a Modbus TCP device.
fn adu(device: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = [0; 6];
    device.read_exact(&mut header).ok()?;
    let mut adu = vec![0; usize::from(u16::from_be_bytes([header[4], header[5]]))];
    device.read_exact(&mut adu).ok()?;
    Some(adu)
}

/// The checksum of a serial line; 0 over a frame that ends in its own.
fn checksum(bytes: &[u8]) -> u16 {
    let mut crc: u16 = 0xFFFF;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1 != 0;
            crc >>= 1;
            if carry {
                crc ^= 0xA001;
            }
        }
    }
    crc
}

/// Request by request, as Modbus goes.
fn relay(mut agent: impl Read + Write, device: SocketAddr) {
    let mut request = [0; 12];
    // The handshake comes with the first byte; who does not get through it never reaches the device.
    if agent.read_exact(&mut request).is_err() {
        return;
    }
    let Ok(mut device) = TcpStream::connect(device) else { return };
    loop {
        if device.write_all(&request).is_err() {
            return;
        }
        let Some(reply) = adu(&mut device) else { return };
        let length = u16::try_from(reply.len()).expect("a frame of Modbus TCP").to_be_bytes();
        let frame = [&request[..4], &length, &reply].concat();
        if agent.write_all(&frame).is_err() || agent.flush().is_err() || agent.read_exact(&mut request).is_err() {
            return;
        }
    }
}

/// One request over HTTP, and its answer.
fn pass_on(mut agent: impl Read + Write, server: SocketAddr) {
    let mut request = Vec::new();
    let head = loop {
        let mut byte = [0];
        if agent.read_exact(&mut byte).is_err() {
            return;
        }
        request.push(byte[0]);
        if request.ends_with(b"\r\n\r\n") {
            break String::from_utf8(request.clone()).expect("a head in ASCII").to_lowercase();
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    if agent.read_exact(&mut body).is_err() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(server) else { return };
    let mut answer = Vec::new();
    let passed = server.write_all(&[request, body].concat()).and_then(|()| server.read_to_end(&mut answer));
    // Who is gone in between gets no answer.
    let _ = passed.and_then(|_| agent.write_all(&answer)).and_then(|()| agent.flush());
}

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// One of its own.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    /// Its certificate, in PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name`.
    pub fn issue(&self, name: &str) -> Issued {
        self.sign(name, |_| ())
    }

    /// A certificate for `name` that was valid until 2001.
    pub fn issue_expired(&self, name: &str) -> Issued {
        self.sign(name, |params| {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        })
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

fn server(own: &Issued, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).expect("a certificate");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("an authority"))
        }
    };
    let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
    builder.with_single_cert(vec![certificate], key).expect("a certificate and its key")
}
