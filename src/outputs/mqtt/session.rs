//! One connection to a broker: login with a last will, `online`, posts, pings.
//!
//! It ends without a farewell, whatever ends it: then the broker publishes the last will, so that `offline` is said by one side
//! only and in every case. Nothing is subscribed to, so what a broker sends is the answer to something; anything else ends the
//! connection, and so does silence where an answer is due.

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
    /// What is published, retained, once we are there.
    pub online: Option<Message>,
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
    /// When the ping was sent that is not answered yet.
    pinged: Option<Instant>,
    /// The identifier of the last packet.
    id: u16,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Logs in over `stream`, and says `online`, until `deadline`.
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
            pinged: None,
            id: 0,
            settings,
        };
        let Settings { version, login, .. } = &session.settings;
        packet::connect(*version, login, &mut session.output)
            .ok_or_else(|| MqttError::NoPacket { what: "the login".to_owned() })?;
        let keep_alive = login.keep_alive;
        match session.until(deadline).await? {
            Said::Connected(connected) => session.connected(&connected, keep_alive)?,
            Said::Disconnected(reason) => return Err(session.refused(To::Login, reason)),
            Said::Published { .. } | Said::Pong => return Err(session.no_answer()),
        }
        let mut online = Flight::new(session.settings.online.clone().into_iter().collect(), 1);
        session.fly(&mut online, deadline).await?;
        Ok(session)
    }

    fn connected(&mut self, connected: &Connected, keep_alive: u16) -> Result<(), MqttError> {
        let Connected { answer, window, most_bytes, keep_alive: other, acknowledges, retains } = connected;
        let code = match answer.code {
            reason::SUCCESS if !acknowledges => 0x9B,
            reason::SUCCESS if !retains => 0x9A,
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
        self.is_over = result.is_err();
        match flight.refused() {
            None => result,
            // A broker may close the connection behind a refusal (mosquitto 2.0.11 does), but that is why.
            Some((message, reason)) => Err(self.refused(To::Message(message.topic.clone()), reason.clone())),
        }
    }

    async fn send(&mut self, flight: &mut Flight, deadline: Instant) -> Result<(), MqttError> {
        loop {
            loop {
                let id = self.id.checked_add(1).unwrap_or(1);
                let Some(message) = flight.send(id) else { break };
                self.id = id;
                let (topic, retain) = (message.topic.clone(), message.kept || self.settings.retain);
                let bytes = packet::publish(self.settings.version, id, message, retain, &mut self.output)
                    .ok_or_else(|| MqttError::NoPacket { what: format!("a message to {topic}") })?;
                if bytes > self.most_bytes {
                    let (server, most) = (self.settings.server.clone(), self.most_bytes);
                    return Err(MqttError::TooLarge { server, topic, bytes, most });
                }
                self.last_sent = Instant::now();
            }
            if flight.is_over() {
                return Ok(());
            }
            match self.until(deadline).await? {
                Said::Published { id, answer } if flight.answered(id, answer.clone()) => {}
                Said::Disconnected(reason) => return Err(self.refused(To::Connection, reason)),
                Said::Published { .. } | Said::Pong | Said::Connected(_) => return Err(self.no_answer()),
            }
        }
    }

    /// Keeps the connection alive until it ends; says why it did. May be dropped at any time.
    pub async fn rest(&mut self) -> MqttError {
        match self.next().await {
            Ok(Said::Disconnected(reason)) => self.refused(To::Connection, reason),
            Ok(Said::Connected(_) | Said::Published { .. } | Said::Pong) => self.no_answer(),
            Err(error) => error,
        }
    }

    async fn until(&mut self, deadline: Instant) -> Result<Said, MqttError> {
        let (server, after) = (self.settings.server.clone(), self.settings.timeout);
        timeout_at(deadline, self.next()).await.unwrap_or(Err(MqttError::Timeout { server, after }))
    }

    /// What the broker says next, but for answers to pings.
    async fn next(&mut self) -> Result<Said, MqttError> {
        loop {
            let due = match (self.pinged, self.ping_after) {
                (Some(pinged), _) => pinged + self.settings.timeout,
                (None, Some(after)) => self.last_sent + after,
                (None, None) => self.last_sent + Duration::from_secs(86_400),
            };
            match timeout_at(due, poll_fn(|context| self.poll(context))).await {
                Ok(Ok(Said::Pong)) if self.pinged.take().is_some() => {}
                Ok(said) => {
                    return said
                        .map_err(|source| MqttError::Transport { server: self.settings.server.clone(), source });
                }
                Err(_elapsed) if self.pinged.is_some() => {
                    let (server, after) = (self.settings.server.clone(), self.settings.timeout);
                    return Err(MqttError::Timeout { server, after });
                }
                Err(_elapsed) => {
                    packet::ping(&mut self.output);
                    self.last_sent = Instant::now();
                    self.pinged = Some(self.last_sent);
                }
            }
        }
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

/// A message of these words, which the broker keeps.
pub fn says(topic: &str, words: &'static str) -> Message {
    Message { line: Bytes::new(), topic: topic.to_owned(), payload: Bytes::from_static(words.as_bytes()), kept: true }
}
