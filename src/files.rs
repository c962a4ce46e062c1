//! Files that others may have prepared for us: how they are opened, written, locked, and which directories hold them.
//!
//! Every file of the agent has a name that can be known beforehand. Whoever may write to its directory can put a link,
//! a FIFO, a second name or a lock in the way. The rooms of the agent do not deal with that themselves:
//!
//! - [`lock`] is a lock that a mere reader of the file can neither take nor keep from us.

pub mod lock;
