//! The life of the process: one file per command, and what the commands share.
//!
//! [`run`] is the daemon in the foreground; [`check`] validates a configuration. [`exit`] lists the exit
//! codes, [`lock`] keeps a second agent away, [`assemble`] turns a configuration into what the rooms need.

pub mod assemble;
pub mod check;
pub mod exit;
pub mod lock;
pub mod run;
