//! What a person does once: asks for a configuration, puts the agent under systemd, takes it away again.
//!
//! [`configure`] turns answers into the two files, [`install`] plans the steps of an installation and performs
//! or prints them, [`mod@unit`] renders the service, [`account`] finds users and groups. Nothing here runs in the
//! daemon, and nothing is changed before all of it is known to be possible.

pub mod account;
pub mod configure;
pub mod install;
pub mod unit;
