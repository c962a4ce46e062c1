//! Where the settings of the devices come from: what a person wrote in which section, as it is shown again.

use std::collections::BTreeMap;

use crate::modbus::endpoint::Endpoint;

/// A key that stands in a section, and its value for people.
pub type Stated = (&'static str, String);

/// Where the settings of the devices come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// In `device_defaults`.
    pub defaults: Vec<Stated>,
    /// In the section of a device.
    pub devices: BTreeMap<Endpoint, Vec<Stated>>,
}
