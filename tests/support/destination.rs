//! Where an output delivers the readings of a counting device, and what must be there in the end.

use std::ops::Range;

use super::agent::Agent;
use super::device::{Device, Mode};
use super::judge::{Arrival, Verdict, weigh};
use super::now_ms;

/// What a kill may cost: readings that are not gathered yet (50 ms), and those on their way to the disk of a busy machine.
const LOST_BY_A_KILL_MS: u64 = 50 + 1_000;

/// What a device served is here once, in order, and nothing else is.
pub trait Destination {
    /// Every reading that is there, each series in its order there.
    fn arrivals(&self) -> Vec<Arrival>;

    /// What is there against what `device` served.
    fn judged(&self, device: &Device) -> Verdict {
        let mut verdict = Verdict::default();
        // Read before what was served is: no reading can be there before the answer that explains it.
        let arrivals = self.arrivals();
        weigh(device, &device.served(), &arrivals, &[], &mut verdict);
        verdict
    }

    /// What is not there, but for what these kills may have cost: when it was served, and which.
    fn missing(&self, device: &Device, kills: &[Range<u64>]) -> Vec<(u64, String)> {
        self.judged(device).lost_but(kills)
    }

    /// Waits for more than `count` readings more.
    fn gets(&self, agent: &mut Agent, count: usize) {
        let before = self.arrivals().len();
        agent.until("some more readings", || self.arrivals().len() > before + count);
    }

    /// Waits for a reading that was read after `moment`.
    fn gets_one_after(&self, agent: &mut Agent, moment: u64) {
        agent.until("a later reading", || self.arrivals().last().is_some_and(|last| last.timestamp > moment));
    }

    /// Lets what was served arrive, all of it; nothing more comes.
    fn gets_everything(&self, agent: &mut Agent, device: &Device) {
        self.gets_everything_but(agent, device, &[]);
        self.judged(device).assert_complete();
    }

    /// Lets what was served arrive, but for what these kills may have cost; nothing is double or out of order.
    fn gets_everything_but(&self, agent: &mut Agent, device: &Device, kills: &[Range<u64>]) {
        device.set(Mode::Silent);
        agent.until("every reading that was on disk", || self.missing(device, kills).is_empty());
        self.judged(device).assert_true();
    }

    /// Lets what was served arrive, but for readings of the register at `address`, which it does not take.
    fn gets_everything_but_register(&self, agent: &mut Agent, device: &Device, address: u16) -> Verdict {
        device.set(Mode::Silent);
        let is_of_others = |(_, name): &(u64, String)| !name.contains(&format!(" address {address} of "));
        agent.until("every reading of the others", || !self.judged(device).lost.iter().any(is_of_others));
        let verdict = self.judged(device);
        // Somebody else may have written values of that register.
        assert!(
            verdict.duplicate.is_empty() && verdict.disorder.is_empty() && verdict.forbidden.is_empty(),
            "{verdict:?}"
        );
        assert!(verdict.arrived > 100 && !verdict.lost.is_empty());
        verdict
    }
}

/// Kills the agent; what was read in this time may be lost by that.
pub fn kill(agent: &mut Agent) -> Range<u64> {
    let at = now_ms();
    agent.sigkill();
    at - LOST_BY_A_KILL_MS..now_ms()
}
