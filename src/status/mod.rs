//! What the agent tells of itself while it runs.
//!
//! [`registry`] is where the actors write down how they are, and where it can be read at any moment without
//! asking them: an actor that hangs is seen to hang. [`snapshot`] is the registry and the books at one moment,
//! for programs; [`table`] the same for people, [`health`] what of it is not as it should be, [`metrics`] what Prometheus gets.
//! [`reporter`] takes one when asked, [`socket`] and [`page`] hand it to who may have it.
//!
//! Nothing here decides anything: a status that fails costs nothing but the status.

pub mod availability;
pub mod health;
pub mod metrics;
pub mod narrator;
pub mod page;
pub mod polls;
pub mod process;
pub mod registry;
pub mod reporter;
pub mod snapshot;
pub mod socket;
pub mod table;
pub mod values;
