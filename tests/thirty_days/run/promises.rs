//! What is promised, at every step and while all is well.

use super::world::is_far_ahead;
use super::{
    Check, ClockState, DiskFault, Duration, Fault, MINUTE, OutputCounters, PROMPT, Run, SECOND, SETTLED, TIMEOUT,
    Violation, Weather, What,
};

/// What is promised.
impl Run<'_> {
    /// Holds at every step.
    pub(super) fn judge(&mut self) -> Result<(), Violation> {
        let published = self.life.pipeline.published();
        for counters in &published.outputs {
            if counters.residual() != 0 {
                return Err(format!("the counters do not add up: {} {counters:#?}", counters.residual()));
            }
        }
        let most = self.scenario.memory.unwrap_or(16 << 20) + 5_000;
        let bytes = self.life.pipeline.bytes_in_memory();
        if bytes > most {
            return Err(format!("{bytes} bytes in memory"));
        }
        self.life.waits_for_date = published.log.undated > 0 || self.now == self.unwell;
        Ok(())
    }

    /// Holds while all has been well for a while: nothing waits for long.
    pub(super) fn healthy(&mut self) -> Result<(), Violation> {
        let published = self.life.pipeline.published();
        let of_disk = |what, all: bool| match what {
            // While it takes nothing, outputs are served from memory; but not what has to be set aside first.
            What::Disk(DiskFault::Full | DiskFault::ReadOnly | DiskFault::BadWrites) => all,
            What::Disk(_) => true,
            _ => false,
        };
        for (&output, counters) in self.life.lanes.iter().zip(&published.outputs) {
            let server = self.last_trouble(|what| matches!(what, What::Server(it, _) if it == output));
            let is_poison = |fault: &Fault| fault.what == What::Server(output, Weather::Poisoned);
            // Among what an earlier agent has left is what nobody can deliver.
            let aside = published.log.old_batches > 0 || self.scenario.faults.iter().any(is_poison);
            let agent = self.last_trouble(|what| of_disk(what, aside) || what == What::Unset || is_far_ahead(what));
            let agent = agent.unwrap_or_default().max(self.unwell);
            let since = agent.max(server.unwrap_or_default());
            if self.now - since.min(self.now) < SETTLED + self.scenario.flush_interval {
                continue;
            }
            if let Some(waits) = self.oldest_waiting(counters)
                && waits > PROMPT + self.scenario.flush_interval
            {
                return Err(format!("{}: a reading waits for {waits:?} for nothing: {counters:#?}", counters.name));
            }
        }
        Ok(())
    }

    /// How long the oldest reading that waits has been waiting.
    pub(super) fn oldest_waiting(&self, counters: &OutputCounters) -> Option<Duration> {
        let waiting = usize::try_from(counters.waiting()).unwrap();
        let first = self.positions.len().checked_sub(waiting)?;
        let (series, n) = self.positions.get(first..)?.iter().flatten().next()?;
        Some(self.now - self.ledger.entries[*series][*n].read)
    }

    pub(super) fn check(&mut self, check: Check) -> Result<(), Violation> {
        match check {
            Check::Calm { output, from, refused } => {
                let state = &self.outputs[output];
                let faults = self.scenario.faults.iter();
                let others = faults.filter(|fault| fault.from < self.now && fault.until > from);
                if others.filter(|fault| matches!(fault.what, What::Server(it, _) if it == output)).count() > 1 {
                    return Ok(());
                }
                let count = state.attempts.len() - state.attempts.partition_point(|&at| at < from);
                let lasted = (self.now - from).as_secs();
                let most = 25 + lasted / 4 + if refused { 600 } else { 0 } + self.stats.lives * 10;
                if count as u64 > most {
                    return Err(format!("{}: {count} attempts in {lasted} s of an outage", state.name));
                }
                Ok(())
            }
            Check::Back { output, since } => self.is_back(output, since),
            Check::Dated => {
                let published = self.life.pipeline.published();
                let disk = self.last_trouble(|what| matches!(what, What::Disk(_)));
                let calm = disk.is_none_or(|last| self.now - last > 30 * SECOND);
                let believed = self.now != self.unwell && self.clock_error().is_some();
                let state = self.life.timeline.observe(self.clocks());
                let believed = believed && !matches!(state, ClockState::NotPlausible { .. });
                let young = self.now - self.life.began < 30 * SECOND;
                // Of another boot: nobody can date them.
                let ours = self.unwell + 4 * SECOND < self.now;
                if believed && ours && calm && !young && published.log.undated > 0 {
                    return Err(format!("{} readings are undated though the clock is right", published.log.undated));
                }
                self.stats.dated += 1;
                Ok(())
            }
        }
    }

    /// A server that is back is posted to soon.
    pub(super) fn is_back(&mut self, output: usize, since: Duration) -> Result<(), Violation> {
        let Some(lane) = self.life.lanes.iter().position(|&it| it == output) else { return Ok(()) };
        let now = self.now;
        let state = &self.outputs[output];
        if now == since {
            let in_flight = self.life.flights[lane].as_ref().map_or(now, |flight| flight.answers.min(now + TIMEOUT));
            let due = in_flight.max(state.no_post_before) + 11 * SECOND;
            self.checks.entry(due).or_default().push(Check::Back { output, since });
            return Ok(());
        }
        let concerns = |what| {
            matches!(what, What::Disk(_) | What::Unset)
                || is_far_ahead(what)
                || matches!(what, What::Server(it, _) if it == output)
        };
        let trouble = self.scenario.faults.iter().any(|fault| {
            concerns(fault.what) && fault.until != since && fault.from < now && fault.until + MINUTE > since
        });
        let restless = self.unwell + 15 * SECOND > since || self.life.began + 15 * SECOND > since;
        if trouble || restless || self.life.stopping.is_some() {
            return Ok(());
        }
        let counters = &self.life.pipeline.published().outputs[lane];
        let durable = self.scenario.flush_interval + SECOND;
        let waits = self.oldest_waiting(counters).is_some_and(|waits| now - waits + durable < since);
        if waits && state.attempts.last().is_none_or(|&last| last < since) {
            return Err(format!("{}: its server is back since {:?}, and was not asked", state.name, now - since));
        }
        Ok(())
    }
}
