//! Whatever a device sends: no panic, and words only for exactly the reply that was asked for.
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
    let mut link = Link::over(ours, Duration::from_secs(1));
    for answer in input.answers.iter().take(4) {
        let device = async {
            let mut request = [0; 12];
            if theirs.read_exact(&mut request).await.is_err() {
                return None;
            }
            assert!(matches!(request[7], 3 | 4), "function {}", request[7]);
            let bytes = u8::try_from(quantity * 2).unwrap();
            let mut reply = Vec::new();
            if answer.right_header {
                reply.extend_from_slice(&[request[0], request[1], 0, 0, 0, bytes + 3, request[6]]);
                if answer.right_head {
                    reply.extend_from_slice(&[request[7], bytes]);
                }
            }
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
            Some((request, reply))
        };
        let (read, exchanged) = tokio::join!(link.read(&block), device);
        match read {
            Ok(words) => {
                let (request, reply) = exchanged.expect("no answer without a request");
                let bytes = u8::try_from(quantity * 2).unwrap();
                let mut right = vec![request[0], request[1], 0, 0, 0, bytes + 3, request[6], request[7], bytes];
                right.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                assert_eq!(words.len(), usize::from(quantity));
                assert!(reply.starts_with(&right), "{reply:?} was taken for {right:?}");
            }
            Err(error) if error.link_is_dead() => {
                assert!(link.read(&block).await.is_err(), "a dead link answers");
                return;
            }
            Err(_) => {}
        }
    }
}
