//! The life of the process: one file per command, and what the commands share.
//!
//! [`run`] is the daemon in the foreground; [`control`] starts it in the background, stops it and asks how it is;
//! [`detach`] tells the starter that the agent works, [`exit`] lists the exit
//! codes, [`lock`] keeps a second agent away, [`python_agent`] finds the Python one,
//! [`signals`] obeys from the first moment to the last, [`reload`] takes over another configuration, [`process_setup`] puts right what the process inherits, [`preflight`]
//! asks for the descriptors and threads that it needs, [`assemble`] turns a configuration into what the rooms need.

pub mod assemble;
pub mod control;
pub mod detach;
pub mod exit;
pub mod left_shards;
pub mod lock;
pub mod preflight;
pub mod process_setup;
pub mod python_agent;
pub mod refusal_file;
pub mod reload;
pub mod run;
pub mod sd_notify;
pub mod signals;
