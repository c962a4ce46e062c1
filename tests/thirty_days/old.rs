//! What an earlier agent has left, and how a log is opened.

use std::time::Duration;

use pattoo_agent_modbustcpd::outputs::Encode;
use pattoo_agent_modbustcpd::outputs::pattoo::encode::PattooEncode;
use pattoo_agent_modbustcpd::outputs::pattoo::identity::AgentId;
use pattoo_agent_modbustcpd::reading::{Reading, Timestamp, Value};
use pattoo_agent_modbustcpd::shard::Shard;
use pattoo_agent_modbustcpd::spool::log::{Life, Log, Opened};
use pattoo_agent_modbustcpd::spool::{Limits, SpoolError};

use super::ledger::{AGENT_ID, Ledger};
use super::sim_disk::SimDisk;

/// Leaves `files` bodies, each with one reading of every series, and two that nobody can deliver.
pub fn plant(disk: &SimDisk, ledger: &Ledger, files: usize) {
    let id = AgentId::from_bytes(AGENT_ID);
    let mut encode = PattooEncode::new(id.clone(), Shard::default());
    let mut world = disk.world();
    for n in 0..files {
        let at = Timestamp::from_millis(Ledger::old_stamp(n));
        let reading = |series| Reading {
            point: ledger.place(series, 0),
            at,
            value: Value::Float(f64::from(u32::try_from(n).unwrap())),
        };
        let readings: Vec<_> = (0..ledger.series()).map(reading).collect();
        let body = encode.encode(&ledger.table(0), &readings, usize::MAX, Timestamp::default()).body.unwrap();
        world.plant(&format!("{at}_{}.json", id.as_str()), &body);
    }
    if files > 3 {
        let early = Timestamp::from_millis(Ledger::old_stamp(0) - 1);
        world.plant(&format!("{early}_{}.json", id.as_str()), b"{\"pattoo_agent_id\": ");
        let late = Timestamp::from_millis(2_524_608_000_000);
        world.plant(&format!("{late}_{}.json", id.as_str()), b"[]");
    }
}

/// Opens the log on this disk.
pub fn open(disk: &SimDisk, limits: Limits, boot_id: &str) -> Result<(Log, Opened), SpoolError> {
    let id = AgentId::from_bytes(AGENT_ID);
    let restamp = |body: &[u8], _: Duration, _: Timestamp| Ok(body.to_vec());
    Log::open(Box::new(disk.clone()), limits, &Life { agent_id: id.as_str(), boot_id, restamp })
}
