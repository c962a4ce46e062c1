//! What all outputs do whose servers keep series of samples in order of time: Prometheus and what takes its remote write or OTLP.
//!
//! | file | what it owns |
//! |---|---|
//! | [`post`] | what the two halves give each other |
//! | [`pace`] | how many samples of a series go into a post |
//! | `name` | names that such servers take |
//! | [`encode`] | readings → posts |
//! | [`deliver`] | one post, and what becomes of each of its samples |
//! | [`answer`] | in which words such servers refuse |
//!
//! An output is a [`Describe`](encode::Describe), what a point is there, and a [`Protocol`](deliver::Protocol), how it is written.

pub mod answer;
pub mod deliver;
pub mod encode;
pub(super) mod name;
pub mod pace;
pub mod post;
