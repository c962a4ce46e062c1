//! What the actors share with each other, and with whoever asks how they are: handles on counters and stores.
//!
//! Each handle is cheap to clone, and none is held across an await.

use std::sync::Arc;

use crate::counters::Counters;
use crate::modbus::refusals::store::RefusalStore;
use crate::outputs::plant::Plant;
use crate::status::registry::Registry;

/// What the actors share with each other and with whoever asks how they are.
#[derive(Debug, Clone, Default)]
pub struct AgentContext {
    /// The counters.
    pub counters: Arc<Counters>,
    /// Where all say how they are.
    pub registry: Arc<Registry>,
    /// What was learned of devices.
    pub learned: Arc<RefusalStore>,
    /// What is configured and which of it answers, for outputs that tell of devices.
    pub plant: Plant,
}
