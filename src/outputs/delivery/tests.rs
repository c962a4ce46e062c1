//! The policy against servers of all kinds.
