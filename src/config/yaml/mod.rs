//! YAML as the agent reads it: one file → nodes that know where they stand, and a cursor that reports what is wrong.
//!
//! | file | what it owns |
//! |---|---|
//! | [`source`] | a file read with suspicion and parsed once |
//! | [`node`] | what was parsed: values with their places |
//! | [`nesting`] | how deep and how wide a file may be, judged before the parser sees it |
//! | [`yaml11`] | what `PyYAML` makes of a scalar |
//! | [`cursor`] | walks over a node, takes what is known, reports what is not |
//!
//! Nothing here knows what a key means.

pub mod cursor;
pub mod nesting;
pub mod node;
pub mod source;
pub mod yaml11;
