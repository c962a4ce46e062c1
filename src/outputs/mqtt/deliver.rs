//! A connection to the broker that is there when it is needed: made for the first post, kept alive between posts, made again
//! when it broke.
//!
//! A task holds it, because a broker wants to be pinged while nothing is posted, and to hear of us again when the connection broke
//! meanwhile: until then it tells everybody that we are offline. The task ends with the [`MqttDeliver`], and the
//! connection with it.
//!
//! A post that failed goes again, as it was or in parts, without the messages that were acknowledged: their lines are remembered
//! until then.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use actix_rt::task::JoinHandle;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::home_assistant::Announcements;
use super::message::{Message, parse};
use super::packet::Login;
use super::reason::MqttError;
use super::session::{KEEP_ALIVE, Session, Settings, says};
use super::{Identity, MqttSettings};
use crate::net::connect::{Connector, Server, Stream, authority};
use crate::net::error::ConnectError;
use crate::outputs::network::Secret;
use crate::outputs::{Answer, Deliver, Failure, LocalFuture, Verdict};
use crate::time::backoff::Backoff;

/// Between attempts to connect while nothing is to be posted.
const IDLE_BACKOFF: Duration = Duration::from_secs(60);

/// Publishes posts.
pub struct MqttDeliver {
    target: Target,
    task: Option<(mpsc::Sender<Post>, JoinHandle<()>)>,
}

/// Which broker, and how.
#[derive(Debug, Clone)]
pub struct Target {
    server: Server,
    connect: Duration,
    settings: Settings,
    announcements: Announcements,
}

impl Target {
    /// By these settings. What is in `announcements` is said once over each connection, before it is needed.
    #[must_use]
    pub fn new(settings: &MqttSettings, identity: Identity, announcements: Announcements) -> Self {
        let network = &settings.network;
        let Identity { client_id, availability_topic, .. } = identity;
        let login = Login {
            client_id,
            username: network.username.clone(),
            password: network.password.as_ref().map(|password: &Secret| Bytes::from(password.reveal().to_owned())),
            will: Some(says(&availability_topic, "offline")),
            keep_alive: u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX),
        };
        let session = Settings {
            server: authority(&network.server.host, network.server.port),
            version: settings.version,
            login,
            online: Some(says(&availability_topic, "online")),
            retain: settings.retain,
            timeout: network.timeout,
        };
        let (server, connect) = (network.server.clone(), network.timeouts().connect);
        Self { server, connect, settings: session, announcements }
    }
}

/// A post, and who waits for it.
struct Post {
    body: Bytes,
    answer: oneshot::Sender<Result<(), Failure>>,
}

impl MqttDeliver {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, task: None }
    }

    async fn publish(&mut self, body: Bytes) -> Result<(), Failure> {
        let alive = self.task.take().filter(|(_, task)| !task.is_finished());
        let (posts, _) = self.task.insert(alive.unwrap_or_else(|| {
            let (posts, requests) = mpsc::channel(1);
            let Target { server, connect, settings, announcements } = self.target.clone();
            let network = Network { connector: Connector::new(server), limit: connect };
            let connection = Connection::new(network, settings, announcements);
            (posts, actix_rt::spawn(connection.run(requests)))
        }));
        let (answer, answered) = oneshot::channel();
        let ended = || {
            let verdict = Verdict::Later { after: None, late: false };
            Failure::new(verdict, "transport", "the connection ended before everything was acknowledged")
        };
        posts.send(Post { body, answer }).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// Logs in, and says nothing more.
async fn log_in(Target { server, connect, mut settings, .. }: Target) -> Result<(), MqttError> {
    // A running agent keeps its connection, and nobody is told that it has another one.
    settings.login.client_id.push_str("_check");
    (settings.login.will, settings.online) = (None, None);
    let deadline = Instant::now() + settings.timeout;
    let unreachable = |source| MqttError::Connect { server: settings.server.clone(), source };
    let stream = Connector::new(server).connect(connect).await.map_err(unreachable)?;
    Session::open(stream, settings, deadline).await.map(drop)
}

impl Drop for MqttDeliver {
    fn drop(&mut self) {
        // A post may be under way that nobody waits for any more.
        if let Some((_, task)) = &self.task {
            task.abort();
        }
    }
}

impl Deliver for MqttDeliver {
    fn post(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        Box::pin(async { Answer { result: self.publish(body).await, server_time: None } })
    }

    fn try_out(&mut self) -> LocalFuture<'_, Result<String, Failure>> {
        Box::pin(async {
            log_in(self.target.clone()).await?;
            Ok("takes the login".to_owned())
        })
    }
}

/// Makes streams to the broker.
trait Dial {
    type Stream: AsyncRead + AsyncWrite + Unpin;

    async fn dial(&mut self) -> Result<Self::Stream, ConnectError>;
}

struct Network {
    connector: Connector,
    limit: Duration,
}

impl Dial for Network {
    type Stream = Stream;

    async fn dial(&mut self) -> Result<Stream, ConnectError> {
        self.connector.connect(self.limit).await
    }
}

/// What the task holds.
struct Connection<D: Dial> {
    dial: D,
    settings: Settings,
    announcements: Announcements,
    session: Option<Session<D::Stream>>,
    /// What was announced over this connection, by topic.
    announced: HashMap<String, Bytes>,
    backoff: Backoff,
    /// When to connect again if nothing is posted before.
    again: Instant,
    /// The lines of posts that failed which need not be sent again.
    done: HashSet<Bytes>,
}

impl<D: Dial> Connection<D> {
    fn new(dial: D, settings: Settings, announcements: Announcements) -> Self {
        Self {
            dial,
            settings,
            announcements,
            session: None,
            announced: HashMap::new(),
            backoff: Backoff::default(),
            again: Instant::now() + IDLE_BACKOFF,
            done: HashSet::new(),
        }
    }

    async fn run(mut self, mut posts: mpsc::Receiver<Post>) {
        while let Some(Post { body, answer }) = self.idle(&mut posts).await {
            let result = self.post(&body).await.map_err(Failure::from);
            // Whoever waited may be gone.
            answer.send(result).ok();
        }
    }

    /// Keeps the connection until there is something to post; `None` when there never will be.
    async fn idle(&mut self, posts: &mut mpsc::Receiver<Post>) -> Option<Post> {
        loop {
            let broke = if let Some(session) = &mut self.session {
                tokio::select! {
                    post = posts.recv() => return post,
                    error = session.rest() => error,
                }
            } else {
                tokio::select! {
                    post = posts.recv() => return post,
                    () = sleep_until(self.again) => {}
                }
                match self.connect(Instant::now() + self.settings.timeout).await {
                    Ok(()) => continue,
                    Err(error) => error,
                }
            };
            tracing::debug!("{}", crate::text::Chain(&broke));
            self.broken();
        }
    }

    fn broken(&mut self) {
        self.session = None;
        self.again = Instant::now() + self.backoff.fail_up_to(IDLE_BACKOFF, fastrand::f64());
    }

    async fn connect(&mut self, deadline: Instant) -> Result<(), MqttError> {
        let server = self.settings.server.clone();
        let stream = self.dial.dial().await.map_err(|source| MqttError::Connect { server, source })?;
        self.session = Some(Session::open(stream, self.settings.clone(), deadline).await?);
        self.announced.clear();
        Ok(())
    }

    async fn post(&mut self, body: &Bytes) -> Result<(), MqttError> {
        let deadline = Instant::now() + self.settings.timeout;
        let mut messages = parse(body);
        let count = messages.len();
        // They are of this post, or of one that comes in parts: each is skipped once.
        let mut skipped = Vec::new();
        messages.retain(|message| self.done.take(&message.line).map(|line| skipped.push(line)).is_none());
        if skipped.is_empty() {
            self.done.clear();
        } else if skipped.len() == count {
            return Ok(());
        }
        let result = self.publish(messages, deadline).await;
        if result.is_err() {
            self.done.extend(skipped);
        }
        result
    }

    async fn publish(&mut self, messages: Vec<Message>, deadline: Instant) -> Result<(), MqttError> {
        if self.session.is_none()
            && let Err(error) = self.connect(deadline).await
        {
            self.broken();
            return Err(error);
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let mut new: HashMap<String, Bytes> = HashMap::new();
        let mut all = Vec::with_capacity(messages.len());
        for message in messages {
            if let Some(announcement) = self.announcements.of(&message.topic)
                && self.announced.get(&announcement.topic) != Some(&announcement.payload)
                && new.insert(announcement.topic.clone(), announcement.payload.clone()).is_none()
            {
                all.push(announcement);
            }
            all.push(message);
        }
        let (done, result) = session.post(all, deadline).await;
        if session.is_over() {
            self.broken();
        }
        match &result {
            Ok(()) => {
                self.backoff.reset();
                self.announced.extend(new);
            }
            Err(_) => self.done.extend(done),
        }
        result
    }
}

#[cfg(test)]
mod tests;
