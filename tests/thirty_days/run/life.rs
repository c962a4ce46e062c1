//! How a life of the agent begins and ends, and what the next one must find.

use super::world::{is_far_ahead, ms};
use super::{
    AGENT_ID, AgentId, Anchor, BUILT, Batcher, Clocks, Device, Done, Duration, End, Grid, Holdover, Kind, Life, Limits,
    MINUTE, Moment, NEVER, Opened, OutputPlan, OutputState, Pipeline, Run, SECOND, Schedule, Sink, Start, Timeline,
    Timestamp, UnderWay, VecDeque, Violation, Weather, What, encoder, old,
};

impl Life {
    /// Before the first.
    pub(super) fn none() -> Self {
        let opened = Opened::default();
        Self {
            log: None,
            pipeline: Pipeline::new(opened, Vec::new(), "", SECOND),
            batcher: Batcher::default(),
            gathered: VecDeque::new(),
            gather: NEVER,
            timeline: Timeline::new(BUILT, Timestamp::default()),
            anchor: Anchor::new(Clocks { wall: Timestamp::default(), boot: Duration::ZERO }),
            boot_id: String::new(),
            lanes: Vec::new(),
            flights: Vec::new(),
            job: None,
            wake: NEVER,
            armed: Duration::ZERO,
            touched: true,
            probe: NEVER,
            clock_when_armed: 0,
            heard: false,
            written: 0,
            appended: 0,
            start: 0,
            durable: 0,
            found: 0,
            handed: Duration::ZERO,
            began: Duration::ZERO,
            stopping: None,
            from_memory: false,
            write_failed: None,
            read_failed: None,
            keep_failed: None,
            forgotten: Vec::new(),
            jobs_in_a_row: 0,
            in_vain: 0,
            bytes: 0,
            waits_for_date: false,
        }
    }

    pub(super) fn hold(&self) -> Option<Holdover> {
        self.timeline.holdover_since().map(|since| Holdover::new(&self.boot_id, since))
    }
}

/// Starts and ends.
impl Run<'_> {
    pub(super) fn begin(&mut self, ended: Option<End>) -> Result<(), Violation> {
        let boot_id = format!("{:032x}", u64::from(self.boots) + (self.scenario.seed << 8));
        let (log, opened) = loop {
            if let Some(until) = self.hangs_until(self.now) {
                self.advance(until);
            }
            self.set_disk();
            match old::open(&self.disk.disk, self.limits, &boot_id) {
                Ok(opened) => break opened,
                // It is started again by whoever watches it.
                Err(_) => self.advance(self.now + 5 * SECOND),
            }
        };
        let end = opened.end.0;
        let must = match ended {
            // What every output has needs no disk.
            Some(End::Stored) if self.life.pipeline.published().outputs.iter().all(|it| it.waiting() == 0) => 0,
            Some(End::Stored) => self.positions.len() as u64,
            Some(End::Killed) => self.life.written,
            Some(End::Cut) => self.life.durable,
            None => 0,
        };
        // What only a cursor says was never in the log: without its output nobody knows these numbers any more.
        let appended = self.life.appended.min(end);
        let must = must.min(self.life.appended);
        // What has left the log, each reading for a reason, is not looked for: while the disk takes no cursors, and nothing
        // becomes durable, its numbers may be given out again.
        let let_go = self.life.start >= must;
        if end < must && !self.meddled && !let_go {
            return Err(format!("after {ended:?} the log ends at {end}, {must} were safe"));
        }
        self.meddled &= ended != Some(End::Stored);
        for lost in self.positions.iter().skip(usize::try_from(end).unwrap()).flatten() {
            self.ledger.entries[lost.0][lost.1].lost = true;
            self.stats.lost += 1;
        }
        self.positions.resize(usize::try_from(end).unwrap(), None);
        for (series, n) in self.life.gathered.drain(..) {
            self.ledger.entries[series][n].lost = true;
            self.stats.lost += 1;
        }

        let lanes: Vec<_> = (0..self.outputs.len()).filter(|&output| self.outputs[output].present).collect();
        for &output in &lanes {
            let state = &mut self.outputs[output];
            let anew = std::mem::take(&mut state.anew);
            let begins = match opened.cursors.get(&state.name) {
                // Killed before anything was written, the life without it has not made the log forget it.
                Some(cursor) if anew => cursor.position.0,
                Some(_) => continue,
                None if state.spec.start == Start::End => opened.end.0,
                None => opened.usage.start.0,
            };
            state.owes_from = state.owes_from.max(begins);
        }
        let plans = lanes.iter().map(|&output| self.plan(output)).collect();
        let undated = opened.holds.iter().filter(|hold| hold.boot_id == boot_id && hold.offset.is_none());
        let mut timeline = Timeline::new(BUILT, opened.last_stamp(self.clocks().wall));
        if let Some(since) = undated.map(|hold| hold.since).max() {
            timeline = timeline.holding_since(since);
        }
        let mut pipeline = Pipeline::new(opened, plans, &boot_id, self.scenario.flush_interval);
        if let Some(bytes) = self.scenario.memory {
            pipeline.limit_memory(bytes);
        }
        for &output in &lanes {
            let OutputState { spec, name, .. } = &self.outputs[output];
            pipeline.set_max_age(name, spec.max_age);
        }
        let clocks = self.clocks();
        self.life = Life {
            log: Some(log),
            pipeline,
            timeline,
            anchor: Anchor::new(clocks),
            boot_id,
            flights: lanes.iter().map(|_| None).collect(),
            lanes,
            wake: self.now,
            armed: self.now,
            written: end,
            appended,
            durable: 0,
            found: end,
            began: self.now,
            ..Life::none()
        };
        self.stats.lives += 1;
        self.unwell = self.now;
        self.devices = (0..self.scenario.devices)
            .map(|device| Device {
                schedule: Schedule::new(Grid::new(self.scenario.interval, &format!("plant-{device}.example.net"))),
                track: self.life.timeline.track(),
                due: self.now,
            })
            .collect();
        let published = self.life.pipeline.published();
        for (&output, counters) in self.life.lanes.iter().zip(&published.outputs) {
            let state = &mut self.outputs[output];
            if let Some(left) = state.left.take().filter(|_| ended == Some(End::Stored))
                && left != counters.found
            {
                return Err(format!("{} left {left}, and {} are found", state.name, counters.found));
            }
            state.not_before = Duration::ZERO;
            state.no_post_before = Duration::ZERO;
        }
        self.pump()
    }

    fn plan(&self, output: usize) -> OutputPlan {
        let OutputState { spec, name, .. } = &self.outputs[output];
        OutputPlan {
            name: name.clone(),
            encode: encoder(spec.kind, &AgentId::from_bytes(AGENT_ID)),
            tells_time: spec.kind == Kind::Pattoo,
            takes_old_caches: output == 0,
            split_refused_after: spec.split_refused_after,
            start: spec.start,
        }
    }

    pub(super) fn happens(&mut self, moment: Moment) -> Result<(), Violation> {
        let ahead = self.active().any(|(place, what)| is_far_ahead(what) && !self.suppressed.contains(&place));
        if moment.is_restart() && ahead {
            // What a start cannot know: that the clock is a day ahead.
            return Ok(());
        }
        match moment {
            Moment::Stop { .. } => {
                let batch = self.life.batcher.close();
                self.life.gather = NEVER;
                self.hand_over(batch)?;
                let boot = self.clocks().boot;
                self.life.pipeline.stop(boot);
                self.life.stopping = Some(self.now);
                self.life.touched = true;
                self.pump()
            }
            Moment::Kill { down, toggle } => self.ended(End::Killed, down, Duration::ZERO, toggle),
            Moment::PowerCut { down, unset } => self.ended(End::Cut, down, unset, None),
            Moment::Reload { server, table, limits } => self.reload(server, table, limits),
            Moment::Remove(which) => {
                if let Some(newest) = self.disk.remove(which) {
                    self.meddled |= newest;
                    self.ever_meddled = true;
                }
                Ok(())
            }
            Moment::Rot(which) => {
                if let Some(newest) = self.disk.rot(which, &mut self.rng) {
                    self.meddled |= newest;
                    self.ever_meddled = true;
                }
                Ok(())
            }
        }
    }

    pub(super) fn reload(
        &mut self,
        server: Option<usize>,
        table: bool,
        limits: Option<Limits>,
    ) -> Result<(), Violation> {
        self.turn += usize::from(table);
        self.table = self.ledger.table(self.turn);
        self.limits = limits.unwrap_or(self.limits);
        self.note_limits();
        self.unwell = self.now;
        if let Some(lane) = self.life.lanes.iter().position(|&output| server == Some(output)) {
            // Nobody listens to its answer any more.
            self.hang_up(lane)?;
        }
        let life = &mut self.life;
        life.pipeline.configure(self.limits, self.scenario.flush_interval);
        let id = AgentId::from_bytes(AGENT_ID);
        for &output in &life.lanes {
            let state = &mut self.outputs[output];
            let another = server == Some(output);
            if another {
                state.sinks.push(Sink::new(state.spec.kind, self.ledger.series()));
            }
            let encode = another.then(|| encoder(state.spec.kind, &id));
            life.pipeline.configure_output(&state.name, encode, state.spec.split_refused_after);
            state.not_before = Duration::ZERO;
            state.no_post_before = Duration::ZERO;
        }
        life.touched = true;
        self.pump()
    }

    /// What is on the wire arrives, or not.
    fn hang_up(&mut self, lane: usize) -> Result<(), Violation> {
        let Some(flight) = self.life.flights[lane].take() else { return Ok(()) };
        let output = self.life.lanes[lane];
        let arrives = !flight.arrived && self.rng.bool() && self.weather(output).is_none();
        let sink = &mut self.outputs[output].sinks[flight.sink];
        if let Some(body) = flight.body.filter(|_| arrives) {
            sink.store(&body, &self.ledger, self.now, u64::MAX)?;
        }
        sink.excuse();
        Ok(())
    }

    /// What a kill or a power cut may cost: nothing that was there a moment ago, while the disk is well.
    pub(super) fn is_safe(&self, end: End) -> Result<(), Violation> {
        let disk = self.last_trouble(|what| matches!(what, What::Disk(_))).unwrap_or_default();
        if self.now - disk < 30 * SECOND || self.now - self.life.began < 30 * SECOND {
            return Ok(());
        }
        let (safe, moment) = match end {
            End::Stored => (self.positions.len() as u64, Duration::ZERO),
            End::Killed => (self.life.written, Duration::from_millis(150)),
            // What was found was made durable at the start, though nothing was written since that would say so.
            End::Cut => {
                (self.life.durable.max(self.life.found), self.scenario.flush_interval + Duration::from_millis(200))
            }
        };
        let unsafe_ones = self.positions.iter().skip(usize::try_from(safe).unwrap()).flatten();
        for &(series, n) in unsafe_ones.chain(&self.life.gathered) {
            let ago = self.now - self.ledger.entries[series][n].read;
            // What every output has needs no disk.
            let delivered = |output: &OutputState| output.sinks.iter().any(|sink| sink.has(series, n));
            let has = |output: &OutputState| delivered(output) || output.aside.contains(&(series, n));
            if ago > moment && !self.life.lanes.iter().all(|&output| has(&self.outputs[output])) {
                return Err(format!("{end:?} costs series {series}: {n}, which was read {ago:?} ago"));
            }
        }
        Ok(())
    }

    /// A life is over, and `down` later the next begins.
    pub(super) fn ended(
        &mut self,
        end: End,
        down: Duration,
        unset: Duration,
        toggle: Option<usize>,
    ) -> Result<(), Violation> {
        self.is_safe(end)?;
        let published = self.life.pipeline.published();
        for (&output, counters) in self.life.lanes.iter().zip(&published.outputs) {
            let state = &mut self.outputs[output];
            state.dropped += counters.dropped.sum();
            state.quarantined += counters.quarantined;
            // What was loaded and evicted meanwhile was nowhere else; at a stop it is told as lost.
            state.in_memory += counters.in_memory;
            self.stats.drop(counters);
            self.stats.quarantined += counters.quarantined;
            state.left = (end == End::Stored).then_some(counters.on_disk);
        }
        for lane in 0..self.life.flights.len() {
            self.hang_up(lane)?;
        }
        let mut untold = None;
        if let Some(UnderWay { job, done, .. }) = self.life.job.take() {
            untold = done;
            if let Some(job) = job.filter(|_| self.rng.bool()) {
                self.set_disk();
                self.disk.end_after(Some(self.rng.u64(0..8)));
                untold = self.life.log.as_mut().map(|log| log.perform(job));
                self.disk.end_after(None);
            }
        }
        // Nobody has counted what a limit took in the last moment.
        self.ever_forgotten |= matches!(untold, Some(Done::Written(written)) if !written.evicted.is_empty());
        let amnesia = self.life.from_memory || self.meddled;
        self.ever_forgotten |= self.life.from_memory;
        for output in (0..self.outputs.len()).filter(|_| end == End::Stored) {
            // What is behind a reading that is searched for, or could not be set aside, may have been delivered.
            let refused = |what| matches!(what, What::Server(it, Weather::Poisoned) if it == output);
            let trouble = self.last_trouble(|what| matches!(what, What::Disk(_)) || refused(what));
            if trouble.is_some_and(|last| self.now - last < MINUTE) {
                self.outputs[output].sinks.iter_mut().for_each(Sink::excuse);
            }
        }
        if end != End::Stored {
            for output in &mut self.outputs {
                for sink in &mut output.sinks {
                    sink.forgets();
                    sink.amnesia |= amnesia;
                    sink.cut |= end == End::Cut;
                }
            }
        }
        self.life.log = None;
        self.disk.disk.world().kill();
        if end == End::Cut {
            self.disk.disk.world().power_cut();
            self.ever_cut = true;
            self.boots += 1;
        }
        if let Some(output) = toggle {
            let state = &mut self.outputs[output];
            state.present = !state.present;
            state.left = None;
            if state.present {
                state.sinks = vec![Sink::new(state.spec.kind, self.ledger.series())];
                state.aside.clear();
                (state.dropped, state.quarantined, state.owes_from) = (0, 0, 0);
                state.anew = true;
            }
        }
        self.life.heard = false;
        self.advance(self.now + Duration::from_millis(ms(down)));
        if end == End::Cut {
            self.booted = self.now;
            self.unset_until = self.now + unset;
        }
        self.begin(Some(end))
    }

    pub(super) fn is_idle(&self) -> bool {
        let published = self.life.pipeline.published();
        let delivered = published.outputs.iter().all(|output| output.waiting() == 0);
        delivered
            && published.log.old_batches == 0
            && self.life.gathered.is_empty()
            && self.life.flights.iter().all(Option::is_none)
    }

    /// Everything is delivered: it is counted.
    pub(super) fn finish(&mut self) -> Result<(), Violation> {
        let published = self.life.pipeline.published();
        for (&output, counters) in self.life.lanes.clone().iter().zip(&published.outputs) {
            let state = &mut self.outputs[output];
            state.dropped += counters.dropped.sum();
            state.quarantined += counters.quarantined;
            self.stats.drop(counters);
            self.stats.quarantined += counters.quarantined;
        }
        self.stats.readings = self.ledger.entries.iter().map(|entries| entries.len() as u64).sum();
        for output in self.life.lanes.clone() {
            let state = &self.outputs[output];
            let mut missing = Vec::new();
            for (series, entries) in self.ledger.entries.iter().enumerate() {
                for (n, entry) in entries.iter().enumerate() {
                    let owed = match entry.position {
                        Some(position) => position >= state.owes_from && !entry.lost,
                        // Of the old caches.
                        None => output == 0 && n < self.ledger.old,
                    };
                    let has = state.sinks.iter().any(|sink| sink.has(series, n)) || state.aside.contains(&(series, n));
                    if owed && !has {
                        missing.push((series, n, entry.position));
                    }
                }
            }
            let forgiven: u64 = state.sinks.iter().map(|sink| sink.forgiven).sum();
            let old = state.evicted_old * self.ledger.series() as u64;
            let counted = state.dropped + state.quarantined + state.in_memory + forgiven + old;
            if missing.len() as u64 > counted {
                let shown: Vec<_> = missing.iter().take(10).collect();
                return Err(format!("{}: {} are missing, {counted} counted: {shown:?}", state.name, missing.len()));
            }
            for sink in &state.sinks {
                self.stats.arrived += sink.rows;
                self.stats.repeated += sink.repeated;
            }
        }
        Ok(())
    }
}
