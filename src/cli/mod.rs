//! What stands between a person at a terminal and the commands: [`arguments`] says what may be asked, [`terminal`] is
//! the only way to answer. Nothing here knows what a command does.

pub mod arguments;
mod colour;
pub mod terminal;
