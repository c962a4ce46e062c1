//! Whatever a device sends, in either framing: no panic, and words only for exactly the reply that was asked for.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pattoo_agent_modbustcpd::modbus::link::Link;
use pattoo_agent_modbustcpd::modbus::plan::Block;
use pattoo_agent_modbustcpd::modbus::register::{Table, UnitId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Arbitrary, Debug)]
struct Input {
    holding: bool,
    /// The frames of a serial line instead of Modbus TCP.
    rtu: bool,
    unit: u8,
    address: u16,
    quantity: u8,
    /// Each request is answered by these chunks.
    answers: Vec<Answer>,
}

#[derive(Arbitrary, Debug)]
struct Answer {
    /// Start with the header of a right reply, so that the engine need not guess the transaction id.
    right_header: bool,
    /// And with its function code and byte count.
    right_head: bool,
    chunks: Vec<Vec<u8>>,
    close: bool,
}

fuzz_target!(|input: Input| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(exchange(input));
});

async fn exchange(input: Input) {
    let quantity = u16::from(input.quantity).clamp(1, 125);
    let block = Block {
        unit: UnitId(input.unit),
        table: if input.holding { Table::HoldingRegisters } else { Table::InputRegisters },
        address: input.address.min(u16::MAX - quantity + 1),
        quantity,
        whole: false,
        points: Vec::new(),
    };
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let response = Duration::from_secs(1);
    let mut link = if input.rtu { Link::over_rtu(ours, response) } else { Link::over(ours, response) };
    let mut framed = false;
    for answer in input.answers.iter().take(4) {
        let device = async {
            let mut request = vec![0; if input.rtu { 8 } else { 12 }];
            if theirs.read_exact(&mut request).await.is_err() {
                return None;
            }
            let [unit, function] = if input.rtu { [request[0], request[1]] } else { [request[6], request[7]] };
            assert!(matches!(function, 3 | 4), "function {function}");
            let bytes = u8::try_from(quantity * 2).unwrap();
            let mut header = if input.rtu { vec![] } else { vec![request[0], request[1], 0, 0, 0, bytes + 3] };
            header.push(unit);
            let mut reply = Vec::new();
            if answer.right_header {
                reply.extend_from_slice(&header);
                if answer.right_head {
                    reply.extend_from_slice(&[function, bytes]);
                }
            }
            header.extend([function, bytes]);
            theirs.write_all(&reply).await.ok();
            for chunk in &answer.chunks {
                reply.extend_from_slice(chunk);
                if theirs.write_all(chunk).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if answer.close {
                theirs.shutdown().await.ok();
            }
            Some((header, reply))
        };
        let (read, exchanged) = tokio::join!(link.read(&block), device);
        match read {
            Ok(words) => {
                let (mut right, reply) = exchanged.expect("no answer without a request");
                right.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                if input.rtu {
                    right.extend(checksum(&right).to_le_bytes());
                }
                assert_eq!(words.len(), usize::from(quantity));
                // Behind noise on a serial line, and behind a greeting before the first frame of a connection.
                let at = reply.windows(right.len()).position(|window| window == right);
                assert!(at.is_some_and(|at| at == 0 || input.rtu || !framed), "{reply:?} was taken for {right:?}");
                framed = true;
            }
            Err(_) if link.may_ask_again() => assert!(!input.rtu && !framed, "asked again without need or ids"),
            Err(error) if error.link_is_dead() => {
                assert!(link.read(&block).await.is_err(), "a dead link answers");
                return;
            }
            Err(_) => framed = true,
        }
    }
}

/// The checksum of the serial line.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}
