//! The server's side: what identifies a series, the body of a post, one attempt to deliver it.
//!
//! | file | what it owns |
//! |---|---|
//! | [`identity`] | agent, series and the checksum by which the server knows a series; pure |
//! | [`payload`] | a batch of readings → the JSON bytes of one post; pure |
//! | [`json`] | strings and floats as Python writes them; pure |
//!
//! The rule of the room: whatever the server answers 200 to and its ingester then dies of (an infinite
//! value, a text over 512 bytes, an interval over 2³² ms) cannot be expressed by a body made here, because
//! one such body stops the ingestion of every agent of that server.

pub mod identity;
pub mod json;
pub mod payload;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod server_rules;
