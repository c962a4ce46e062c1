//! What a person asks for, one file per command; the daemon itself is in [`crate::daemon`].
//!
//! | command | what it does |
//! |---|---|
//! | [`check`] | says what is wrong or doubtful in the configuration |
//! | [`plan`] | says what will be asked of each device, and whether there is time for it |
//! | [`once`] | asks it once and shows every value or why there is none; [`reach`] says whether anybody answers |
//! | [`probe`] | looks at a device that is not configured yet, a [`candidate`] ([`sunspec`]) |
//! | [`spool`] | looks at the readings on disk, and writes them for others |
//! | [`translations`] | writes names and units of measurement for the charts of a pattoo server |
//! | [`configure`] | turns answers into the two files |
//! | [`install`] | plans the steps of an installation and performs or prints them ([`mod@unit`], [`account`]) |
//! | [`completions`], [`manual`] | write what shells and `man` need, made of the definition of the command line |
//! | [`schema`] | writes the JSON schema of the configuration, for editors |
//!
//! `check`, `plan`, `once`, `probe`, `spool` and `translations` write no file of the agent's, post nothing and take no lock: they
//! may be used beside a running agent. For `once` and `probe`, devices that allow one connection only will make one of the two wait.
//! `configure` and `install` change nothing before all of it is known to be possible.

pub mod account;
pub mod candidate;
pub mod check;
pub mod completions;
pub mod configure;
pub mod install;
pub mod manual;
pub mod once;
pub mod plan;
pub mod probe;
pub mod reach;
pub mod schema;
pub mod selection;
pub mod spool;
pub mod sunspec;
pub mod translations;
pub mod unit;
