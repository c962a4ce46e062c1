//! Files that others may have prepared for us: how they are written, locked, and which directories hold them.
//!
//! Every file of the agent has a name that can be known beforehand. Whoever may write to its directory can put a link,
//! a FIFO, a second name or a lock in the way. The rooms of the agent do not deal with that themselves:
//!
//! - [`appended`] is a file of lines that grows and is rotated by size;
//! - [`atomic`] writes a file whole or not at all, through nothing that was put where it goes;
//! - [`lock`] is a lock that a mere reader of the file can neither take nor keep from us;
//! - [`trust`] judges whose a directory is, and reaches one without being led elsewhere.

pub mod appended;
pub mod atomic;
pub mod lock;
pub mod trust;
