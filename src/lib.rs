//! `pattoo_agent_modbustcpd` polls Modbus devices and delivers every reading to where people keep time series.
//!
//! # Rooms
//!
//! From bottom to top. A room may import the rooms in the last column and no others; each of them stands above it in the table, so
//! there is no circle. `tests/imports.rs` reads this table and every `crate::` path below `src`, tests apart.
//!
//! | room | what it owns | may import |
//! |---|---|---|
//! | [`digest`] | SHA-256 | – |
//! | [`failpoint`] | lets tests break what cannot be broken from outside | – |
//! | [`files`] | opens, writes and locks what others may have prepared for us | – |
//! | [`reading`] | the vocabulary that all rooms share: point, time, value; what a point is | `digest` |
//! | [`counters`] | what became of every reading, in numbers | `reading` |
//! | [`shard`] | which of several agents with one configuration reads a device | `digest`, `reading` |
//! | [`text`] | text for people: durations, numbers with nouns, tables, nothing that a terminal obeys | `reading` |
//! | [`outage`] | what has failed since when, and which of it is worth a line in the log | `reading` |
//! | [`logging`] | the log: one line per event, never blocking | `text` |
//! | [`time`] | clocks, the timeline of stamps, schedule, backoff | `outage`, `reading`, `text` |
//! | [`net`] | connections, for both sides: addresses of a host, TCP, TLS | `digest`, `logging`, `time` |
//! | [`modbus`] | the device side: register numbers, plan of requests, one connection, words → values | `digest`, `net`, `outage`, `reading`, `text`, `time` |
//! | [`spool`] | the log of readings on disk | `counters`, `digest`, `failpoint`, `files`, `reading`, `text`, `time` |
//! | [`outputs`] | the server side: what an output must be able to say, delivery policy, one folder per kind of server | `counters`, `digest`, `failpoint`, `files`, `logging`, `net`, `outage`, `reading`, `shard`, `spool`, `text`, `time` |
//! | [`host`] | who the agent is on this host: agent id, host name | `digest`, `files`, `outputs::pattoo::identity` |
//! | [`config`] | the YAML files → one validated [`config::Config`], or every fault with its file, line and column | `files`, `logging`, `modbus`, `net`, `outputs`, `reading`, `shard`, `spool`, `text` |
//! | [`status`] | what the agent tells of itself: to people, to programs | `counters`, `logging`, `modbus::session`, `outage`, `outputs`, `reading`, `spool`, `text`, `time` |
//! | [`actors`] | supervisor, devices, aggregator, poster: shells that perform what the rooms above decide; the flow table | `counters`, `failpoint`, `logging`, `modbus`, `outage`, `outputs`, `reading`, `spool`, `status`, `text`, `time` |
//! | [`cli`] | command line and terminal | `shard`, `text` |
//! | [`daemon`] | the life of the process: run, reload, signals, lock | `actors`, `cli`, `config`, `counters`, `files`, `host`, `logging`, `modbus`, `outputs`, `reading`, `shard`, `spool`, `status`, `text`, `time` |
//! | [`commands`] | what a person asks for: check, plan, once, probe, spool, configure, install | `cli`, `config`, `daemon`, `files`, `modbus`, `outputs`, `reading`, `shard`, `spool`, `status`, `text`, `time` |
//!
//! Two of these deserve a word. `modbus` and `outputs` never import each other, nor `config`, nor `actors`: a device knows no
//! server, and both can be tested without the rest. `host` names a type of one output, because an agent id is pattoo's.
//!
//! # Foreign crates
//!
//! Whoever wants to know how a library is used, or to replace it, has few files to read. Paths are below `src`; a folder means all
//! that is in it.
//!
//! | crate | where it is named |
//! |---|---|
//! | `actix` | `actors`, `daemon/run.rs`, `daemon/reload.rs` |
//! | `actix_rt` | `actors`, `daemon`, `commands/reach.rs`, `outputs/http`, `outputs/mqtt`, `status/page.rs` |
//! | `actix_service` | `outputs/http` |
//! | `actix_tls` | `outputs/http` |
//! | `actix_web` | `status/page.rs` |
//! | `anstream` | `cli/terminal.rs` |
//! | `anstyle` | `cli/colour.rs` |
//! | `awc` | `config/outputs`, `outputs` |
//! | `base64` | `outputs/network.rs` |
//! | `bytes` | `actors`, `files/appended.rs`, `outputs`, `spool`, `status/page.rs` |
//! | `clap` | `cli/arguments.rs`, `commands/completions.rs`, `commands/manual.rs`, `main.rs` |
//! | `clap_complete` | `cli/arguments.rs`, `commands/completions.rs` |
//! | `clap_mangen` | `commands/manual.rs` |
//! | `crc32c` | `spool` |
//! | `dns_lookup` | `host/system_name.rs` |
//! | `fastrand` | `actors`, `modbus/session`, `outputs` |
//! | `flate2` | `outputs` |
//! | `futures_core` | `outputs` |
//! | `humantime` | anywhere |
//! | `itoa` | `outputs` |
//! | `mqtt_proto` | `outputs/mqtt/packet.rs` |
//! | `prost` | `outputs/mqtt/sparkplug`, `outputs/otlp`, `outputs/prometheus`, `outputs/samples` |
//! | `ring` | `digest.rs`, `net/tls.rs` |
//! | `rusqlite` | `outputs/sqlite` |
//! | `rustls_native_certs` | `config/tls.rs` |
//! | `rustix` | `cli/terminal.rs`, `commands`, `config`, `daemon`, `files`, `host`, `logging`, `spool`, `status`, `time/clock.rs` |
//! | `serde` | anywhere |
//! | `serde_json` | anywhere |
//! | `serde_yaml` | `config/edit.rs`, `config/yaml` |
//! | `serial2_tokio` | `modbus/link/serial.rs` |
//! | `similar` | `commands/configure/drafts.rs` |
//! | `snap` | `outputs/prometheus` |
//! | `socket2` | `net/dial.rs`, `status/page/connections.rs` |
//! | `std::fs` | `commands`, `config`, `daemon`, `failpoint.rs`, `files`, `host`, `logging`, `outputs`, `spool`, `status/process.rs`, `status/socket.rs`, `time/clock.rs` |
//! | `strsim` | `config/diagnostic.rs` |
//! | `thiserror` | anywhere |
//! | `tokio` | `actors`, `commands`, `daemon`, `modbus`, `net`, `outputs`, `status` |
//! | `tokio_modbus` | `modbus/link/codec.rs` |
//! | `tokio_rustls` | `net/tls.rs` |
//! | `tracing` | anywhere |
//! | `tracing_subscriber` | `logging` |
//! | `zmij` | `outputs` |

pub mod actors;
pub mod cli;
pub mod commands;
pub mod config;
pub mod counters;
pub mod daemon;
pub mod digest;
pub mod failpoint;
pub mod files;
pub mod host;
pub mod logging;
pub mod modbus;
pub mod net;
pub mod outage;
pub mod outputs;
pub mod reading;
pub mod shard;
pub mod spool;
pub mod status;
pub mod text;
pub mod time;
