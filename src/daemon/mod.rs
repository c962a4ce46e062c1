//! The life of the process: one file per command, and what the commands share.
//!
//! [`run`] is the daemon in the foreground; [`control`] starts it in the background, stops it and asks how it is;
//! [`ready`] tells the starter that the agent works, [`exit`] lists the exit
//! codes, [`lock`] keeps a second agent away, [`python_agent`] finds the Python one,
//! [`signals`] obeys from the first moment to the last, [`reload`] takes over another configuration, [`surroundings`] puts right what the process inherits, [`room`]
//! asks for the descriptors and threads that it needs, [`assemble`] turns a configuration into what the rooms need.

pub mod assemble;
pub mod control;
pub mod exit;
pub mod lock;
pub mod memory;
pub mod notify;
pub mod python_agent;
pub mod ready;
pub mod reload;
pub mod room;
pub mod run;
pub mod signals;
pub mod surroundings;
