//! The faults of the server (rows S of FAULTS.md) that need the real binary and are not in `delivery.rs`:
//! every kind of wrong answer, one after another, and what each of them costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::agent::{Agent, HOSTNAME, Home};
use support::device::{Device, Mode as DeviceMode};
use support::judge::judge;
use support::server::{Database, Mode, Server};

/// Two registers of one device, ten times a second, each batch on its own.
fn home_with(server: &Server, device: &Device) -> Home {
    let home = Home::new(server.address());
    home.write_config(&format!(
        "polling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: {HOSTNAME}\npolling_groups:\n  \
         - group_name: plant\n    ip_devices: ['{}']\n    input_registers: [30001, 30002]\n",
        device.target()
    ));
    home
}

fn at_work(home: &Home, server: &Server) -> Agent {
    let mut agent = home.run();
    agent.until("the first readings to arrive", || server.row_count() > 0);
    agent
}

/// Lets what was served arrive, and fails unless all of it does, once, in order, by posts in order.
fn everything_arrives(agent: &mut Agent, device: &Device, server: &Server) {
    device.set(DeviceMode::Silent);
    agent.until("every reading served to arrive", || judge(&[device], server.database().rows()).lost.is_empty());
    judge(&[device], server.database().rows()).assert_complete();
    server.database().assert_sound();
    assert_eq!(server.database().late().len(), 0, "the server dropped nothing as late");
    assert_eq!(server.database().posted_again(), 0, "a post that was answered 200 is not sent again");
    assert_eq!(server.most_at_once(), 1, "one post in flight");
    posts_rise(server);
}

/// What the server took came oldest first: an ingester that reads its files by name, later, sees the same.
fn posts_rise(server: &Server) {
    let mut taken: Vec<_> = server.posts().into_iter().filter(|post| post.status == Some(200)).collect();
    let stamps: Vec<u64> = taken.iter().map(support::server::Post::timestamp).collect();
    assert!(stamps.windows(2).all(|pair| pair[0] <= pair[1]), "posts out of order: {stamps:?}");
    taken.sort_by_key(support::server::Post::timestamp);
    let mut hourly = Database::default();
    for post in taken {
        hourly.ingest(&post.body);
    }
    hourly.assert_sound();
    assert_eq!(hourly.late().len(), 0);
}

/// For each fault a server that has it for a post at least; afterwards everything arrives.
fn nothing_is_lost_by(faults: impl IntoIterator<Item = Mode>) {
    thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || {
                let (device, server) = (Device::counting(0), Server::start());
                let home = home_with(&server, &device);
                let mut agent = at_work(&home, &server);
                let (reached, polled) = (server.post_count(), device.served_count());
                server.set(fault.clone());
                agent.until(&format!("a post that meets {fault:?}"), || server.post_count() > reached);
                agent.until("polls that go on", || device.served_count() > polled + 3);
                assert!(!home.spooled().is_empty(), "{fault:?}: what was not taken is kept");
                server.set(Mode::Ok);
                everything_arrives(&mut agent, &device, &server);
            });
        }
    });
}

#[test]
fn every_refusal_keeps_the_batch() {
    nothing_is_lost_by([400, 401, 403, 404, 405, 429, 500, 502, 503].map(Mode::Status));
}

#[test]
fn every_success_that_is_not_ok_keeps_the_batch() {
    nothing_is_lost_by([
        Mode::NoContent,
        Mode::Html,
        Mode::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        Mode::Say(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nOK"),
        Mode::Say(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nOK"),
        Mode::Say(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\nOK"),
        Mode::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nOK"),
        // "OK" in gzip: nothing here unpacks it.
        Mode::Say(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n\
                  \x1f\x8b\x08\0\0\0\0\0\0\x03\xf3\xf7\x06\0\xd8\x50\xdd\x57\x02\0\0\0",
        ),
    ]);
}

#[test]
fn every_answer_that_is_no_http_keeps_the_batch() {
    nothing_is_lost_by([
        Mode::Say(b""),
        Mode::Say(b"SSH-2.0-OpenSSH_9.2\r\n"),
        Mode::Say(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
        Mode::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nOK"),
        Mode::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n"),
        Mode::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nO"),
        Mode::Flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        Mode::Flood(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"),
    ]);
}

#[test]
fn a_monstrous_answer_costs_no_memory() {
    let floods = [
        Mode::Flood(b"HTTP/1.1 200 OK\r\nX: ", &[b'x'; 8_192]),
        Mode::Flood(b"HTTP/1.1 200 OK\r\n", b"X: y\r\nX: y\r\nX: y\r\nX: y\r\nX: y\r\nX: y\r\nX: y\r\n"),
        Mode::Flood(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000000\r\n\r\n", &[b'x'; 8_192]),
        Mode::Flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFF\r\n", &[b'x'; 8_192]),
        Mode::Flood(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08", &[0; 8_192]),
        Mode::Flood(b"HTTP/1.0 200 OK\r\n\r\n", &[b' '; 8_192]),
    ];
    thread::scope(|scope| {
        for flood in &floods {
            scope.spawn(move || {
                let (device, server) = (Device::counting(0), Server::start());
                let home = home_with(&server, &device);
                let mut agent = at_work(&home, &server);
                agent.until("some posts", || server.post_count() > 10);
                let (before, reached) = (support::peak_memory(agent.id()), server.post_count());
                server.set(flood.clone());
                agent.until("its end", || server.post_count() > reached && server.at_once() == 0);
                server.set(Mode::Ok);
                everything_arrives(&mut agent, &device, &server);
                let grown = support::peak_memory(agent.id()) - before;
                assert!(grown <= 2048, "{grown} KiB more for {:?}", String::from_utf8_lossy(head_of(flood)));
            });
        }
    });
}

fn head_of(mode: &Mode) -> &'static [u8] {
    if let Mode::Flood(head, _) = mode { head } else { b"" }
}

#[test]
fn a_batch_that_was_stored_without_an_answer_is_in_the_database_once() {
    let (device, server) = (Device::counting(5), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &server);
    for fault in [Mode::StoreThenReset, Mode::StoreThenClose, Mode::StoreThenCutAnswer] {
        let reached = server.post_count();
        server.set(fault);
        agent.until("a post that was stored for nothing", || server.post_count() > reached);
        server.set(Mode::Ok);
        let arrived = server.row_count();
        agent.until("readings after it", || server.row_count() > arrived + 2);
    }
    everything_arrives(&mut agent, &device, &server);
    assert!(server.database().repeated() > 0, "the agent had to post them again");
}

#[test]
fn every_form_of_200_ok_is_one_delivery() {
    let (device, server) = (Device::counting(6), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &server);
    for form in [
        &b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nOK"[..],
        b"HTTP/1.0 200 OK\r\n\r\nOK",
        b"HTTP/1.1 200 Fine, thank you\r\nContent-Length: 8\r\n\r\n \r\n OK\r\n",
        b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:    2   \r\nConnection: keep-alive\r\nKeep-Alive: timeout=1\r\n\r\nOK",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nVia: 1.1 proxy\r\n\r\n1\r\nO\r\n1\r\nK\r\n0\r\n\r\n",
    ] {
        let reached = server.post_count();
        server.set(Mode::StoreAndSay(form));
        agent.until("posts that are answered so", || server.post_count() > reached + 3);
    }
    server.set(Mode::Ok);
    everything_arrives(&mut agent, &device, &server);
    assert_eq!(server.database().repeated(), 0, "nothing was posted twice");
}

#[test]
fn posts_wait_as_long_as_the_server_asks_and_polls_do_not() {
    let (device, server) = (Device::counting(7), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &server);
    // Longer than any wait after a first failure.
    let told = Duration::from_secs(4);
    server.set(Mode::Say(b"HTTP/1.1 503 Busy\r\nRetry-After: 4\r\nContent-Length: 0\r\n\r\n"));
    let (reached, polled) = (server.post_count(), device.served_count());
    agent.until("the post that is put off", || server.post_count() > reached);
    server.set(Mode::Ok);
    agent.until("the next post", || server.post_count() > reached + 1);
    let posts = &server.posts()[reached..];
    assert!(posts[1].at - posts[0].at >= told, "again after {:?}", posts[1].at - posts[0].at);
    // Half of the intervals.
    let polls = device.served_count() - polled;
    assert!(polls > 20, "polls wait for the server: {polls}");
    everything_arrives(&mut agent, &device, &server);
}

#[test]
fn a_server_that_fails_now_and_then_gets_everything_in_order() {
    let (device, server) = (Device::counting(8), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &server);
    server.set(Mode::Sometimes(500));
    let reached = server.post_count();
    agent.until("some failures", || {
        server.posts()[reached..].iter().filter(|post| post.status == Some(500)).count() >= 3
    });
    everything_arrives(&mut agent, &device, &server);
}

#[test]
fn a_server_that_restarts_under_load_gets_everything_in_order_over_two_lives_of_the_agent() {
    let (device, server) = (Device::counting(9), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &server);
    for life in 0..4 {
        if life == 2 {
            agent.stop();
            agent = home.run();
        }
        let polled = device.served_count();
        server.stop();
        agent.until("polls without a server", || device.served_count() > polled + 3);
        server.come_back();
        let arrived = server.row_count();
        agent.until("readings again", || server.row_count() > arrived + 4);
    }
    everything_arrives(&mut agent, &device, &server);
}

/// Readings that pile up while the server is away, with this added to the configuration.
fn piled_up(server: &Server, device: &Device, more: &str, readings: usize) -> (Home, Agent) {
    server.set(Mode::Status(500));
    let home = home_with(server, device);
    let file = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    home.write_config(&format!("{more}{config}"));
    let mut agent = home.run();
    agent.until("readings to pile up", || device.served_count() >= readings);
    (home, agent)
}

#[test]
fn a_limit_on_the_size_of_a_post_is_found_and_everything_passes_below_it() {
    let (device, server) = (Device::counting(0), Server::start());
    let (_home, mut agent) = piled_up(&server, &device, "", 60);
    server.set(Mode::TooLarge(6_000));
    everything_arrives(&mut agent, &device, &server);
    let too_large = server.posts().iter().filter(|post| post.status == Some(413)).count();
    assert!((1..12).contains(&too_large), "{too_large} posts were too large");
    agent.stop();
}

#[test]
fn an_agent_that_is_killed_between_the_parts_of_a_backlog_gives_no_stamp_to_two_bodies() {
    let (device, server) = (Device::counting(0), Server::start());
    let (home, mut agent) = piled_up(&server, &device, "", 120);
    device.set(DeviceMode::Silent);
    agent.stop();
    // Another life takes the whole backlog at once.
    server.set(Mode::TooLarge(6_000));
    let mut agent = home.run();
    agent.until("a part to arrive", || server.row_count() > 0);
    server.set(Mode::HangAfterReading);
    agent.sigkill();
    assert!(!home.spooled().is_empty(), "parts are left");
    server.set(Mode::Ok);
    let mut agent = home.run();
    agent.until("the rest to arrive", || home.spooled().is_empty());
    agent.stop();
    judge(&[&device], server.database().rows()).assert_complete();
    server.database().assert_sound();
}

#[test]
fn one_series_that_the_server_refuses_is_set_aside_and_the_others_arrive() {
    let (device, server) = (Device::counting(0), Server::start());
    let (home, mut agent) = piled_up(&server, &device, "split_refused_after: 1s\n", 10);
    server.set(Mode::Refusing("input_register_30002".to_owned()));
    let others = |key: &str| server.database().rows().iter().filter(|row| row.key == key).count();
    agent.until("what is not refused to arrive", || others("input_register_30001") >= 10);
    server.set(Mode::Ok);
    device.set(DeviceMode::Silent);
    agent.until("the rest to arrive", || home.spooled().is_empty());
    agent.stop();
    let verdict = judge(&[&device], server.database().rows());
    verdict.assert_true();
    server.database().assert_sound();
    let set_aside: String = std::fs::read_dir(home.spool().join("quarantine"))
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    assert!(set_aside.contains("input_register_30002") && !set_aside.contains("input_register_30001"));
    assert_eq!(set_aside.matches("\"pattoo_value\"").count(), verdict.lost.len(), "each is delivered or set aside");
    assert!(agent.log().contains("refused by the server, which takes others"));
}

#[test]
fn a_server_that_refuses_everything_for_long_costs_nothing() {
    let (device, server) = (Device::counting(0), Server::start());
    let (home, mut agent) = piled_up(&server, &device, "split_refused_after: 1s\n", 10);
    let refused = server.post_count();
    agent.until("refusals of the oldest batch alone", || server.post_count() >= refused + 3);
    server.set(Mode::Ok);
    everything_arrives(&mut agent, &device, &server);
    agent.stop();
    assert_eq!(home.quarantined(), 0);
}

/// B15: pauses grow, but not so far that a server that is back waits long.
#[test]
fn a_server_that_is_back_is_posted_to_within_ten_seconds() {
    let (device, server) = (Device::counting(40), Server::start());
    let home = home_with(&server, &device);
    let mut agent = at_work(&home, &server);
    server.stop();
    let away = Instant::now();
    agent.until("an outage that lasts", || away.elapsed() > Duration::from_secs(40));
    let posts = server.post_count();
    server.come_back();
    let back = Instant::now();
    agent.until("a post", || server.post_count() > posts);
    assert!(back.elapsed() < Duration::from_secs(12), "{:?}", back.elapsed());
    everything_arrives(&mut agent, &device, &server);
    agent.stop();
}
