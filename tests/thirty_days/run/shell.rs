//! The shell: what is read is handed over, and what the pipeline decides is done.

use std::io::Write as _;

use super::world::{UPTIME, ms};
use super::{
    Action, Answer, Batch, Bytes, ClockState, Done, DropReason, Duration, End, Entry, Event, Failure, FaultyDisk,
    Flight, GATHER, Job, Kind, LAST_POSTS, Limit, Moment, NEVER, Now, POISON, ROUND_TRIP, Reading, Run, SECOND,
    TIMEOUT, UnderWay, Value, Verdict, Violation, Weather, What,
};

/// Readings.
impl Run<'_> {
    pub(super) fn poll(&mut self, place: usize) -> Result<(), Violation> {
        self.healthy()?;
        let clocks = self.clocks();
        let silent = self.active().any(|(_, what)| what == What::Silent);
        let life = &mut self.life;
        let device = &mut self.devices[place];
        device.schedule.begin(clocks.boot);
        let at = life.timeline.stamp(clocks, &mut device.track).written();
        life.anchor.follow(clocks);
        device.schedule.finish(clocks.boot, life.anchor);
        device.due = self.now + device.schedule.wait(clocks.boot).max(Duration::from_millis(1));
        if silent {
            return Ok(());
        }
        let mut readings = Vec::new();
        for point in 0..self.scenario.points {
            let series = place * self.scenario.points + point;
            let n = self.ledger.entries[series].len();
            self.ledger.entries[series].push(Entry { read: self.now, position: None, lost: false });
            life.gathered.push_back((series, n));
            let number = u32::try_from(n).unwrap();
            let value =
                if series.is_multiple_of(2) { Value::Float(f64::from(number)) } else { Value::Integer(number.into()) };
            readings.push(Reading { point: self.ledger.place(series, self.turn), at, value });
        }
        let hold = life.hold().map(|hold| hold.id);
        let closed = life.batcher.accept(&self.table, &readings, hold);
        for batch in closed {
            self.hand_over(Some(batch))?;
        }
        if self.life.gather == NEVER && self.life.batcher.is_open() {
            self.life.gather = self.now + GATHER;
        }
        Ok(())
    }

    pub(super) fn hand_over(&mut self, batch: Option<Batch>) -> Result<(), Violation> {
        let Some(batch) = batch else { return Ok(()) };
        let life = &mut self.life;
        for _ in 0..batch.count {
            let (series, n) = life.gathered.pop_front().unwrap();
            self.ledger.entries[series][n].position = Some(self.positions.len() as u64);
            self.positions.push(Some((series, n)));
        }
        let hold = batch.undated.and_then(|_| life.hold());
        let boot = UPTIME + (self.now - self.booted.min(self.now));
        life.pipeline.accept(batch, hold, boot);
        life.handed = self.now;
        life.jobs_in_a_row = 0;
        life.touched = true;
        self.pump()
    }
}

/// What the pipeline decides is done.
impl Run<'_> {
    pub(super) fn wakes(&mut self) -> Result<(), Violation> {
        let early = self.now < self.life.wake;
        self.life.probe = NEVER;
        let clock = self.clock_error().unwrap_or(i64::MIN);
        let untouched = !self.life.touched && clock == self.life.clock_when_armed;
        let armed = self.life.armed;
        self.life.jobs_in_a_row = 0;
        let before = self.stats.jobs + self.stats.posts;
        let waited = self.life.waits_for_date;
        let events = self.pump_and_count()?;
        let acted = self.stats.jobs + self.stats.posts > before || events > 0;
        // While a date is waited for the clock is looked at every second, and with it whatever else belongs to that.
        if early && acted && untouched && !self.life.waits_for_date && !waited {
            return Err(format!("the deadline was too late: there was something to do before ({events} events)"));
        }
        // A pause may end with nothing to do; but not one after the other.
        let in_vain = !early && !acted && untouched && !waited && self.now - armed < SECOND;
        self.life.in_vain = if in_vain { self.life.in_vain + 1 } else { 0 };
        if self.life.in_vain > 2 {
            return Err(format!("woken for nothing again and again, after {:?}", self.now - armed));
        }
        Ok(())
    }

    pub(super) fn pump(&mut self) -> Result<(), Violation> {
        self.life.in_vain = 0;
        self.pump_and_count().map(|_| ())
    }

    pub(super) fn pump_and_count(&mut self) -> Result<usize, Violation> {
        let mut actions = 0;
        loop {
            let clocks = self.clocks();
            let life = &mut self.life;
            let state = life.timeline.observe(clocks);
            let believed = !matches!(state, ClockState::NotPlausible { .. });
            if !believed {
                self.unwell = self.now;
            }
            let (timeline, offset) = (&life.timeline, life.timeline.offset());
            let too_far_ahead = |at| timeline.too_far_ahead(at, clocks);
            let now = Now { moment: clocks, believed, offset, too_far_ahead: &too_far_ahead };
            let Some(action) = life.pipeline.next(&now) else { break };
            actions += 1;
            if actions > 100 {
                return Err(format!("no end of actions: {action:?}"));
            }
            if self.trace.is_some_and(|from| self.now >= from) {
                self.say(&action);
            }
            self.perform(action)?;
        }
        let events = self.life.pipeline.take_events();
        let count = events.len();
        for event in &events {
            if self.trace.is_some_and(|from| self.now >= from) {
                self.say(event);
            }
            self.tell(event)?;
        }
        self.judge()?;
        let boot = self.clocks().boot;
        let life = &mut self.life;
        let deadline = life.pipeline.deadline(boot);
        if deadline <= boot {
            return Err("the deadline is over".to_owned());
        }
        life.wake = self.now + (deadline - boot);
        life.armed = self.now;
        life.touched = false;
        life.probe = if self.rng.u8(0..8) == 0 {
            self.now + Duration::from_millis(self.rng.u64(0..=ms(deadline - boot)))
        } else {
            NEVER
        };
        life.probe = if life.probe > self.now && life.probe < life.wake { life.probe } else { NEVER };
        self.life.clock_when_armed = self.clock_error().unwrap_or(i64::MIN);
        if let Some(since) = self.life.stopping {
            let stored = self.life.pipeline.is_stored_or_delivered();
            if self.life.pipeline.is_settled() || (stored && self.now >= since + LAST_POSTS) {
                let (_, moment) = self.scenario.moments[self.next_moment - 1];
                let Moment::Stop { down, toggle } = moment else { unreachable!("only a stop stops") };
                // While the disk refuses it may be that all has it, and nothing is stored.
                let is_stored = self.life.durable == self.positions.len() as u64;
                let end = if is_stored && self.life.pipeline.is_settled() && self.life.write_failed.is_none() {
                    End::Stored
                } else {
                    End::Killed
                };
                self.ended(end, down, Duration::ZERO, toggle)?;
            } else {
                let latest = since + LAST_POSTS;
                if latest > self.now {
                    self.life.wake = self.life.wake.min(latest);
                    self.life.touched = true;
                }
            }
        }
        Ok(count)
    }

    pub(super) fn perform(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Disk(job) => self.start_job(job),
            Action::Post { output, body, .. } => self.start_flight(output, Some(body)),
            Action::AskTime { output } => self.start_flight(output, None),
        }
    }

    pub(super) fn start_job(&mut self, job: Job) -> Result<(), Violation> {
        self.stats.jobs += 1;
        let boot = self.now;
        let life = &mut self.life;
        if life.job.is_some() {
            return Err(format!("two jobs at a time: {job:?}"));
        }
        life.jobs_in_a_row += 1;
        if life.jobs_in_a_row > 300 {
            return Err(format!("{} jobs and nothing else happens: {job:?}", life.jobs_in_a_row));
        }
        let is_write = matches!(job, Job::Write(_));
        let is_kept = matches!(job, Job::SetAside(_) | Job::ForgetOld(_));
        // An old batch that is done with is removed at once; only where that failed it is tried later.
        let is_new = matches!(&job, Job::ForgetOld(name) if !life.forgotten.contains(name));
        if let Job::ForgetOld(name) = &job {
            life.forgotten.push(name.clone());
        }
        let failed = match job {
            Job::Write(_) => life.write_failed,
            _ if is_new => None,
            _ if is_kept => life.keep_failed,
            _ => life.read_failed,
        };
        if let Some(failed) = failed
            && boot - failed < Duration::from_millis(450)
            && life.stopping.is_none()
            && !matches!(job, Job::Limit(_))
        {
            return Err(format!("{:?} after a failure: {job:?}", boot - failed));
        }
        let last_batch = match &job {
            Job::Write(write) => write.batches.last().map_or(0, |batch| batch.end().0),
            _ => 0,
        };
        if let Job::SetAside(aside) = &job {
            let output = life.lanes[aside.output];
            self.set_aside(output, &aside.body)?;
        }
        let faults = self.disk_faults();
        let mut ends = self.now + FaultyDisk::takes(&faults, &mut self.rng);
        if let Some(until) = self.hangs_until(ends) {
            ends = ends.max(until + Duration::from_millis(self.rng.u64(1..50)));
            self.stats.hangs += 1;
        }
        let mut under_way =
            UnderWay { since: self.now, ends, job: None, done: None, told: false, last_batch, is_write };
        if self.rng.bool() {
            self.set_disk();
            under_way.done = self.life.log.as_mut().map(|log| log.perform(job));
        } else {
            under_way.job = Some(job);
        }
        self.life.job = Some(under_way);
        Ok(())
    }

    pub(super) fn set_aside(&mut self, output: usize, body: &[u8]) -> Result<(), Violation> {
        let rows: Vec<(usize, usize)> = match self.outputs[output].spec.kind {
            Kind::Pattoo => {
                let mut database = crate::support::server::Database::default();
                database.ingest(body);
                database.rows().iter().map(|row| self.ledger.row(row)).map(|(series, n, _)| (series, n)).collect()
            }
            Kind::Lines => {
                let text = str::from_utf8(body).unwrap();
                text.lines().map(|line| self.ledger.line(line)).map(|(series, n, _)| (series, n)).collect()
            }
        };
        let poisoned = self
            .scenario
            .faults
            .iter()
            .any(|fault| fault.what == What::Server(output, Weather::Poisoned) && fault.from <= self.now);
        for (series, n) in rows {
            if !poisoned || !series.is_multiple_of(self.scenario.points) {
                return Err(format!("series {series}: {n} is set aside though it was never refused"));
            }
            self.outputs[output].aside.insert((series, n));
        }
        Ok(())
    }

    pub(super) fn job_ends(&mut self) -> Result<(), Violation> {
        let UnderWay { since, job, done, told, last_batch, is_write, .. } = self.life.job.take().unwrap();
        if self.now - since > 5 * SECOND && !told {
            return Err(format!("the disk hung for {:?}, and nobody was told", self.now - since));
        }
        let done = match (done, job) {
            (Some(done), _) => done,
            (None, Some(job)) => {
                self.set_disk();
                self.life.log.as_mut().map(|log| log.perform(job)).unwrap()
            }
            (None, None) => unreachable!("a job is done or to be done"),
        };
        let life = &mut self.life;
        let failed = match &done {
            Done::Written(written) => {
                life.written = life.written.max(written.end.0);
                if written.end.0 >= last_batch {
                    life.appended = life.appended.max(last_batch);
                }
                life.start = written.usage.start.0;
                life.durable = life.durable.max(written.durable.0);
                if written.end.0 < last_batch && !written.evicted.is_empty() {
                    return Err(format!("a write that failed has evicted: {:?}", written.evicted));
                }
                for evicted in &written.evicted {
                    let by = match evicted.limit {
                        Limit::MinFree => "cache_min_free",
                        Limit::MaxBytes => "cache_max_bytes",
                        Limit::MaxAge => "cache_max_age",
                    };
                    if !self.ever_limited.contains(by) {
                        return Err(format!("evicted by {by}, which is not set"));
                    }
                }
                self.outputs[0].evicted_old += written.evicted_old as u64;
                if let Some(max) = self.limits.max_bytes
                    && written.result.is_ok()
                    && written.usage.bytes > max + 70_000
                {
                    return Err(format!("{} bytes on disk, {max} allowed", written.usage.bytes));
                }
                life.bytes = written.usage.bytes;
                written.result.is_err()
            }
            Done::Read { result, .. } => result.is_err(),
            Done::SetAside { result, .. } => result.is_err(),
            Done::Old { result, .. } => result.is_err(),
            Done::Forgotten(result) => result.is_err(),
            Done::Limited => false,
        };
        let last = match done {
            Done::Written(_) => &mut life.write_failed,
            Done::SetAside { .. } | Done::Forgotten(_) => &mut life.keep_failed,
            _ => &mut life.read_failed,
        };
        *last = failed.then_some(self.now);
        life.from_memory |= failed && is_write;
        let random = self.rng.f64();
        let boot = self.clocks().boot;
        if self.trace.is_some_and(|from| self.now >= from) {
            self.say(&done);
        }
        let life = &mut self.life;
        life.pipeline.done(done, boot, random);
        life.touched = true;
        self.pump()
    }

    pub(super) fn start_flight(&mut self, lane: usize, body: Option<Bytes>) -> Result<(), Violation> {
        self.stats.posts += 1;
        self.life.jobs_in_a_row = 0;
        let output = self.life.lanes[lane];
        if self.life.flights[lane].is_some() {
            return Err(format!("two posts of output {output} at a time"));
        }
        if body.as_ref().is_some_and(|body| body.len() > (1 << 20) + 2_000) {
            return Err("a post that is too large".to_owned());
        }
        let state = &mut self.outputs[output];
        if self.now < state.not_before || (body.is_some() && self.now < state.no_post_before) {
            let before = state.not_before.max(state.no_post_before) - self.now;
            return Err(format!("{}: an attempt (post: {}) {before:?} too early", state.name, body.is_some()));
        }
        state.attempts.push(self.now);
        let sink = state.sinks.len() - 1;
        let arrives = self.now + ROUND_TRIP / 2;
        self.life.flights[lane] = Some(Flight { body, sink, arrives, answers: NEVER, answer: None, arrived: false });
        Ok(())
    }

    pub(super) fn flight(&mut self) -> Result<(), Violation> {
        let due = |flight: &Flight| self.now >= if flight.arrived { flight.answers } else { flight.arrives };
        let lane = self.life.flights.iter().position(|flight| flight.as_ref().is_some_and(due)).unwrap();
        let mut flight = self.life.flights[lane].take().unwrap();
        let output = self.life.lanes[lane];
        if !flight.arrived {
            self.arrives(output, &mut flight)?;
            self.life.flights[lane] = Some(flight);
            return Ok(());
        }
        let answer = flight.answer.unwrap();
        let state = &mut self.outputs[output];
        if let Err(failure) = &answer.result {
            let (pause, after) = match failure.verdict {
                Verdict::TooLarge => (Duration::from_millis(40), Duration::ZERO),
                Verdict::RefusedBody | Verdict::RefusedPart | Verdict::RefusedForGood => {
                    (Duration::from_millis(110), Duration::ZERO)
                }
                Verdict::RefusedUs => (Duration::from_millis(450), Duration::ZERO),
                Verdict::Later { after, .. } => (Duration::from_millis(450), after.unwrap_or_default()),
            };
            state.not_before = self.now + pause;
            if flight.body.is_some() {
                state.no_post_before = self.now + after;
            }
        }
        let clocks = self.clocks();
        if let Some(date) = answer.server_time {
            self.life.timeline.server_says(date, clocks);
            self.life.heard = true;
        }
        let random = self.rng.f64();
        let life = &mut self.life;
        if flight.body.is_some() {
            life.pipeline.answered(lane, &answer, clocks, random);
        } else {
            life.pipeline.time_told(lane, &answer, clocks, random);
        }
        life.jobs_in_a_row = 0;
        life.touched = true;
        self.pump()
    }

    /// The server does with it what it does in this weather.
    pub(super) fn arrives(&mut self, output: usize, flight: &mut Flight) -> Result<(), Violation> {
        flight.arrived = true;
        let weather = self.weather(output);
        let later = |late| Verdict::Later { after: None, late };
        let back = ROUND_TRIP / 2;
        let dead = match weather {
            Some(Weather::Down { slow }) => Some((later(false), if slow { 5 * SECOND } else { back })),
            Some(Weather::Hanging) => Some((later(true), TIMEOUT)),
            Some(Weather::Mute) => Some((later(false), back)),
            _ => None,
        };
        let Some(body) = flight.body.clone() else {
            if let Some((verdict, takes)) = dead {
                flight.answer = Some(Answer { result: Err(failure(verdict)), server_time: None });
                flight.answers = self.now + takes;
                return Ok(());
            }
            let says = !matches!(weather, Some(Weather::Busy(_) | Weather::Error(100)));
            let server_time = if says { self.server_time(output) } else { None };
            flight.answer = Some(Answer { result: Ok(()), server_time });
            flight.answers = self.now + back;
            return Ok(());
        };
        let text = str::from_utf8(&body).unwrap();
        let percent = self.rng.u8(0..100);
        let verdict = match weather {
            Some(Weather::Error(share)) if percent < share => Some(Verdict::RefusedBody),
            Some(Weather::Poisoned) if text.contains(POISON) => Some(Verdict::RefusedBody),
            Some(Weather::TooLarge(most)) if body.len() > most => Some(Verdict::TooLarge),
            Some(Weather::Busy(after)) => {
                let after = Duration::from_secs(after);
                Some(Verdict::Later { after: Some(after), late: false })
            }
            _ => dead.map(|(verdict, _)| verdict),
        };
        let stores = match weather {
            Some(Weather::Down { .. }) => false,
            Some(Weather::Mute) => true,
            Some(Weather::Hanging) => self.rng.bool(),
            _ => verdict.is_none(),
        };
        // While the disk is well nothing is posted that a power cut would take.
        let durable = if self.life.from_memory { u64::MAX } else { self.life.durable.max(self.life.found) };
        let sink = &mut self.outputs[output].sinks[flight.sink];
        if stores {
            sink.store(&body, &self.ledger, self.now, durable)?;
        }
        if verdict == Some(Verdict::RefusedBody) {
            sink.refuses(self.now);
        } else if verdict.is_some() {
            sink.troubled(self.now);
            if stores {
                sink.excuse();
            }
        }
        let slow = if let Some(Weather::Slow(ms)) = weather { Duration::from_millis(ms) } else { back };
        flight.answers = self.now + dead.map_or(slow, |(_, takes)| takes);
        let server_time = if dead.is_none() { self.server_time(output) } else { None };
        flight.answer = Some(Answer { result: verdict.map_or(Ok(()), |verdict| Err(failure(verdict))), server_time });
        Ok(())
    }

    pub(super) fn tell(&mut self, event: &Event) -> Result<(), Violation> {
        match *event {
            Event::DiskHangs(_) => {
                self.life.from_memory = true;
                if let Some(job) = &mut self.life.job {
                    job.told = true;
                }
            }
            Event::Lost { output, readings, reason } => {
                let allowed = match reason {
                    DropReason::MinFree | DropReason::MaxBytes | DropReason::MaxAge => {
                        self.ever_limited.contains(reason.as_str())
                    }
                    DropReason::MemoryFull => {
                        self.scenario.memory.is_some()
                            && self.last_trouble(|what| matches!(what, What::Disk(_))).is_some()
                    }
                    // What others had from memory when the agent was killed was never on disk; what a limit took is not.
                    DropReason::Vanished => self.ever_meddled || self.ever_cut || self.ever_forgotten,
                    DropReason::NeverDated => self.ever_cut,
                    DropReason::OutputMaxAge => {
                        self.life.lanes.get(output).is_some_and(|&lane| self.outputs[lane].spec.max_age.is_some())
                    }
                    _ => false,
                };
                if !allowed {
                    return Err(format!("output {output} loses {readings}: {}", reason.as_str()));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Run<'_> {
    /// For `DELIVERY_TRACE`, without what points are.
    pub(super) fn say(&self, what: &dyn std::fmt::Debug) {
        let text = format!("{what:?}");
        let (mut said, mut rest) = (String::new(), text.as_str());
        while let Some((before, behind)) = rest.split_once("table: ") {
            said.push_str(before);
            rest = behind.split_once("undated: ").map_or("", |(_, behind)| behind);
        }
        said.push_str(rest);
        let said: String = said.chars().take(600).collect();
        writeln!(std::io::stdout(), "{:.3} {said}", self.now.as_secs_f64()).ok();
    }
}

pub(super) fn failure(verdict: Verdict) -> Failure {
    Failure::new(verdict, "simulated", "")
}
