//! The actors: shells that take a message, ask a pure type or a room, and perform the answer.
//!
//! | message | from → to | reply | bound | when the receiver is slow or gone |
//! |---|---|---|---|---|
//! | poll due | timer → device | – | one armed timer | a poll that still runs at the next tick is an overrun: counted, skipped |
//! | [`aggregator::Submit`] | device → aggregator | – | a mailbox of 256 | full: that device waits, and polls later; gone: the process ends |
//! | [`aggregator::Append`] | aggregator → poster | – | none: the poster waits for nothing, and bounds what it keeps | slow: batches are in its mailbox; gone: the process ends |
//! | [`poster::Reload`] | supervisor → poster | – | one per reload | – |
//! | [`lifecycle::Exited`] | drop guard → supervisor | – | one per actor | – |
//! | stop | supervisor → devices → aggregator → poster | stopped | one | past the grace period: said what is lost, exit non-zero |
//!
//! Devices and aggregator share the main arbiter, because a hand-over between threads costs more than a
//! poll. The poster has an arbiter of its own, and the spool a thread of its own that may block ([`spooler`]). Nothing on
//! an arbiter blocks.
//!
//! A panic in a device costs that device: the supervisor starts it again after a backoff. A panic in any
//! other actor ends the process with a failure, so that whoever supervises it starts it whole again.

pub mod aggregator;
pub mod context;
pub mod device;
pub mod lifecycle;
pub mod poster;
pub mod spooler;
pub mod supervisor;
pub mod timekeeper;
