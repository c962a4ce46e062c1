//! A TCP proxy between the agent and servers: what a name with two servers behind it, or a bad line, does.
//!
//! Knows no HTTP but that a request's head ends with an empty line.

use std::io::{Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Where a new connection goes.
#[derive(Debug, Clone)]
pub enum Route {
    /// To each of these in turn.
    InTurn(Vec<SocketAddr>),
    /// To this one, with one bit of the first byte of the body changed on the way.
    Flipping(SocketAddr),
}

/// A running proxy; its thread ends with the test program.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    route: Arc<Mutex<Route>>,
}

impl Proxy {
    /// A proxy on an address of its own.
    pub fn start(route: Route) -> Self {
        let listener = super::listen_somewhere();
        let address = listener.local_addr().expect("a bound listener has an address");
        let route = Arc::new(Mutex::new(route));
        let shared = Arc::clone(&route);
        thread::spawn(move || {
            for (turn, from) in listener.incoming().map_while(Result::ok).enumerate() {
                let route = shared.lock().expect("no proxy thread panics").clone();
                thread::spawn(move || relay(from, &route, turn));
            }
        });
        Self { address, route }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections go there.
    pub fn set(&self, route: Route) {
        *self.route.lock().expect("no proxy thread panics") = route;
    }
}

/// Passes bytes both ways until both sides have closed; what breaks is the other side's to notice.
fn relay(mut from: TcpStream, route: &Route, turn: usize) {
    let (to, flips) = match route {
        Route::InTurn(servers) => (servers[turn % servers.len()], false),
        Route::Flipping(server) => (*server, true),
    };
    let Ok(mut to) = TcpStream::connect(to) else { return };
    let (Ok(mut answers), Ok(mut back)) = (to.try_clone(), from.try_clone()) else { return };
    let answering = thread::spawn(move || {
        copy(&mut answers, &mut back).ok();
        back.shutdown(Shutdown::Both).ok();
    });
    if flips {
        flip_first_byte_of_body(&mut from, &mut to);
    }
    copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
    answering.join().ok();
}

fn flip_first_byte_of_body(from: &mut TcpStream, to: &mut TcpStream) {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while matches!(from.read(&mut byte), Ok(1)) {
        if seen.ends_with(b"\r\n\r\n") {
            to.write_all(&[byte[0] ^ 0x01]).ok();
            return;
        }
        seen.push(byte[0]);
        if to.write_all(&byte).is_err() {
            return;
        }
    }
}
