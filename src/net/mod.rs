//! Connections, for both sides: the addresses of a host, an open TCP connection, a secure one.
//!
//! Owns deadlines, the order in which addresses are tried, and whom TLS believes. What is said over a connection is the
//! business of who asked for it.

pub mod connect;
pub mod dial;
pub mod error;
pub mod resolve;
pub mod tls;
