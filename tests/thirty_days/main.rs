//! Thirty days of outages in seconds: everything that decides, with a clock that a test turns.
//!
//! The agent's own schedule, timeline, batcher, spool, carrier and consignments are driven as the actors drive
//! them ([`agent`]), between devices that count their polls and a server that obeys the [`weather`]: down,
//! hanging, refusing all or one series or whatever is large, storing without a word; a clock that is stepped,
//! runs ahead by a day or starts in 1970; a disk that takes nothing; restarts. What arrives is judged by the
//! ingester's rules. One seed is one month, to the last byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod weather;

use std::collections::BTreeMap;

use agent::{Agent, DEVICES, INTERVAL, POINTS, POISONED};
use fastrand::Rng;
use weather::{DAY, MINUTE, Server, Weather, World};

const DAYS: u64 = 30;

#[test]
fn a_month_of_outages_loses_repeats_and_disorders_nothing_and_bothers_nobody() {
    for seed in 0..3 {
        month(seed);
    }
}

fn month(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::draw(&mut rng, DAYS * DAY);
    let mut server = Server::default();
    let mut agent = Agent::new(&world, rng.fork());
    let (mut restarts, mut quarantined) = (0, 0);
    while world.now < DAYS * DAY || !agent.is_idle() {
        assert!(world.now < (DAYS + 2) * DAY, "seed {seed}: it is never delivered: {:?}", agent.spool().tally());
        world.now = agent.next_event().min(world.next_change()).max(world.now);
        if world.now >= DAYS * DAY {
            agent.stop_polling();
        }
        if world.is_restart() {
            let left = agent.spool().tally();
            quarantined += left.quarantined;
            agent = agent.restart(&world);
            restarts += 1;
            // What one life leaves on disk the next one finds: the books close across restarts.
            assert_eq!(agent.spool().tally().found, left.on_disk, "seed {seed} at {}", world.now);
        }
        agent.step(&world, &mut server);
        let tally = agent.spool().tally();
        assert_eq!((tally.residual(), tally.lost()), (0, 0), "seed {seed} at {}", world.now);
    }
    assert!(restarts > 2 && world.steps > 10 && world.outages() > 30, "a dull month");

    // Once, in order, or counted.
    let mut last: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut missing = 0;
    for row in server.database.take_rows() {
        let n = row.value.as_f64().expect("a number");
        let expected = last.entry((row.target.clone(), row.key.clone())).or_default();
        let poisoned = row.key == POISONED;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let n = n as u64;
        assert!(n == *expected || (poisoned && n > *expected), "seed {seed}: {} {n}, not {expected}", row.key);
        missing += n - *expected;
        *expected = n + 1;
    }
    assert_eq!(last.len(), DEVICES * POINTS);
    for ((target, key), next) in &last {
        missing += agent.polls(target) - next;
        assert!(key == POISONED || *next == agent.polls(target), "seed {seed}: {target} {key} ends at {next}");
    }
    let (database, tally) = (&server.database, agent.spool().tally());
    assert_eq!((database.late().len(), database.deaths(), database.invalid()), (0, &[][..], &[][..]), "seed {seed}");
    assert_eq!((tally.on_disk, tally.lost()), (0, 0), "seed {seed}: {tally:?}");
    // What was stored without a word may be set aside as well.
    quarantined += tally.quarantined;
    assert!(
        (1..=quarantined).contains(&missing),
        "seed {seed}: {missing} missing, {quarantined} in quarantine, {tally:?}"
    );
    assert_eq!(agent.unaccounted(), 0);

    // Polls keep to the grid whatever else happens: each change of the clock or start costs or adds one at most.
    let due = DAYS * DAY / INTERVAL;
    for device in agent.targets() {
        let off = agent.polls(&device).abs_diff(due);
        assert!(off <= restarts + world.steps, "seed {seed}: {} polls of {due}", agent.polls(&device));
    }
    assert!(agent.longest_gap <= INTERVAL, "seed {seed}: {} ms without a poll", agent.longest_gap);

    // A server in trouble is left alone, and found again soon.
    for (outage, contacts) in world.spells().zip(&server.contacts(&world)) {
        let most = 16 + outage.lasts / (MINUTE / 2);
        let calm = matches!(outage.weather, Weather::Down | Weather::Hanging | Weather::Refusing | Weather::Busy);
        assert!(!calm || *contacts <= most, "seed {seed}: {contacts} contacts, {outage:?}");
        let brief = outage.lasts.min((DAYS * DAY).saturating_sub(outage.from)) < 2 * INTERVAL + 2 * MINUTE;
        let expected = outage.weather == Weather::Well && !brief && world.has_new_batches_in(outage);
        assert!(!expected || *contacts > 0, "seed {seed}: nothing was delivered in {outage:?}");
    }
    assert!(server.largest <= 1 << 20, "a post of {} bytes", server.largest);
}
