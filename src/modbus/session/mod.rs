//! One device across connections: what to ask, when, and what a failure costs. A core that decides and a shell that awaits.
//!
//! [`Core`] owns one poll and what is known of the device between polls; [`Polling`] owns when requests are due, and is
//! the whole loop of a device; both are pure: told `now` and what came back, they say what to do next ([`Step`]).
//! [`Session`] performs it: it dials, reads and sleeps, and decides nothing.
//!
//! A poll reads its requests one after another over one connection. What fails costs as little as it can:
//!
//! - an exception costs its request; busy (5, 6) is asked again in the same poll, after a pause that doubles;
//! - a refused address or value (2, 3) costs the points that it is about: the others are found
//!   ([`refusals::search`](super::refusals::search)) and read in the same poll, and from then on without them;
//! - a timeout, a transport or a protocol error closes the connection; the unit that was asked is left alone for the
//!   rest of the poll, then asked once per backoff period, after the units that are well. Where replies have ids, a
//!   connection that has not answered anything yet is asked once more before it is given up;
//! - exceptions 10 and 11 say that the unit behind the gateway is gone: the same, but the connection is fine;
//! - [`SILENT_UNITS`](core::SILENT_UNITS) units in a row without any answer and none that answers: the device as a
//!   whole is silent; then one request per backoff period is made, to one unit after the other;
//! - a failed connect ends the poll, and is tried again once per backoff period;
//! - a connection that the device closed while it was idle is opened again and the request sent once more;
//! - a unit that is silent however often it is asked is asked for a single value, which is a reading like any other; when it
//!   answers, the longest request that it answers is found; a device that is silent right after connecting is given a pause ([`pause`]).
//!
//! A loop of this device cannot turn without an awaited deadline: between two polls [`Polling`] always returns a
//! [`Rest`](Step::Rest), whose [`Pause`] is never shorter than a millisecond by its type, and within a poll each step
//! but the last is a request or a connection, of which a poll makes a bounded number.
//!
//! Values exist only for replies of this poll. Faults are told as changes of state, by [`Subject`].

pub mod core;
mod event;
mod gate;
pub mod pause;
mod plan;
mod polling;
mod shell;
#[cfg(test)]
mod tests;

pub use self::core::{Core, Step};
pub use self::event::{Discovery, Event, Outcome, Subject, Unread};
pub use self::gate::Pause;
pub use self::plan::{Cycle, DeviceSettings};
pub use self::polling::Polling;
pub use self::shell::{Dial, EndpointDial, Poller, Session};
