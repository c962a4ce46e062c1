//! Files that others may have prepared for us: how they are written, locked, and which directories hold them.
//!
//! Every file of the agent has a name that can be known beforehand. Whoever may write to its directory can put a link,
//! a FIFO, a second name or a lock in the way. The rooms of the agent do not deal with that themselves:
//!
//! - [`appended`] is a file of lines that grows and is rotated by size;
//! - [`regular`] opens a file that grows where it is, or makes it;
//! - [`atomic`] writes a file whole or not at all, through nothing that was put where it goes;
//! - [`lock`] is a lock that a mere reader of the file can neither take nor keep from us;
//! - [`trust`] judges whose a directory is, and reaches one without being led elsewhere;
//! - [`directory`] makes the directories that the agent relies on, and says what they are made of;
//! - [`text_file`] is a short text that must outlive the process, read with suspicion and written whole;
//! - [`mirrored`] is such a text in two copies, so that it is neither lost nor changed silently.

pub mod appended;
pub mod atomic;
pub mod directory;
pub mod lock;
pub mod mirrored;
pub mod regular;
pub mod text_file;
pub mod trust;
