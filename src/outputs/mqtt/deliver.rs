//! A connection to the broker that is there when it is needed: made for the first post, kept alive between posts, made again
//! when it broke.
//!
//! A task holds it, because a broker wants to be pinged while nothing is posted, and to hear of us again when the connection broke
//! meanwhile: until then it tells everybody that we are offline. The task ends with the [`MqttDeliver`], and the
//! connection with it.
//!
//! What is said besides posts (which devices are there, what Home Assistant is told) is said by the same task between two posts. A
//! broker that refuses it has it told once, and nothing more of the kind is said: readings come first.

use std::time::Duration;

use actix_rt::task::JoinHandle;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::dialect::{Dialect, Plain};
use super::message::Message;
use super::packet::Login;
use super::reason::{MqttError, To};
use super::session::{KEEP_ALIVE, Session, Settings};
use super::sparkplug::edge_node::EdgeNode;
use super::{Identity, MqttSettings};
use crate::net::connect::{Connector, Stream, authority};
use crate::net::error::ConnectError;
use crate::outputs::network::Secret;
use crate::outputs::plant::Plant;
use crate::outputs::{Answer, Deliver, Failure, LocalFuture, Verdict};
use crate::text::Chain;
use crate::time::backoff::Backoff;
use crate::time::clock;

/// Between attempts to connect while nothing is to be posted.
const IDLE_BACKOFF: Duration = Duration::from_secs(60);

/// How long it may take until it is heard whether anybody is there: a broker says so right after the subscription.
const HEARING: Duration = Duration::from_secs(2);

/// Publishes posts.
pub struct MqttDeliver {
    target: Target,
    task: Option<(mpsc::Sender<Post>, JoinHandle<()>)>,
}

/// Which broker, as whom, and what is known of devices.
#[derive(Debug, Clone)]
pub struct Target {
    settings: MqttSettings,
    identity: Identity,
    plant: Plant,
}

impl Target {
    /// By these settings; what is said of devices is seen in `plant`.
    #[must_use]
    pub fn new(settings: MqttSettings, identity: Identity, plant: Plant) -> Self {
        Self { settings, identity, plant }
    }

    fn dialect(&self) -> Box<dyn Dialect> {
        let Self { settings, identity, plant } = self.clone();
        match settings.sparkplug {
            Some(sparkplug) => Box::new(EdgeNode::new(sparkplug, identity.edge_node_id, plant)),
            None => Box::new(Plain::new(settings, identity, plant)),
        }
    }

    fn session(&self, dialect: &dyn Dialect) -> Settings {
        let MqttSettings { network, version, retain, sparkplug, .. } = &self.settings;
        let login = Login {
            client_id: self.identity.client_id.clone(),
            username: network.username.clone(),
            password: network.password.as_ref().map(|password: &Secret| Bytes::from(password.reveal().to_owned())),
            will: None,
            keep_alive: u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX),
        };
        Settings {
            server: authority(&network.server.host, network.server.port),
            version: *version,
            login,
            filters: dialect.filters(),
            must_hear: sparkplug.is_some(),
            acknowledged: sparkplug.is_none(),
            retain: *retain,
            timeout: network.timeout,
        }
    }

    fn network(&self) -> Network {
        let network = &self.settings.network;
        Network { connector: Connector::new(network.server.clone()), limit: network.timeouts().connect }
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

    /// What holds the connection. One that is made connects after `pause`, if nothing is posted before.
    fn task(&mut self, pause: Duration) -> &mpsc::Sender<Post> {
        let alive = self.task.take().filter(|(_, task)| !task.is_finished());
        let (posts, _) = self.task.insert(alive.unwrap_or_else(|| {
            // One post is on its way at a time; whoever gave it waits for its answer.
            let (posts, requests) = mpsc::channel(1);
            let dialect = self.target.dialect();
            let settings = self.target.session(&*dialect);
            let changes = self.target.plant.changes();
            let mut connection = Connection::new(self.target.network(), settings, dialect, changes);
            connection.again = Instant::now() + pause;
            (posts, actix_rt::spawn(connection.run(requests)))
        }));
        posts
    }

    async fn publish(&mut self, body: Bytes) -> Result<(), Failure> {
        let posts = self.task(IDLE_BACKOFF);
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
async fn log_in(target: &Target) -> Result<(), MqttError> {
    let mut settings = target.session(&*target.dialect());
    // A running agent keeps its connection, and nobody is told that it has another one.
    settings.login.client_id.push_str("_check");
    settings.filters.clear();
    let deadline = Instant::now() + settings.timeout;
    let unreachable = |source| MqttError::Connect { server: settings.server.clone(), source };
    let stream = target.network().dial().await.map_err(unreachable)?;
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
    fn begin(&mut self) {
        // The last will of the connection before has told everybody that we are offline.
        self.task(Duration::ZERO);
    }

    fn post(&mut self, body: Bytes) -> LocalFuture<'_, Answer> {
        Box::pin(async { Answer { result: self.publish(body).await, server_time: None } })
    }

    fn try_out(&mut self) -> LocalFuture<'_, Result<String, Failure>> {
        Box::pin(async {
            log_in(&self.target).await?;
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
    dialect: Box<dyn Dialect>,
    session: Option<Session<D::Stream>>,
    /// Something has been said over the connection.
    has_begun: bool,
    /// Says when something has changed that may be told.
    changes: watch::Receiver<()>,
    /// Something may be due to be said besides posts.
    is_due: bool,
    /// The broker has refused that.
    is_mute: bool,
    backoff: Backoff,
    /// When to connect again if nothing is posted before.
    again: Instant,
}

impl<D: Dial> Connection<D> {
    fn new(dial: D, settings: Settings, dialect: Box<dyn Dialect>, changes: watch::Receiver<()>) -> Self {
        Self {
            dial,
            settings,
            dialect,
            session: None,
            has_begun: false,
            changes,
            is_due: false,
            is_mute: false,
            backoff: Backoff::default(),
            again: Instant::now() + IDLE_BACKOFF,
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
            if self.is_due {
                self.say_what_is_due().await;
            }
            let broke = if let Some(session) = &mut self.session {
                tokio::select! {
                    post = posts.recv() => return post,
                    rested = session.rest() => rested.err(),
                    // Whoever makes changes is there as long as the process is.
                    _ = self.changes.changed() => None,
                }
            } else {
                tokio::select! {
                    post = posts.recv() => return post,
                    () = sleep_until(self.again) => {}
                }
                self.connect(None, Instant::now() + self.settings.timeout).await.err()
            };
            self.is_due = true;
            if let Some(error) = broke {
                tracing::debug!("{}", Chain(&error));
                self.failed(&error);
            }
        }
    }

    fn broken(&mut self) {
        self.session = None;
        self.again = Instant::now() + self.backoff.fail_up_to(IDLE_BACKOFF, fastrand::f64());
    }

    /// A connection over which something may be said, for a post if there is one.
    async fn connect(&mut self, post: Option<&Bytes>, deadline: Instant) -> Result<(), MqttError> {
        let server = self.settings.server.clone();
        let mut heard_by = Instant::now();
        if self.session.is_none() {
            let stream = self.dial.dial().await;
            let stream = stream.map_err(|source| MqttError::Connect { server: server.clone(), source })?;
            let mut settings = self.settings.clone();
            // Made anew for each connection: that of Sparkplug has the number of its connection in it.
            settings.login.will = Some(self.dialect.will(clock::wall()));
            self.session = Some(Session::open(stream, settings, deadline).await?);
            self.has_begun = false;
            // Only for a new connection: over one that is there a broker has said long ago who is there.
            heard_by = Instant::now() + HEARING;
        }
        let Some(session) = self.session.as_mut().filter(|_| !self.has_begun) else { return Ok(()) };
        loop {
            session.heard().into_iter().for_each(|(topic, payload)| self.dialect.hear(&topic, &payload));
            if self.dialect.is_heard() {
                break;
            }
            match timeout_at(heard_by, session.rest()).await {
                Ok(rested) => rested?,
                Err(_elapsed) => return Err(MqttError::NobodyHears { server }),
            }
        }
        self.has_begun = true;
        session.post(self.dialect.begin(post, clock::wall()), deadline).await.1
    }

    async fn post(&mut self, body: &Bytes) -> Result<(), MqttError> {
        let deadline = Instant::now() + self.settings.timeout;
        if let Err(error) = self.connect(Some(body), deadline).await {
            self.failed(&error);
            return Err(error);
        }
        self.is_due = true;
        let Some(session) = &mut self.session else { return Ok(()) };
        let (done, result) = session.post(self.dialect.post(body, clock::wall()), deadline).await;
        self.dialect.posted(done, result.is_ok());
        session.heard().into_iter().for_each(|(topic, payload)| self.dialect.hear(&topic, &payload));
        if session.is_over() {
            self.broken();
        } else if result.is_ok() && !self.dialect.is_heard() {
            // Nobody knows what of it was heard.
            self.broken();
            return Err(MqttError::NobodyHears { server: self.settings.server.clone() });
        }
        if result.is_ok() {
            self.backoff.reset();
        }
        result
    }

    /// There is no connection, or one over which nothing may be said yet.
    fn failed(&mut self, error: &MqttError) {
        // It stays, to hear when the primary host comes.
        if !matches!(error, MqttError::NobodyHears { .. }) {
            self.broken();
        }
    }

    /// Says what is due besides posts, over the connection that there is.
    async fn say_what_is_due(&mut self) {
        self.is_due = false;
        let Some(session) = &mut self.session else { return };
        // Before the plant is looked at: what changes meanwhile is told the next time.
        self.changes.mark_unchanged();
        session.heard().into_iter().for_each(|(topic, payload)| self.dialect.hear(&topic, &payload));
        match (self.has_begun, self.dialect.is_heard()) {
            (true, true) => {}
            (false, false) => return,
            // Whoever is not there any more is told of the end by the last will, and is waited for over another connection.
            (true, false) => return self.broken(),
            (false, true) => {
                if let Err(error) = self.connect(None, Instant::now() + self.settings.timeout).await {
                    tracing::debug!("{}", Chain(&error));
                    self.broken();
                }
                return;
            }
        }
        let messages: Vec<Message> = self.dialect.due(clock::wall());
        if messages.is_empty() || self.is_mute {
            return;
        }
        let deadline = Instant::now() + self.settings.timeout;
        let Err(error) = session.post(messages, deadline).await.1 else { return };
        if matches!(error, MqttError::Refused { to: To::Message(_), .. }) {
            // Otherwise each change of a device would be refused once more, and a broker such as mosquitto closes the
            // connection behind each refusal.
            self.is_mute = true;
            tracing::warn!(
                "{}; readings go on, but nothing is said any more of which devices are there, until the configuration of the \
                 output changes or the agent is started again",
                Chain(&error)
            );
        } else {
            tracing::debug!("{}", Chain(&error));
        }
        if session.is_over() {
            self.broken();
        }
    }
}

#[cfg(test)]
mod tests;
