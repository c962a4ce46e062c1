//! Time: which clock says what, which stamp a reading gets, when the next poll or attempt is due.
//!
//! | file | what it owns |
//! |---|---|
//! | [`clock`] | the clocks of this machine; the only file that reads them |
//! | [`timeline`] | one line of stamps that only goes forward, whatever the clocks do; pure |
//! | [`schedule`] | the grid of a device's polls; pure |
//! | [`backoff`] | how long to wait after a failure; pure |
//!
//! All but [`clock`] are told the time and can be tested without waiting.

pub mod backoff;
pub mod clock;
pub mod schedule;
pub mod timeline;
