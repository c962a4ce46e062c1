//! What the tests of several outputs are given: a server without credentials, points of one agent, and readings of them.

use std::sync::Arc;
use std::time::Duration;

use super::network::Network;
use crate::net::connect::Server;
use crate::reading::points::{Builder, Device, PointTable, Register};
use crate::reading::{PointId, Reading, Timestamp, Value};

/// The server at `url`, `scheme://host`, to whom nobody logs in.
pub fn network(url: &str, port: u16) -> Network {
    let host = url.split("://").nth(1).and_then(|rest| rest.split([':', '/']).next()).unwrap();
    Network {
        url: url.to_owned(),
        server: Server { host: host.to_owned(), port, tls: None, proxy: None },
        base: String::new(),
        username: None,
        password: None,
        token: None,
        headers: Vec::new(),
        timeout: Network::TIMEOUT,
    }
}

/// The points of an agent on `host`, in this order.
pub fn table(points: &[(Device, Register)]) -> Arc<PointTable> {
    let mut builder = Builder::new("4c", "host", Duration::from_secs(300));
    for (device, register) in points {
        builder.push(device, register);
    }
    Arc::new(builder.build())
}

/// What was read of a point at this time, in ms.
pub fn reading(point: u32, at: u64, value: Value) -> Reading {
    Reading { point: PointId(point), at: Timestamp::from_millis(at), value }
}
