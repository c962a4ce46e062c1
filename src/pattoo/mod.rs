//! Who this agent is: the files that say so, and what they are read with.
//!
//! | file | what it owns |
//! |---|---|
//! | [`agent_id`] | the file that holds the agent id |
//! | [`hostname`] | the host name that is part of every series, and the file that remembers it |
//! | [`fqdn`] | what the system says this host is called |
//! | [`machine`] | the machine on which the agent id was first used |
//! | [`twice`] | one line on disk in two copies, so that it is neither lost nor changed silently |
//! | [`small_file`] | one line on disk, read with suspicion, written whole or not at all |

pub mod agent_id;
pub mod fqdn;
pub mod hostname;
pub mod machine;
pub mod small_file;
pub mod twice;
