//! Whatever an InfluxDB, a Prometheus or a receiver of OTLP sends: no panic, an end in time, and delivered only for a success.
#![no_main]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pattoo_agent_modbustcpd::config::{self, Config};
use pattoo_agent_modbustcpd::daemon::assemble;
use pattoo_agent_modbustcpd::outputs::Deliver;
use pattoo_agent_modbustcpd::outputs::pattoo::identity::Agent;
use pattoo_agent_modbustcpd::outputs::plant::Plant;
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value};

struct Rig {
    answer: Arc<Mutex<Vec<u8>>>,
    config: Config,
    agent: Agent,
    post: Bytes,
}

impl Rig {
    /// One that has posted nothing yet: what it has posted before may be there already, whatever the server says of it.
    fn deliver(&self) -> Box<dyn Deliver> {
        assemble::way(&self.config.outputs[0], &self.config, &self.agent, &Plant::default()).unwrap().1()
    }
}

struct Rigs {
    runtime: tokio::runtime::Runtime,
    local: tokio::task::LocalSet,
    rigs: [Rig; 3],
}

thread_local! {
    static RIGS: RefCell<Rigs> = RefCell::new(rigs());
}

fn rigs() -> Rigs {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let rigs = local.block_on(&runtime, async {
        [("type: influxdb, database: plant", "/"), ("type: prometheus", "/api/v1/write"), ("type: otlp", "")].map(rig)
    });
    Rigs { runtime, local, rigs }
}

/// An output, and a server that gives it the answer of the moment.
fn rig((output, path): (&str, &str)) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::<Mutex<Vec<u8>>>::default();
    let said = Arc::clone(&answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            if request(&mut stream).is_some() {
                let answer = said.lock().unwrap().clone();
                stream.write_all(&answer).ok();
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let file = format!(
        "outputs: [{{{output}, url: \"{url}{path}\", timeout: 1s}}]\npolling_groups:\n  - {{ip_devices: [192.0.2.1], input_registers: [30001]}}\n"
    );
    std::fs::write(directory.path().join("pattoo_agent_modbustcpd.yaml"), file).unwrap();
    let config = config::load(directory.path()).unwrap().config;
    let agent = Agent::new("4c".repeat(32).parse().unwrap(), "agent.example.net").unwrap();
    let table = Arc::new(assemble::point_table(&config, &agent));
    let (mut encode, _) = assemble::way(&config.outputs[0], &config, &agent, &Plant::default()).unwrap();
    let at = Timestamp::from_millis(1_795_943_592_000);
    let readings = [Reading { point: PointId(0), at, value: Value::Float(230.4) }];
    let post = encode.encode(&table, &readings, 1 << 20, at).body.unwrap();
    Rig { answer, config, agent, post }
}

/// Reads a request with a body of known length.
fn request(stream: &mut TcpStream) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())?;
    stream.read_exact(&mut vec![0; length]).ok()
}

fuzz_target!(|input: &[u8]| {
    let Some((which, answer)) = input.split_first() else { return };
    RIGS.with_borrow_mut(|Rigs { runtime, local, rigs }| {
        let rig = &rigs[usize::from(which % 3)];
        *rig.answer.lock().unwrap() = answer.to_vec();
        let result = local.block_on(runtime, async { rig.deliver().post(rig.post.clone()).await.result });
        if result.is_ok() {
            assert!(String::from_utf8_lossy(answer).contains(" 2"), "{answer:?}");
        }
    });
});
