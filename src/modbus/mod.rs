//! The device side: what can be read from a Modbus device, in which requests, and what its words mean.
//!
//! [`register`] and [`mod@format`] are the vocabulary, [`plan`] turns points into requests, [`link`] is one connection with
//! one request in flight, [`session`] is one device across connections, [`refusals`] is what a device is known to refuse,
//! [`decode`] turns words into values, [`error`] keeps "the device said no" apart from "the link broke".
//!
//! This room only ever reads: no type in it can express a write request.

pub mod decode;
pub mod endpoint;
pub mod error;
pub mod format;
pub mod link;
pub mod plan;
pub mod refusals;
pub mod register;
pub mod session;
pub mod settings;
