//! Whatever is in the cache directory: opening succeeds, only whole batches come out, in order, and foreign
//! files are untouched.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pattoo_agent_modbustcpd::actors::spooler::check;
use pattoo_agent_modbustcpd::spool::{Limits, Name, Spool};

const ID: &str = "0707070707070707070707070707070707070707070707070707070707070707";

#[derive(Arbitrary, Debug)]
enum Planted {
    /// A batch of ours whose name fits its content.
    Whole {
        at: u16,
        datapoints: u8,
    },
    /// One of the Python agent.
    Python {
        at: u16,
        body: Vec<u8>,
        valid: bool,
    },
    /// One whose content is not what its name says.
    Damaged {
        at: u16,
        body: Vec<u8>,
        crc: u32,
    },
    Foreign {
        name: String,
        body: Vec<u8>,
    },
    Directory {
        at: u16,
    },
}

fn valid(datapoints: u8) -> Vec<u8> {
    let rows = vec!["[]"; usize::from(datapoints)].join(",");
    format!(
        "{{\"pattoo_agent_timestamp\":1,\"pattoo_agent_id\":\"{ID}\",\"pattoo_agent_polling_interval\":1,\
         \"pattoo_datapoints\":{{\"key_value_pairs\":{{}},\"datapoint_pairs\":[{rows}]}}}}"
    )
    .into_bytes()
}

fuzz_target!(|planted: Vec<Planted>| {
    let cache = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let directory = cache.path().join(ID);
    std::fs::create_dir(&directory).unwrap();
    let mut foreign = std::collections::BTreeMap::new();
    for plant in planted.iter().take(20) {
        let (name, body) = match plant {
            Planted::Whole { at, datapoints } => {
                let body = valid(*datapoints);
                (format!("17000000{at:05}_{ID}_{:08x}.json", crc32c::crc32c(&body)), body)
            }
            Planted::Python { at, body, valid: is_valid } => {
                (format!("17000000{at:05}_{ID}.json"), if *is_valid { valid(3) } else { body.clone() })
            }
            Planted::Damaged { at, body, crc } => (format!("17000000{at:05}_{ID}_{crc:08x}.json"), body.clone()),
            Planted::Foreign { name, body } => (name.clone(), body.clone()),
            Planted::Directory { at } => {
                std::fs::create_dir(directory.join(format!("17000000{at:05}_{ID}.json"))).ok();
                continue;
            }
        };
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') || ["quarantine", "undated", "state"].contains(&name.as_str()) {
            continue;
        }
        let is_foreign = Name::parse(name.as_bytes(), ID).is_none() && !name.ends_with(".tmp");
        if std::fs::write(directory.join(&name), &body).is_ok() && is_foreign {
            foreign.insert(name, body);
        }
    }
    let mut spool = Spool::open(cache.path(), ID, check, Limits::default()).unwrap();
    let mut last = None;
    while spool.tally().batches > 0 {
        let taken = spool.take(1 << 20, 3).unwrap();
        for stored in &taken {
            assert!(last < Some(stored.name), "{last:?} then {:?}", stored.name);
            if let Some(crc) = stored.name.crc() {
                assert_eq!(crc, crc32c::crc32c(&stored.body));
            }
            last = Some(stored.name);
        }
        let names: Vec<_> = taken.iter().map(|stored| stored.name).collect();
        spool.acknowledge(&names, Default::default(), 0).unwrap();
        assert_eq!(spool.tally().residual(), 0);
    }
    for (name, body) in foreign {
        if let Ok(found) = std::fs::read(directory.join(&name)) {
            assert_eq!(found, body, "{name}");
        } else {
            panic!("{name} is gone");
        }
    }
});
