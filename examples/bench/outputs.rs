//! What each output costs for a reading, to make posts and to bring them to a stand-in for its server, beside a program that only
//! writes as many bytes in as many posts.
//!
//! All posts are of one backlog of the first shape, so that they are as large as they get. Time is this process's on the
//! processor: a server, a broker, a disk that works meanwhile is not in it.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pattoo_agent_modbustcpd::config;
use pattoo_agent_modbustcpd::daemon::assemble;
use pattoo_agent_modbustcpd::outputs::pattoo::identity::Agent;
use pattoo_agent_modbustcpd::outputs::plant::Plant;
use pattoo_agent_modbustcpd::reading::points::PointTable;
use pattoo_agent_modbustcpd::reading::{PointId, Reading, Timestamp, Value};
use rustix::time::{ClockId, clock_gettime};

use crate::Plan;
use crate::fleet::Shape;
use crate::floor::post;
use crate::process::Process;
use crate::round::CORES;
use crate::sink::Taken;
use crate::support::agent::Home;
use crate::support::mqtt::Mosquitto;

/// So many polls wait.
const POLLS: u32 = 20;

/// The most bytes of a post, which is where all of them begin.
const ROOM: usize = 1 << 20;

/// Outputs, with what the configuration says of them beside their type: `SERVER` is the stand-in, `DIRECTORY` one of their own.
const OUTPUTS: [(&str, &str); 9] = [
    ("pattoo", ""),
    ("file", ", path: DIRECTORY/archive.jsonl, max_bytes: 1GB"),
    ("sqlite", ", path: DIRECTORY/archive.sqlite"),
    ("influxdb", ", url: 'http://SERVER', database: plant, gzip: false"),
    ("influxdb, gzip", ", url: 'http://SERVER', database: plant"),
    ("prometheus", ", url: 'http://SERVER/api/v1/write'"),
    ("otlp", ", url: 'http://SERVER', gzip: false"),
    ("otlp, gzip", ", url: 'http://SERVER'"),
    ("mqtt", ", url: 'mqtt://SERVER'"),
];

/// What one backlog took.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    readings: u32,
    posts: u32,
    /// What was written to the server, or lies on disk.
    bytes: u64,
    encode: Duration,
    deliver: Duration,
    /// What it takes to write as many bytes.
    bound: Duration,
}

/// Measures and prints.
pub fn run(plan: &Plan) {
    let shape = plan.shapes[0];
    println!(
        "a backlog of {POLLS} polls of {} devices × {} registers, {} rounds, medians",
        shape.devices, shape.registers, plan.rounds
    );
    println!(
        "{:16} {:>9} {:>9} {:>12} {:>12} {:>12} {:>9}",
        "", "readings", "B/reading", "encode ns", "deliver ns", "bound ns", "of bound"
    );
    for (name, keys) in OUTPUTS {
        let mut rounds: Vec<Cost> = (0..plan.rounds).map(|_| measure(name, keys, shape)).collect();
        rounds.sort_by_key(|cost| cost.encode + cost.deliver);
        let Cost { readings, posts, bytes, encode, deliver, bound } = rounds[rounds.len() / 2];
        let each = |time: Duration| time.as_nanos() as f64 / f64::from(readings);
        println!(
            "{name:16} {:>9} {:>9.1} {:>12.0} {:>12.0} {:>12.0} {:>9.1}",
            readings / posts,
            bytes as f64 / f64::from(readings),
            each(encode),
            each(deliver),
            each(bound),
            (encode + deliver).as_secs_f64() / bound.as_secs_f64()
        );
    }
}

/// Processor time of this process so far.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("less than a second"))
}

fn measure(name: &str, keys: &str, shape: Shape) -> Cost {
    let kind = name.split(',').next().expect("a name");
    let program = std::env::current_exe().expect("a program has a path");
    let mut sink = Process::start(Command::new(program).arg("sink"), CORES.1);
    let sink = (SocketAddr::from((Ipv4Addr::LOCALHOST, sink.port())), sink);
    let broker = (kind == "mqtt").then(Mosquitto::open);
    let server = broker.as_ref().map_or(sink.0, Mosquitto::address);
    let home = Home::of(Path::new("unused"), server, "info");
    let own = home.path().join("own");
    fs::create_dir(&own).expect("a directory");
    let keys = keys.replace("SERVER", &server.to_string()).replace("DIRECTORY", own.to_str().expect("UTF-8"));
    home.write_config(&format!("outputs: [{{type: {kind}{keys}}}]\n{}", shape.config(40_000)));
    let loaded = config::load(&home.config_dir()).unwrap_or_else(|error| panic!("{error}"));
    let agent = Agent::new("4c".repeat(32).parse().expect("64 hex digits"), "bench.example.net").expect("a name");
    let table = Arc::new(assemble::point_table(&loaded.config, &agent));
    let plant = Plant::default();
    plant.configure(&table);
    let way = assemble::way(&loaded.config.outputs[0], &loaded.config, &agent, &plant);
    let (mut encode, deliver) = way.expect("an address");

    let mut cost = Cost::default();
    actix_rt::System::new().block_on(async {
        let mut deliver = deliver();
        // What is done once: a connection, a schema, what is announced of a point.
        for measured in [false, true] {
            let readings = readings(&table, if measured { 1..POLLS + 1 } else { 0..1 });
            let mut left = &readings[..];
            Taken::ask(sink.0.port()).expect("a sink");
            cost = Cost { readings: u32::try_from(readings.len()).expect("few"), ..Cost::default() };
            let before = on_disk(&own);
            while !left.is_empty() {
                let begun = spent();
                let encoded = encode.encode(&table, left, ROOM, Timestamp::default());
                let made = spent();
                let body = encoded.body.expect("finite values");
                cost.posts += 1;
                cost.bytes += body.len() as u64;
                let answer = deliver.post(body).await;
                assert!(answer.result.is_ok(), "{name}: {:?}", answer.result);
                cost.encode += made.saturating_sub(begun);
                cost.deliver += spent().saturating_sub(made);
                left = &left[encoded.taken..];
            }
            let (taken, grown) = (Taken::ask(sink.0.port()).expect("a sink").bytes, on_disk(&own) - before);
            // A broker is sent posts as they are.
            cost.bytes = [taken, grown].into_iter().find(|bytes| *bytes > 0).unwrap_or(cost.bytes);
        }
    });
    cost.bound = bound(sink.0, &own, cost);
    cost
}

/// What files of its own an output has on disk.
fn on_disk(own: &Path) -> u64 {
    let files =
        fs::read_dir(own).expect("a directory").map(|entry| entry.expect("an entry").metadata().expect("a file"));
    files.map(|metadata| metadata.len()).sum()
}

/// What it takes to write as many bytes in as many posts: to the sink, or to a file, durably.
fn bound(sink: SocketAddr, own: &Path, Cost { posts, bytes, .. }: Cost) -> Duration {
    let body = vec![b'7'; usize::try_from(bytes / u64::from(posts)).expect("it fits into memory")];
    if on_disk(own) > 0 {
        let mut file = File::create(own.join("bound")).expect("a file");
        let begun = spent();
        for _ in 0..posts {
            file.write_all(&body).and_then(|()| file.sync_data()).expect("room");
        }
        return spent().saturating_sub(begun);
    }
    let mut server = TcpStream::connect(sink).expect("a sink");
    server.set_nodelay(true).expect("a socket");
    let begun = spent();
    for _ in 0..posts {
        post(&mut server, &body).expect("a sink");
    }
    spent().saturating_sub(begun)
}

/// What such polls read, one each second.
fn readings(table: &PointTable, polls: std::ops::Range<u32>) -> Vec<Reading> {
    let points = u32::try_from(table.len()).expect("few points");
    let poll = |poll: u32| {
        let at = Timestamp::from_millis(1_790_000_000_123 + 1_000 * u64::from(poll));
        (0..points).map(move |point| {
            let value = Value::Float(f64::from((point * 1_057 + poll * 37) % 65_536));
            Reading { point: PointId(point), at, value }
        })
    };
    polls.flat_map(poll).collect()
}
