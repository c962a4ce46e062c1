//! The link with the frames of a serial line: no transaction id, a checksum instead.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use super::device::{RESPONSE, UNIT, block, holding};
use crate::modbus::error::{Exception, ReadError, Violation};
use crate::modbus::link::Link;
use crate::modbus::register::Table;

/// What a device answers to a request for the first holding register: 9.
const ANSWER: [u8; 5] = [UNIT, 3, 2, 0, 9];

fn fresh() -> (Link, DuplexStream) {
    let (near, far) = duplex(64);
    (Link::over_rtu(near, RESPONSE), far)
}

/// A frame with its checksum, computed as the specification describes it.
fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut crc: u16 = 0xFFFF;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1 != 0;
            crc >>= 1;
            if carry {
                crc ^= 0xA001;
            }
        }
    }
    [bytes, &crc.to_le_bytes()].concat()
}

/// One exchange in which the device answers with `pieces`, one after the other.
async fn exchange(link: &mut Link, device: &mut DuplexStream, pieces: &[&[u8]]) -> Result<Vec<u16>, ReadError> {
    let block = holding(1);
    let (read, ()) = tokio::join!(link.read(&block), async {
        device.read_exact(&mut [0; 8]).await.unwrap();
        for piece in pieces {
            device.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    read
}

async fn assert_closed(link: &mut Link, device: &mut DuplexStream, case: &str) {
    let again = link.read(&holding(1)).await;
    assert!(matches!(again, Err(ReadError::LinkClosed)), "{case}: {again:?}");
    let mut rest = Vec::new();
    tokio::time::timeout(RESPONSE, device.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, [0; 0], "{case}");
}

#[tokio::test(start_paused = true)]
async fn the_exact_bytes_of_the_specification_are_sent_and_read() {
    let (mut link, mut device) = fresh();
    let cases: [(_, u16, u8, &[u16]); 3] = [
        (Table::HoldingRegisters, 107, 3, &[0x022B, 0, 0x0064]),
        (Table::InputRegisters, 8, 4, &[10]),
        (Table::InputRegisters, 0, 4, &[7; 125]),
    ];
    for (table, address, function, words) in cases {
        let quantity = u16::try_from(words.len()).unwrap();
        let block = block(table, address, quantity);
        let (read, sent) = tokio::join!(link.read(&block), async {
            let mut request = [0; 8];
            device.read_exact(&mut request).await.unwrap();
            let count = u8::try_from(words.len() * 2).unwrap();
            let values = words.iter().flat_map(|word| word.to_be_bytes());
            let reply: Vec<u8> = [UNIT, function, count].into_iter().chain(values).collect();
            device.write_all(&frame(&reply)).await.unwrap();
            request
        });
        let [a0, a1] = address.to_be_bytes();
        let [q0, q1] = quantity.to_be_bytes();
        assert_eq!(sent[..], frame(&[UNIT, function, a0, a1, q0, q1]), "{table}");
        assert_eq!(read.unwrap(), words, "{table}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_accepted_however_it_is_cut() {
    let bytes = frame(&ANSWER);
    for cut in 1..bytes.len() {
        let (mut link, mut device) = fresh();
        let read = exchange(&mut link, &mut device, &[&bytes[..cut], &bytes[cut..]]).await;
        assert_eq!(read.unwrap(), [9], "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exception_keeps_its_number_and_the_link() {
    let (mut link, mut device) = fresh();
    for code in [1, 2, 6, 11, 0xFF] {
        let error = exchange(&mut link, &mut device, &[&frame(&[UNIT, 0x83, code])]).await.unwrap_err();
        assert!(matches!(error, ReadError::Exception(found) if found == Exception { code }), "{code}: {error:?}");
        assert_eq!(exchange(&mut link, &mut device, &[&frame(&ANSWER)]).await.unwrap(), [9]);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_bit_of_a_reply_is_wrong_it_is_refused_and_closes_the_link() {
    let right = frame(&ANSWER);
    for bit in 0..right.len() * 8 {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let (mut link, mut device) = fresh();
        let error = exchange(&mut link, &mut device, &[&wrong]).await.unwrap_err();
        let case = format!("bit {bit}: {error:?}");
        match bit / 8 {
            0 => assert!(matches!(error, ReadError::Protocol(Violation::Unit { .. })), "{case}"),
            // The bit of an exception: one that is too long and has the wrong checksum.
            1 if bit == 15 => assert!(matches!(error, ReadError::Protocol(Violation::Checksum)), "{case}"),
            1 => assert!(matches!(error, ReadError::Protocol(Violation::Function { .. })), "{case}"),
            2 => assert!(matches!(error, ReadError::Protocol(Violation::ByteCount { .. })), "{case}"),
            _ => assert!(matches!(error, ReadError::Protocol(Violation::Checksum)), "{case}"),
        }
        assert_closed(&mut link, &mut device, &case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn noise_before_and_behind_a_reply_is_never_taken_for_one() {
    let right = frame(&ANSWER);
    for noise in [&[0_u8][..], &[0xFF; 3], &[UNIT], &[UNIT, 3]] {
        let (mut link, mut device) = fresh();
        let read = exchange(&mut link, &mut device, &[noise, &right]).await;
        assert!(matches!(&read, Err(ReadError::Protocol(_))), "{noise:?}: {read:?}");
        assert_closed(&mut link, &mut device, "noise before").await;
    }
    let (mut link, mut device) = fresh();
    assert_eq!(exchange(&mut link, &mut device, &[&right, &[0]]).await.unwrap(), [9]);
    assert_eq!(link.read(&holding(1)).await.unwrap_err().kind(), "unasked");
    assert_closed(&mut link, &mut device, "noise behind").await;
}

#[tokio::test(start_paused = true)]
async fn without_a_transaction_id_a_late_reply_finds_a_closed_link() {
    let right = frame(&ANSWER);
    for arrived in 0..right.len() {
        let (mut link, mut device) = fresh();
        let begun = Instant::now();
        let read = exchange(&mut link, &mut device, &[&right[..arrived]]).await;
        assert!(matches!(read, Err(ReadError::ResponseTimeout(RESPONSE))), "{arrived} bytes: {read:?}");
        assert_eq!(begun.elapsed(), RESPONSE);
        assert!(device.write_all(&right[arrived..]).await.is_err());
        assert_closed(&mut link, &mut device, "late").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_closed_before_it_fills_anything() {
    let right = frame(&ANSWER);
    for flood in [vec![0; 16], vec![UNIT; 16], right] {
        let (mut link, mut device) = fresh();
        let block = holding(1);
        let poll_twice = async {
            let results = (link.read(&block).await, link.read(&block).await);
            assert!(results.1.is_err(), "{results:?}");
        };
        let ((), sent) = tokio::join!(poll_twice, async {
            device.read_exact(&mut [0; 8]).await.unwrap();
            let mut sent = 0;
            while let Ok(written) = device.write(&flood[sent % flood.len()..]).await {
                sent += written;
            }
            sent
        });
        // What the pipe holds, the reply that was asked for, and the byte behind it.
        assert!(sent <= 64 + 8, "{flood:?}: {sent} bytes taken");
    }
}
