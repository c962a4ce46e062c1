//! What a backlog cost, and every way in which it was not as promised.

use std::fmt;
use std::time::{Duration, Instant};

use super::files::Arrivals;
use super::{INTERVAL, POINTS};
use crate::support::PATIENCE;
use crate::support::agent::{Agent, Home};
use crate::support::device::Request;
use crate::support::judge::Verdict;
use crate::support::server::Database;

/// The most memory that the agent may ever have.
const RSS_KIB: u64 = 32 << 10;

/// The longest time from the start to the first poll and to the first post.
const START: Duration = Duration::from_secs(1);

/// The longest time from SIGTERM to the end.
const STOP: Duration = Duration::from_secs(2);

/// What a backlog cost.
#[derive(Debug)]
pub struct Report {
    files: usize,
    made_in: Duration,
    /// The first poll and the first post after each start.
    starts: Vec<(Duration, Duration)>,
    stops: Vec<(String, Duration)>,
    /// The most memory at any time, in KiB.
    pub rss_kib: u64,
    drained: usize,
    drained_in: Duration,
    /// Time that the agent computed, in all lives.
    pub processor: Duration,
    polls: usize,
    due: usize,
    /// How far polls were from their tick, in ms.
    jitter: Vec<u64>,
    books: String,
    repeated: usize,
    /// What is lost, wrong or too large.
    pub faults: Vec<String>,
    /// What took too long.
    pub late: Vec<String>,
}

impl Report {
    /// So many batches were made in this time.
    pub fn new(files: usize, made_in: Duration) -> Self {
        Self {
            files,
            made_in,
            starts: Vec::new(),
            stops: Vec::new(),
            rss_kib: 0,
            drained: 0,
            drained_in: Duration::ZERO,
            processor: Duration::ZERO,
            polls: 0,
            due: 0,
            jitter: Vec::new(),
            books: String::new(),
            repeated: 0,
            faults: Vec::new(),
            late: Vec::new(),
        }
    }

    /// The agent was started, and polled and posted so long after.
    pub fn start(&mut self, poll: Duration, post: Duration) {
        if poll.max(post) > START {
            self.late.push(format!("a start took {poll:?} to the first poll, {post:?} to the first post"));
        }
        self.starts.push((poll, post));
    }

    /// Stops the agent at this point.
    pub fn stop(&mut self, agent: &mut Agent, when: &str) {
        let asked = Instant::now();
        agent.sigterm();
        let code = agent.wait(PATIENCE);
        let took = asked.elapsed();
        if code != Some(0) {
            self.faults.push(format!("exit code {code:?} {when}:\n{}", agent.log()));
        }
        if took > STOP {
            self.late.push(format!("SIGTERM {when} took {took:?}"));
        }
        self.stops.push((when.to_owned(), took));
        if let Some(line) = agent.log().lines().rfind(|line| line.contains("readings accepted")) {
            line[line.find("readings accepted").unwrap_or(0)..].clone_into(&mut self.books);
            self.close(when);
        }
    }

    /// The books of one life: what came is what went and what is left.
    fn close(&mut self, when: &str) {
        let numbers = self.books.split([',', ';']).map(|entry| entry.rsplit(' ').next()?.parse::<i64>().ok());
        let numbers: Option<Vec<i64>> = numbers.collect();
        match numbers.as_deref() {
            Some([accepted, found, gone @ ..]) if accepted + found == gone.iter().sum::<i64>() => {}
            _ => self.faults.push(format!("the books do not close {when}: {}", self.books)),
        }
    }

    /// So many rows of batches were delivered in this time.
    pub fn drained(&mut self, rows: usize, took: Duration) {
        self.drained += rows;
        self.drained_in += took;
    }

    /// These polls were made meanwhile, one interval apart but for the first.
    pub fn polled(&mut self, requests: &[Request]) {
        let Some((first, rest)) = requests.split_first().and_then(|(_, rest)| rest.split_first()) else { return };
        self.polls += rest.len();
        let last = rest.last().map_or(first.at, |last| last.at);
        let interval = ms(INTERVAL);
        self.due += usize::try_from((ms(last - first.at) + interval / 2) / interval).expect("few");
        self.jitter.extend(rest.iter().map(|request| {
            let into = ms(request.at - first.at) % interval;
            into.min(interval - into)
        }));
    }

    /// The end of it: everything has arrived or never will.
    pub fn settle(&mut self, arrivals: &Arrivals, live: &Verdict, database: &Database, home: &Home) {
        let mut fault = |what: &str, examples: &[String]| {
            if let Some(first) = examples.first() {
                self.faults.push(format!("{} {what}, the first: {first}", examples.len()));
            }
        };
        fault("wrong rows of batches", &arrivals.wrong);
        fault("polls twice", &live.duplicate);
        fault("polls in disorder", &live.disorder);
        fault("values that no answer held", &live.misattributed);
        fault("posts that end the server's ingester", database.deaths());
        fault("posts that the server ignores", database.invalid());
        fault("posts in disorder", database.disorder());
        let late: Vec<String> = database.late().iter().map(|row| format!("{row:?}")).collect();
        fault("rows sent too late", &late);
        let lost: Vec<String> = live.lost.iter().map(|(_, what)| what.clone()).collect();
        fault("polls lost", &lost);
        let (arrived, all) = (arrivals.cached, self.files * POINTS);
        let left = home.spooled().len() + home.quarantined();
        for (wrong, what) in [
            (arrived != all, format!("{arrived} of {all} rows of batches arrived")),
            (left > 0, format!("{left} batches are left on disk or in quarantine")),
            (self.rss_kib > RSS_KIB, format!("{} KiB of memory, more than {RSS_KIB}", self.rss_kib)),
        ] {
            if wrong {
                self.faults.push(what);
            }
        }
        self.repeated = database.repeated();
        self.jitter.sort_unstable();
    }

    /// Whether everything was as promised, speed included.
    pub fn passes(&self) -> bool {
        self.faults.is_empty() && self.late.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "batches cached                {:>12}   of {POINTS} readings each, made in {:.0?}",
            self.files, self.made_in
        )?;
        for (poll, post) in &self.starts {
            writeln!(
                f,
                "start to first poll, post     {:>12} {:>10}   at most {START:?}",
                seconds(*poll),
                seconds(*post)
            )?;
        }
        for (when, took) in &self.stops {
            writeln!(f, "SIGTERM to end                {:>12}   at most {STOP:?}, {when}", seconds(*took))?;
        }
        writeln!(f, "memory, at most               {:>8} KiB   at most {RSS_KIB} KiB", self.rss_kib)?;
        let rate = |count: usize| f64::from(u32::try_from(count).expect("millions")) / self.drained_in.as_secs_f64();
        writeln!(f, "delivered in                  {:>12}", seconds(self.drained_in))?;
        writeln!(f, "  processor of the agent      {:>12}", seconds(self.processor))?;
        writeln!(f, "  batches a second            {:>12.0}", rate(self.drained / POINTS))?;
        writeln!(f, "  readings a second           {:>12.0}", rate(self.drained))?;
        writeln!(f, "polls meanwhile               {:>12}   of {} due", self.polls, self.due)?;
        let at = |share: usize| self.jitter.get((self.jitter.len() * share / 100).min(self.jitter.len().max(1) - 1));
        let jitter = |share| at(share).map_or("none".to_owned(), |ms| format!("{ms} ms"));
        writeln!(f, "  off their tick, p50, p99    {:>12} {:>10}", jitter(50), jitter(99))?;
        writeln!(f, "repeated after the stops      {:>12}   dropped by the server", self.repeated)?;
        writeln!(f, "books of the last life        {}", self.books)?;
        for fault in &self.faults {
            writeln!(f, "FAULT {fault}")?;
        }
        for late in &self.late {
            writeln!(f, "LATE {late}")?;
        }
        write!(f, "{}", if self.passes() { "PASS" } else { "FAIL" })
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("less than 500 million years")
}
