//! The soak: the real agent between simulated devices and a simulated server while everything goes wrong.
//!
//! [`plan`] draws from a seed what will happen, [`chaos`] lets it happen, to the process ([`agent`](crate::support::agent)),
//! its disk ([`disk`]), its devices ([`fleet`]) and its pattoo server; other outputs stand beside that ([`others`]); [`watch`] looks at the process meanwhile, [`ledger`]
//! writes down what excuses a loss. At the end [`report`] says by arithmetic what became of every reading.
//!
//! The agent is a black box: only its configuration, its log and its files are used. One seed gives one plan;
//! what the machine makes of it differs from run to run, the verdict must not.

pub mod chaos;
pub mod disk;
pub mod fleet;
pub mod ledger;
pub mod others;
pub mod plan;
pub mod report;
pub mod watch;

use std::path::PathBuf;
use std::time::Duration;

pub use plan::{Length, Plan};
pub use report::Report;

/// What to run.
#[derive(Debug)]
pub struct Settings {
    /// The agent.
    pub binary: PathBuf,
    /// What the plan is drawn from.
    pub seed: u64,
    /// How long faults go on.
    pub length: Length,
    /// How many devices there are.
    pub devices: u32,
    /// Only steps of kinds whose name holds this.
    pub only: Option<String>,
}

/// Plays a plan to its end; prints it first, and what came of it last.
pub fn run(settings: &Settings) -> Report {
    let mut plan = Plan::draw(settings.seed, settings.length, settings.devices);
    if let Some(only) = &settings.only {
        plan.keep(only);
    }
    println!("seed={:#x} binary=sha256:{}", settings.seed, report::sha256(&settings.binary));
    println!("{plan}");
    let mut chaos = chaos::Chaos::prepare(settings, &plan);
    chaos.play(&plan);
    let report = chaos.settle();
    println!("{report}");
    report
}

/// Time in whole milliseconds.
pub fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("less than 500 million years")
}
