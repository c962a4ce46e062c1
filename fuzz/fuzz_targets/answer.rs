//! Whatever a server sends: delivered only for status 200 and a body that is `OK`.
#![no_main]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pattoo_agent_modbustcpd::outputs::pattoo::identity::AgentId;
use pattoo_agent_modbustcpd::outputs::pattoo::post::{Poster, Timeouts};

struct Rig {
    answers: mpsc::Sender<Vec<u8>>,
    poster: Poster,
    runner: actix_runner::Runner,
}

mod actix_runner {
    //! awc needs a local set.
    pub struct Runner(tokio::runtime::Runtime, tokio::task::LocalSet);

    impl Runner {
        pub fn new() -> Self {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            Self(runtime, tokio::task::LocalSet::new())
        }

        pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
            self.1.block_on(&self.0, future)
        }
    }
}

thread_local! {
    static RIG: RefCell<Rig> = RefCell::new(rig());
}

fn rig() -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (answers, queue) = mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        for answer in queue {
            let Ok((mut stream, _)) = listener.accept() else { return };
            request(&mut stream);
            stream.write_all(&answer).ok();
        }
    });
    let timeouts = Timeouts { connect: Duration::from_secs(1), total: Duration::from_millis(500) };
    let poster = Poster::new("127.0.0.1", port, &AgentId::from_bytes([7; 32])).unwrap().with_timeouts(timeouts);
    Rig { answers, poster, runner: actix_runner::Runner::new() }
}

/// Reads the head and the two bytes of the body.
fn request(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !seen.ends_with(b"\r\n\r\n{}") {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => return,
        }
    }
}

fuzz_target!(|answer: &[u8]| {
    RIG.with_borrow_mut(|rig| {
        rig.answers.send(answer.to_vec()).unwrap();
        let Rig { poster, runner, .. } = rig;
        let result = runner.run(poster.post(b"{}".to_vec()));
        if result.is_ok() {
            let text = String::from_utf8_lossy(answer);
            assert!(text.contains(" 200"), "{text}");
            assert!(text.contains("OK"), "{text}");
        }
    });
});
