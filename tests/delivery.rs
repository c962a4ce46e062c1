//! What the server does to the agent, and what must become of the readings: the real binary against a
//! server that refuses, hangs, cuts and lies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::TcpListener;

use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode as DeviceMode};
use support::judge::judge;
use support::now_ms;
use support::server::{Mode, Server};

/// Four input and two holding registers of one device, five times a second.
fn home_with(server: &Server, device: &Device) -> Home {
    let home = Home::new(server.address());
    home.write_groups(
        "200ms",
        &format!(
            "  - group_name: plant\n    ip_devices: ['{}']\n    unit: 1\n    \
             input_registers: [30001, 30002, 30003, 30004]\n    holding_registers: [40101, 40102]\n",
            device.target(),
        ),
    );
    home
}

/// Lets what was served arrive, and fails unless all of it does, once, in order.
fn everything_arrives(agent: &mut Agent, device: &Device, server: &Server) {
    device.set(DeviceMode::Silent);
    agent.until("every reading served to arrive", || judge(&[device], server.database().rows()).lost.is_empty());
    judge(&[device], server.database().rows()).assert_complete();
    server.database().assert_sound();
    assert_eq!(server.database().posted_again(), 0, "a post that was answered 200 is not sent again");
    assert_eq!(server.most_at_once(), 1, "one post in flight");
    assert_eq!(device.violations(), [""; 0]);
}

/// A running agent that has delivered something.
fn at_work(home: &Home, device: &Device, server: &Server) -> Agent {
    let mut agent = home.run();
    agent.until("the first readings to arrive", || server.row_count() > 0 && device.served_count() > 4);
    agent
}

#[test]
fn readings_arrive_as_the_original_would_have_sent_them() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("some posts", || server.post_count() >= 4);
    everything_arrives(&mut agent, &device, &server);

    let id = home.agent_id();
    assert_eq!(id.len(), 64);
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    for post in server.posts() {
        assert_eq!(post.head.line, format!("POST /pattoo/api/v1/agent/receive/{id} HTTP/1.1"));
        assert_eq!(post.head.header("content-type"), Some("application/json"));
        assert_eq!(post.head.header("content-length"), Some(&*post.body.len().to_string()));
        assert_eq!(post.head.header("host"), Some(&*server.address().to_string()));
        for never in ["transfer-encoding", "content-encoding", "accept-encoding", "expect"] {
            assert_eq!(post.head.header(never), None, "{never}");
        }
        let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(body["pattoo_agent_polling_interval"], 200);
        assert!(post.timestamp().abs_diff(now_ms()) < 60_000, "{}", post.timestamp());
    }
    assert!(
        server.posts()[1..]
            .iter()
            .all(|post| post.head.header("cookie").is_some_and(|cookie| cookie.contains("session=abc"))),
        "the session cookie goes back",
    );
    let database = server.database();
    for row in database.rows() {
        assert_eq!((&*row.agent_id, &*row.hostname), (&*id, HOSTNAME));
        assert_eq!((&*row.unit, &*row.interval, row.data_type), ("001", "200", 99));
        assert_eq!((&*row.target, &*row.program), (&*device.target(), "pattoo_agent_modbustcpd"));
        assert!(row.value.is_f64(), "{} without a multiplier is a JSON float", row.value);
        assert!(row.timestamp <= now_ms(), "never from the future");
    }
    let error = judge(&[&device], database.rows()).worst_stamp_error;
    assert!(error < 2_000, "a timestamp is when the answer came, this one is off by {error} ms");
    agent.until("an empty spool", || home.spooled().is_empty());
    agent.stop();
}

#[test]
fn an_outage_of_the_server_loses_nothing_and_keeps_the_order() {
    let (device, server) = (Device::counting(2), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &device, &server);
    server.stop();
    let before = device.served_count();
    agent.until("polls that go on without a server", || device.served_count() > before + 16);
    assert!(!home.spooled().is_empty(), "what cannot be delivered is on disk");
    server.come_back();
    everything_arrives(&mut agent, &device, &server);
    agent.until("an empty spool", || home.spooled().is_empty());
}

#[test]
fn an_agent_that_starts_without_a_server_delivers_when_there_is_one() {
    let (device, server) = (Device::counting(3), Server::start());
    server.stop();
    let home = home_with(&server, &device);
    let mut agent = home.run();
    agent.until("polls without a server", || device.served_count() > 4);
    server.come_back();
    everything_arrives(&mut agent, &device, &server);
}

/// The server fails in this way for a while; then everything arrives all the same.
fn nothing_is_lost_by(number: u32, mode: Mode) {
    let (device, server) = (Device::counting(number), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &device, &server);
    let (before, polled) = (server.connections(), device.served_count());
    server.set(mode);
    agent.until("posts that fail, and polls that go on", || {
        server.connections() > before + 1 && device.served_count() > polled + 8
    });
    server.set(Mode::Ok);
    everything_arrives(&mut agent, &device, &server);
}

#[test]
fn status_500_loses_nothing() {
    nothing_is_lost_by(4, Mode::Status(500));
}

#[test]
fn status_404_loses_nothing() {
    nothing_is_lost_by(5, Mode::Status(404));
}

#[test]
fn status_200_with_a_page_is_no_delivery() {
    nothing_is_lost_by(6, Mode::Html);
}

#[test]
fn status_204_is_no_delivery() {
    nothing_is_lost_by(7, Mode::NoContent);
}

#[test]
fn a_server_that_stores_and_closes_gets_each_reading_once() {
    nothing_is_lost_by(8, Mode::StoreThenClose);
}

#[test]
fn a_server_that_stores_and_cuts_its_answer_gets_each_reading_once() {
    nothing_is_lost_by(9, Mode::StoreThenCutAnswer);
}

/// The server takes a connection and says nothing; polling goes on, and one post waits.
fn a_hanging_server_stops_nothing(number: u32, mode: Mode) {
    let (device, server) = (Device::counting(number), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &device, &server);
    let reached = server.connections();
    server.set(mode);
    agent.until("a post that hangs", || server.connections() > reached);
    let (before, polled) = (server.connections(), device.served_count());
    agent.until("polls that go on", || device.served_count() > polled + 10);
    // The post that hung may have ended well the moment before.
    assert!(server.connections() <= before + 1, "no second post beside the one that hangs");
    server.set(Mode::Ok);
    everything_arrives(&mut agent, &device, &server);
}

#[test]
fn a_server_that_accepts_and_hangs_stops_nothing() {
    a_hanging_server_stops_nothing(10, Mode::HangOnAccept);
}

#[test]
fn a_server_that_reads_and_hangs_stops_nothing() {
    a_hanging_server_stops_nothing(11, Mode::HangAfterReading);
}

#[test]
fn redirects_are_never_followed_and_proxies_never_asked() {
    let (device, server) = (Device::counting(12), Server::start());
    let (elsewhere, proxy) = (Server::start(), TcpListener::bind("127.0.0.1:0").unwrap());
    proxy.set_nonblocking(true).unwrap();
    let mut home = home_with(&server, &device);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        home.set_variable(name, &format!("http://{}", proxy.local_addr().unwrap()));
    }
    let mut agent = at_work(&home, &device, &server);
    server.set(Mode::Redirect(elsewhere.address()));
    agent.until("posts that are redirected", || {
        server.posts().iter().filter(|post| post.status == Some(302)).count() >= 2
    });
    server.set(Mode::Ok);
    everything_arrives(&mut agent, &device, &server);
    assert_eq!(elsewhere.connections(), 0, "the other host hears nothing");
    assert!(proxy.accept().is_err(), "the proxy hears nothing");
}

#[test]
fn a_refused_backlog_is_neither_dropped_nor_multiplied_and_goes_oldest_first() {
    let (device, server) = (Device::counting(13), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &device, &server);
    server.set(Mode::Status(500));
    let before = server.post_count();
    agent.until("a backlog", || home.spooled().len() >= 3 && server.post_count() > before + 1);
    let oldest = server.posts()[before..].iter().map(support::server::Post::timestamp).collect::<Vec<_>>();
    assert!(oldest.windows(2).all(|pair| pair[0] == pair[1]), "the oldest is tried again, no other: {oldest:?}");
    server.set(Mode::Ok);
    everything_arrives(&mut agent, &device, &server);
}
