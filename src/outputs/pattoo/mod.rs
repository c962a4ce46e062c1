//! The pattoo server: what identifies a series, the body of a post, one attempt to deliver it.
//!
//! | file | what it owns |
//! |---|---|
//! | [`identity`] | agent, series and the checksum by which the server knows a series; pure |
//! | [`encode`] | readings → posts: the output's side of [`Encode`](super::Encode) |
//! | `deliver` | [`post`] as [`Deliver`](super::Deliver) wants it |
//! | [`old`] | a batch of the Python agent or of an earlier release → posts |
//! | [`payload`] | a batch of readings → the JSON bytes of one post; pure |
//! | [`restamp`] | a stored body of undated readings → the same body, dated; pure |
//! | [`json`] | strings and floats as Python writes them; pure |
//! | [`body`] | stored bodies read again: checked, merged, taken apart; pure |
//! | [`post`] | one attempt to deliver one body; the only file that names `awc` |
//!
//! The rule of the room: whatever the server answers 200 to and its ingester then dies of (an infinite
//! value, a text over 512 bytes, an interval over 2³² ms) cannot be expressed by a body made here, because
//! one such body stops the ingestion of every agent of that server.

pub mod body;
mod deliver;
pub mod encode;
pub mod identity;
pub mod json;
pub mod old;
pub mod payload;
pub mod post;
pub mod restamp;

#[cfg(test)]
mod delivered;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod server_rules;
