//! The one place that reads the wall clock. Every rule about time is elsewhere, and is told `now`.

use std::time::SystemTime;

use crate::reading::Timestamp;

/// The wall clock's time.
#[must_use]
pub fn wall() -> Timestamp {
    SystemTime::now().into()
}
