//! One connection to a broker: login with a last will, subscriptions, posts, pings.
//!
//! It ends without a farewell, whatever ends it: then the broker publishes the last will, so that `offline` is said by one side
//! only and in every case. What a broker sends is the answer to something, or fits what is subscribed to; anything else ends the
//! connection, and so does silence where an answer is due.
//!
//! A message of QoS 0 is not acknowledged. So a ping goes behind as many as may be open: a broker answers in order, and has read them
//! when it answers that.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::Version;
use super::flight::Flight;
use super::message::Message;
use super::packet::{self, Connected, Login, Reason, Said, reason};
use super::reason::{MqttError, To};

/// So many messages wait for their acknowledgement at most: after a broken connection no more than these come twice.
pub const WINDOW: u16 = 100;

/// A broker publishes the last will when it has heard nothing for one and a half times as long.
pub const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How much is read at once.
const READ: usize = 4 << 10;

/// What a session needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host and port, for messages.
    pub server: String,
    /// The protocol.
    pub version: Version,
    /// As whom we come.
    pub login: Login,
    /// What is subscribed to.
    pub filters: Vec<String>,
    /// Whether that is of use only if the broker allows it.
    pub must_hear: bool,
    /// Whether messages are of QoS 1.
    pub acknowledged: bool,
    /// Whether the broker keeps what posts hold.
    pub retain: bool,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// A connection.
#[derive(Debug)]
pub struct Session<S> {
    stream: S,
    settings: Settings,
    /// What came and is no whole packet yet.
    input: BytesMut,
    /// What is not written yet.
    output: BytesMut,
    unflushed: bool,
    /// Why nothing can be written any more.
    unwritable: Option<io::Error>,
    /// It cannot be used any more.
    is_over: bool,
    window: u16,
    most_bytes: usize,
    /// After how much silence of ours it is pinged.
    ping_after: Option<Duration>,
    last_sent: Instant,
    /// So many pings are not answered yet.
    pings: usize,
    /// When the last of them was sent.
    pinged: Instant,
    /// What has come by subscription: topics and payloads.
    heard: Vec<(String, Bytes)>,
    /// The identifier of the last packet.
    id: u16,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Logs in over `stream` and subscribes, until `deadline`.
    ///
    /// # Errors
    /// When the broker does not take us, or does not answer.
    pub async fn open(stream: S, settings: Settings, deadline: Instant) -> Result<Self, MqttError> {
        let mut session = Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            unwritable: None,
            is_over: false,
            window: WINDOW,
            most_bytes: usize::MAX,
            ping_after: None,
            last_sent: Instant::now(),
            pings: 0,
            pinged: Instant::now(),
            heard: Vec::new(),
            id: 0,
            settings,
        };
        let Settings { version, login, .. } = &session.settings;
        packet::connect(*version, login, &mut session.output)
            .ok_or_else(|| MqttError::NoPacket { what: "the login".to_owned() })?;
        let keep_alive = login.keep_alive;
        match session.until(deadline).await? {
            Some(Said::Connected(connected)) => session.connected(&connected, keep_alive)?,
            Some(Said::Disconnected(reason)) => return Err(session.refused(To::Login, reason)),
            _ => return Err(session.no_answer()),
        }
        session.subscribe(deadline).await?;
        Ok(session)
    }

    async fn subscribe(&mut self, deadline: Instant) -> Result<(), MqttError> {
        if self.settings.filters.is_empty() {
            return Ok(());
        }
        let asked = self.next_id();
        packet::subscribe(self.settings.version, asked, &self.settings.filters, &mut self.output)
            .ok_or_else(|| MqttError::NoPacket { what: "the subscription".to_owned() })?;
        self.last_sent = Instant::now();
        loop {
            match self.until(deadline).await? {
                // What the broker has kept may come first.
                None => {}
                Some(Said::Subscribed { id, answer }) if id == asked => {
                    return match answer.code {
                        reason::SUCCESS..reason::UNSPECIFIED => Ok(()),
                        _ if self.settings.must_hear => Err(self.refused(To::Subscription, answer)),
                        _ => {
                            // Then what earlier runs have announced is not taken back; readings need no subscription.
                            tracing::debug!("{}", self.refused(To::Subscription, answer));
                            Ok(())
                        }
                    };
                }
                Some(Said::Disconnected(reason)) => return Err(self.refused(To::Connection, reason)),
                Some(_) => return Err(self.no_answer()),
            }
        }
    }

    fn next_id(&mut self) -> u16 {
        // 0 is no packet identifier (MQTT 5, 2.2.1).
        self.id = self.id.checked_add(1).unwrap_or(1);
        self.id
    }

    fn connected(&mut self, connected: &Connected, keep_alive: u16) -> Result<(), MqttError> {
        let Connected { answer, window, most_bytes, keep_alive: other, acknowledges, retains } = connected;
        let code = match answer.code {
            // The reasons by which it would end the connection later (MQTT 5, 3.14.2.1): so a person is told before
            // anything is posted.
            reason::SUCCESS if !acknowledges => 0x9B,
            reason::SUCCESS if !retains && self.settings.login.will.as_ref().is_some_and(|will| will.kept) => 0x9A,
            code => code,
        };
        if code != reason::SUCCESS {
            return Err(self.refused(To::Login, Reason { code, said: answer.said.clone() }));
        }
        self.window = WINDOW.min(*window);
        self.most_bytes = *most_bytes;
        let keep_alive = other.unwrap_or(keep_alive);
        // Twice as often as need be, so that a connection that is dead is known to be in time.
        self.ping_after = (keep_alive > 0).then(|| Duration::from_secs(keep_alive.into()) / 2);
        Ok(())
    }

    /// Publishes these messages; says which lines of them need not be sent again, and whether all are acknowledged.
    ///
    /// # Errors
    /// When they are not. The connection may be over then: see [`is_over`](Self::is_over).
    pub async fn post(&mut self, messages: Vec<Message>, deadline: Instant) -> (Vec<Bytes>, Result<(), MqttError>) {
        let mut flight = Flight::new(messages, self.window.into());
        let result = self.fly(&mut flight, deadline).await;
        (flight.done(), result)
    }

    /// Whether the connection cannot be used any more.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    async fn fly(&mut self, flight: &mut Flight, deadline: Instant) -> Result<(), MqttError> {
        let result = self.send(flight, deadline).await;
        // What is open on a connection after an error can be known no more. A refusal alone is no such error.
        self.is_over = result.is_err();
        match flight.refused() {
            None => result,
            // A broker may close the connection behind a refusal (mosquitto 2.0.11 does), but that is why.
            Some((message, reason)) => Err(self.refused(To::Message(message.topic.clone()), reason.clone())),
        }
    }

    async fn send(&mut self, flight: &mut Flight, deadline: Instant) -> Result<(), MqttError> {
        let Settings { version, acknowledged, retain, .. } = self.settings;
        let mut is_asked = false;
        loop {
            loop {
                let id = self.id.checked_add(1).unwrap_or(1);
                let Some(message) = flight.send(id) else { break };
                self.id = id;
                let Message { line, topic, kept, .. } = message;
                let id = acknowledged.then_some(id);
                let bytes = packet::publish(version, id, message, *kept || retain, &mut self.output)
                    .ok_or_else(|| MqttError::NoPacket { what: format!("a message to {topic}") })?;
                if bytes > self.most_bytes {
                    let (server, topic, most) = (self.settings.server.clone(), topic.clone(), self.most_bytes);
                    return Err(MqttError::TooLarge { server, topic, bytes, most, is_of_post: !line.is_empty() });
                }
                self.last_sent = Instant::now();
            }
            if flight.is_over() {
                return Ok(());
            }
            if !acknowledged && !is_asked {
                self.ping();
                is_asked = true;
            }
            match self.until(deadline).await? {
                // The last ping is the one behind them.
                None if is_asked && self.pings == 0 => {
                    flight.all_arrived();
                    is_asked = false;
                }
                None => {}
                Some(Said::Published { id, answer }) if flight.answered(id, answer.clone()) => {}
                Some(Said::Disconnected(reason)) => return Err(self.refused(To::Connection, reason)),
                Some(_) => return Err(self.no_answer()),
            }
        }
    }

    /// Keeps the connection alive until something is heard. May be dropped at any time.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn rest(&mut self) -> Result<(), MqttError> {
        while self.heard.is_empty() {
            match self.next().await? {
                None => {}
                Some(Said::Disconnected(reason)) => return Err(self.refused(To::Connection, reason)),
                Some(_) => return Err(self.no_answer()),
            }
        }
        Ok(())
    }

    /// What has come by subscription since the last call: topics and payloads.
    pub fn heard(&mut self) -> Vec<(String, Bytes)> {
        std::mem::take(&mut self.heard)
    }

    async fn until(&mut self, deadline: Instant) -> Result<Option<Said>, MqttError> {
        let (server, after) = (self.settings.server.clone(), self.settings.timeout);
        timeout_at(deadline, self.next()).await.unwrap_or(Err(MqttError::Timeout { server, after }))
    }

    /// What the broker says next; `None` where that is the answer to a ping, or something that is heard.
    async fn next(&mut self) -> Result<Option<Said>, MqttError> {
        loop {
            let due = match self.ping_after {
                _ if self.pings > 0 => self.pinged + self.settings.timeout,
                Some(after) => self.last_sent + after,
                // The broker has turned keep-alive off (0; MQTT 5, 3.2.2.3.14): no ping is ever due.
                None => self.last_sent + Duration::from_secs(86_400),
            };
            match timeout_at(due, poll_fn(|context| self.poll(context))).await {
                Ok(Ok(Said::Pong)) if self.pings > 0 => {
                    self.pings -= 1;
                    return Ok(None);
                }
                Ok(Ok(Said::Message { id, topic, payload })) if !self.settings.filters.is_empty() => {
                    if let Some(id) = id {
                        packet::acknowledge(id, &mut self.output);
                    }
                    self.heard.push((topic, payload));
                    return Ok(None);
                }
                Ok(said) => {
                    let server = || self.settings.server.clone();
                    return said.map(Some).map_err(|source| MqttError::Transport { server: server(), source });
                }
                Err(_elapsed) if self.pings > 0 => {
                    let (server, after) = (self.settings.server.clone(), self.settings.timeout);
                    return Err(MqttError::Timeout { server, after });
                }
                Err(_elapsed) => self.ping(),
            }
        }
    }

    fn ping(&mut self) {
        packet::ping(&mut self.output);
        self.pings += 1;
        self.pinged = Instant::now();
        self.last_sent = self.pinged;
    }

    /// Writes what is to be written, and reads a packet.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Said>> {
        if self.unwritable.is_none()
            && let Poll::Ready(Err(error)) = self.poll_write(context)
        {
            self.unwritable = Some(error);
        }
        loop {
            let said = packet::take(self.settings.version, &mut self.input);
            let said = said.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if let Some(said) = said {
                return Poll::Ready(Ok(said));
            }
            let mut space = [0; READ];
            let mut buffer = ReadBuf::new(&mut space);
            // A broker that has closed the connection may have said why before.
            let ended = match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed it")
                }
                Poll::Ready(Ok(())) => {
                    self.input.extend_from_slice(buffer.filled());
                    continue;
                }
                Poll::Ready(Err(error)) => error,
                Poll::Pending if self.unwritable.is_none() => return Poll::Pending,
                // Nothing is left to be read: it is the failed write that has ended the connection.
                Poll::Pending => io::ErrorKind::BrokenPipe.into(),
            };
            return Poll::Ready(Err(self.unwritable.take().unwrap_or(ended)));
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, &self.output))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            packet::written(&mut self.output, count);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn refused(&self, to: To, reason: Reason) -> MqttError {
        MqttError::Refused { server: self.settings.server.clone(), to, reason }
    }

    fn no_answer(&self) -> MqttError {
        let source = io::Error::new(io::ErrorKind::InvalidData, packet::NoPacket);
        MqttError::Transport { server: self.settings.server.clone(), source }
    }
}
