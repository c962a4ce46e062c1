//! `pattoo_agent_modbustcpd` polls Modbus TCP devices and delivers every reading to a pattoo server.
//!
//! A tour of the rooms, in the order in which a reading passes through them:
//!
//! | room | what it owns |
//! |---|---|
//! | [`config`] | the YAML files → one validated [`config::Config`], or every fault with its file, line and column |
//! | [`modbus`] | the device side: register numbers, the plan of requests, one connection, words → values |
//! | [`spool`] | the queue on disk between devices and outputs |
//! | [`outputs`] | where readings go: the policy of a delivery, the pattoo server, a file |
//! | [`pattoo`] | who this agent is: its id, its host name |
//! | [`actors`] | supervisor, devices, aggregator, poster: thin shells over the rooms above; the flow table |
//! | [`status`] | what the agent tells of itself: to people, to programs |
//! | [`commissioning`] | what an engineer asks before the daemon runs: check, plan, once, probe |
//! | [`setup`] | configuration asked for and written, the systemd service put in and taken away |
//! | [`daemon`] | the life of the process: run, signals, lock |
//!
//! Leaves without clock and without I/O: [`reading`] (the vocabulary that all rooms share), [`schedule`],
//! [`backoff`], [`batch`], [`digest`], [`shard`], [`tally`], [`timeline`]. [`files`] opens, writes and locks what others may
//! have prepared for us; [`terminal`] makes harmless what is shown. [`clock`] reads the clocks that they
//! are told; [`resolve`] finds the addresses of a host for both sides; [`failpoint`] lets tests break what
//! cannot be broken from outside.
//!
//! Who may import whom: `main → daemon → actors → {modbus, pattoo, spool} → reading`. The three middle
//! rooms never import each other, never `config`, never `actors`; `config` names the types of other rooms.
//! A foreign crate is named in one room: `actix` in `actors` and `daemon`, `tokio_modbus`, `tokio_rustls` and
//! `serial2_tokio` in one file each below `modbus::link`, `awc` below `outputs::pattoo::post`, `serde_yaml` in `config`,
//! `std::fs` in `config`, `spool`, `pattoo` (the files that say who we are), `daemon`, `logging`, and in `clock` for
//! the boot id.

pub mod actors;
pub mod backoff;
pub mod batch;
pub mod books;
pub mod cli;
pub mod clock;
pub mod commissioning;
pub mod config;
pub mod daemon;
pub mod digest;
pub mod failpoint;
pub mod files;
pub mod health;
pub mod layout;
pub mod logging;
pub mod modbus;
pub mod outputs;
pub mod pattoo;
pub mod phrase;
pub mod reading;
pub mod resolve;
pub mod schedule;
pub mod setup;
pub mod shard;
pub mod spool;
pub mod status;
pub mod tally;
pub mod terminal;
pub mod timeline;
