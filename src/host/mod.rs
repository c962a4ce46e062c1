//! Who the agent is on this host: the two names that every series carries, and how they stay the same.
//!
//! | file | what it owns |
//! |---|---|
//! | [`agent_id`] | the file that holds the agent id |
//! | [`hostname`] | the host name that is part of every series, and the file that remembers it |
//! | [`system_name`] | what the system says this host is called |
//! | [`clone_guard`] | the machine on which the agent id was first used, so that a cloned card is noticed |
//!
//! An id or a name that changes silently starts every chart anew, so each is kept in two copies and is never
//! replaced but by hand.

pub mod agent_id;
pub mod clone_guard;
pub mod hostname;
pub mod system_name;
