//! A real broker, mosquitto, and a subscriber that is built without the agent's code.
//!
//! A subscriber of QoS 0 is sent each message before its sender gets the acknowledgement, so that what it does not have when
//! the broker is killed was not acknowledged.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// The broker; it ends with this.
pub struct Mosquitto {
    directory: tempfile::TempDir,
    /// What holds for all of it.
    config: String,
    /// What stands behind the listener.
    of_listener: String,
    address: SocketAddr,
    process: Option<Child>,
}

impl Mosquitto {
    /// Started with these lines in its configuration, in which `DIR` is a directory of its own.
    pub fn start(lines: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let at = directory.path().display();
        // It would become another user, who may not write here.
        let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
        let config = format!(
            "{user}max_inflight_messages 0\nmax_queued_messages 0\npersistence true\npersistence_location {at}/\nlog_dest file \
             {at}/log\n",
        );
        let of_listener = lines.replace("DIR", &at.to_string());
        let mut broker = Self { directory, config, of_listener, address: ([127, 0, 0, 1], 0).into(), process: None };
        broker.run();
        broker
    }

    /// For everybody.
    pub fn open() -> Self {
        Self::start("allow_anonymous true", |_| {})
    }

    /// Where it listens, until it ends: each life has an address of its own, so that a subscriber can be there first.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it again, and waits until it takes connections.
    pub fn run(&mut self) {
        self.address = super::listen_somewhere().local_addr().unwrap();
        let Self { config, of_listener, address, .. } = self;
        let config = format!("{config}listener {} {}\n{of_listener}\n", address.port(), address.ip());
        fs::write(self.path("mosquitto.conf"), config).unwrap();
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(self.path("mosquitto.conf"));
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "{}", fs::read_to_string(self.path("log")).unwrap_or_default());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Ends it in order: what it has for others is on disk then.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            kill_process(Pid::from_child(&process), signal).unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where Debian has a program that is not for everybody.
pub fn program(name: &str) -> PathBuf {
    let system = Path::new("/usr/sbin").join(name);
    if system.is_file() { system } else { name.into() }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    /// As text.
    pub payload: String,
    /// As it came.
    pub bytes: Vec<u8>,
    /// It was kept by the broker from before the subscription.
    pub retained: bool,
}

/// A subscriber to every topic; its thread ends with the connection.
pub struct Subscriber {
    stream: TcpStream,
    messages: Arc<Mutex<Vec<Message>>>,
    /// One for each answer to what it asked.
    answers: Receiver<()>,
    reader: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// One that forgets; the broker has confirmed the subscription.
    pub fn of(broker: &Mosquitto) -> Self {
        // Another one with its id would end the connection of the first.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self::connect(broker, &format!("watch{}", NEXT.fetch_add(1, Ordering::Relaxed)), false)
    }

    /// One for whom the broker keeps what comes while it is away.
    pub fn lasting(broker: &Mosquitto) -> Self {
        Self::connect(broker, "lasting", true)
    }

    fn connect(broker: &Mosquitto, client_id: &str, lasting: bool) -> Self {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        let mut connect = b"\x00\x04MQTT\x04".to_vec();
        connect.extend([if lasting { 0 } else { 2 }, 0, 0]);
        text(&mut connect, client_id);
        send(&mut stream, 0x10, &connect).unwrap();
        let mut subscribe = vec![0, 1];
        text(&mut subscribe, "#");
        subscribe.push(u8::from(lasting));
        send(&mut stream, 0x82, &subscribe).unwrap();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let (shared, mut reader) = (Arc::clone(&messages), stream.try_clone().unwrap());
        let (answered, answers) = channel();
        let reader = thread::spawn(move || {
            while let Ok((first, packet)) = receive(&mut reader) {
                match first >> 4 {
                    2 => assert_eq!(packet[1], 0, "the broker refuses the subscriber"),
                    9 | 13 => answered.send(()).unwrap(),
                    3 => {
                        let length = usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                        let (topic, mut payload) = packet[2..].split_at(length);
                        if first & 0b110 != 0 {
                            let (id, rest) = payload.split_at(2);
                            payload = rest;
                            // The broker may be gone.
                            send(&mut reader, 0x40, id).ok();
                        }
                        let topic = String::from_utf8(topic.to_vec()).unwrap();
                        let (bytes, retained) = (payload.to_vec(), first & 1 == 1);
                        let payload = String::from_utf8_lossy(payload).into_owned();
                        shared.lock().unwrap().push(Message { topic, payload, bytes, retained });
                    }
                    other => panic!("a packet of type {other}"),
                }
            }
        });
        let subscriber = Self { stream, messages, answers, reader: Some(reader) };
        subscriber.answers.recv_timeout(PATIENCE).expect("a subscription");
        subscriber
    }

    /// Waits until everything has come that the broker had for it before.
    pub fn ping(&mut self) {
        send(&mut self.stream, 0xC0, &[]).unwrap();
        self.answers.recv_timeout(PATIENCE).expect("an answer to a ping");
    }

    /// Publishes a message of QoS 0, which is a short one.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.say(0x30, topic, payload);
    }

    /// The same, and the broker keeps it.
    pub fn publish_kept(&mut self, topic: &str, payload: &[u8]) {
        self.say(0x31, topic, payload);
    }

    fn say(&mut self, first: u8, topic: &str, payload: &[u8]) {
        let mut packet = Vec::new();
        text(&mut packet, topic);
        packet.extend(payload);
        send(&mut self.stream, first, &packet).unwrap();
    }

    /// What has come so far, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }
}

impl Subscriber {
    /// Goes away; everything that it has confirmed is in what it has heard.
    pub fn end(mut self) -> Vec<Message> {
        self.close();
        self.messages()
    }

    fn close(&mut self) {
        // The broker may have closed it.
        self.stream.shutdown(Shutdown::Both).ok();
        // What went wrong in there fails the test by what is missing.
        self.reader.take().map(JoinHandle::join);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.close();
    }
}

fn text(packet: &mut Vec<u8>, text: &str) {
    packet.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    packet.extend(text.as_bytes());
}

fn send(stream: &mut TcpStream, first: u8, packet: &[u8]) -> io::Result<()> {
    let mut bytes = vec![first, u8::try_from(packet.len()).unwrap()];
    assert!(packet.len() < 128, "one byte says how long it is");
    bytes.extend(packet);
    stream.write_all(&bytes)
}

/// The next packet: its first byte, and what stands behind its length.
pub fn receive(stream: &mut impl io::Read) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let (first, mut length, mut shift) = (byte[0], 0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet)?;
    Ok((first, packet))
}
