//! The link with the frames of a serial line: no transaction id, a checksum instead.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::device::{RESPONSE, UNIT, block, holding};
use crate::modbus::error::{Exception, ReadError, Violation};
use crate::modbus::link::reply_check::{Framing, Ignored};
use crate::modbus::link::reply_reader::ReplyReader;
use crate::modbus::link::{Line, Link, Remark};
use crate::modbus::register::Table;
use crate::modbus::settings::{Settings, Transport};
use crate::net::resolve::Resolver;

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
async fn whatever_bit_of_a_reply_is_wrong_it_is_refused_at_the_deadline_and_closes_the_link() {
    let right = frame(&ANSWER);
    for bit in 0..right.len() * 8 {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let (mut link, mut device) = fresh();
        let begun = Instant::now();
        let error = exchange(&mut link, &mut device, &[&wrong]).await.unwrap_err();
        let case = format!("bit {bit}: {error:?}");
        // Who knows whether the true reply is still to come.
        assert_eq!(begun.elapsed(), RESPONSE, "{case}");
        match bit / 8 {
            0..=2 => assert!(matches!(error, ReadError::Protocol(Violation::NoFrame { bytes: 7 })), "{case}"),
            _ => assert!(matches!(error, ReadError::Protocol(Violation::Checksum)), "{case}"),
        }
        assert_closed(&mut link, &mut device, &case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_reply_is_found_behind_noise_in_two_hundred_and_fifty_six_bytes_at_most() {
    let right = frame(&ANSWER);
    let (mut link, mut device) = fresh();
    assert_eq!(exchange(&mut link, &mut device, &[&right]).await.unwrap(), [9]);
    // Of a connection that has worked; what comes over a new one may be a greeting.
    let noises = [vec![0], vec![0xFF; 3], vec![UNIT], vec![UNIT, 3], vec![UNIT, 0x83], vec![1, 3, 0], vec![0x55; 256]];
    for noise in &noises {
        for cut in [false, true] {
            let both = [&noise[..], &right].concat();
            let pieces = if cut { vec![&noise[..], &right] } else { vec![&both[..]] };
            let read = exchange(&mut link, &mut device, &pieces).await;
            assert_eq!(read.unwrap(), [9], "{noise:?}");
        }
    }
    assert_eq!((link.take_remark(), link.take_remark()), (Some(Remark::Noise { bytes: 1 }), None));
    let error = exchange(&mut link, &mut device, &[&[0x55; 257], &right]).await.unwrap_err();
    assert!(matches!(error, ReadError::Protocol(Violation::NoFrame { bytes: 257 })), "{error:?}");
    assert_closed(&mut link, &mut device, "too much noise").await;
}

#[tokio::test(start_paused = true)]
async fn noise_behind_a_reply_and_between_requests_is_thrown_away() {
    let right = frame(&ANSWER);
    let (mut link, mut device) = fresh();
    for noise in [&[0][..], &[0xFF; 50], &right] {
        assert_eq!(exchange(&mut link, &mut device, &[&right, noise]).await.unwrap(), [9]);
        device.write_all(&noise[..noise.len().min(60)]).await.unwrap();
    }
    // With noise on both sides.
    assert_eq!(exchange(&mut link, &mut device, &[&[0], &right, &[0]]).await.unwrap(), [9]);
}

#[tokio::test(start_paused = true)]
async fn the_echo_of_each_request_is_dropped() {
    let right = frame(&ANSWER);
    let request = frame(&[UNIT, 3, 0, 0, 0, 1]);
    let no = frame(&[UNIT, 0x83, 2]);
    let (mut link, mut device) = fresh();
    for pieces in [vec![&request[..], &right], vec![&request[..3], &request[3..], &right], vec![&[0], &request, &right]]
    {
        assert_eq!(exchange(&mut link, &mut device, &pieces).await.unwrap(), [9], "{pieces:?}");
    }
    assert_eq!(exchange(&mut link, &mut device, &[&request, &no]).await.unwrap_err().kind(), "exception");
    assert_eq!(link.take_remark(), Some(Remark::Noise { bytes: 1 }));
    assert_eq!((link.take_remark(), link.take_remark()), (Some(Remark::Echo), None));
    // An echo alone is no answer.
    let error = exchange(&mut link, &mut device, &[&request]).await.unwrap_err();
    assert!(matches!(error, ReadError::ResponseTimeout(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_device_says_before_the_first_request_is_thrown_away() {
    let (near, mut device) = duplex(2_048);
    let mut link = Link::over_rtu(near, RESPONSE);
    device.write_all(&[b'x'; 300]).await.unwrap();
    // And what it says once the request has left.
    let read = exchange(&mut link, &mut device, &[&[b'x'; 300], &frame(&ANSWER)]).await;
    assert_eq!(read.unwrap(), [9]);
    assert_eq!((link.take_remark(), link.take_remark()), (Some(Remark::Greeting { bytes: 300 }), None));
}

#[tokio::test(start_paused = true)]
async fn after_an_exchange_without_an_answer_the_line_is_left_alone_also_by_the_next_connection() {
    let wires = Line::default();
    for (case, pieces, ends_after) in [
        ("silence", &[][..], RESPONSE),
        ("noise", &[&[0_u8][..]], RESPONSE),
        ("too much noise", &[&[0x55; 1_026][..]], Duration::ZERO),
    ] {
        let (near, mut device) = duplex(2_048);
        let mut link = Link::over_rtu(near, RESPONSE).on(wires.clone());
        let asked = Instant::now().max(wires.owes_until().unwrap_or_else(Instant::now));
        exchange(&mut link, &mut device, pieces).await.unwrap_err();
        assert_eq!(asked.elapsed(), ends_after, "{case}");
        assert_eq!(wires.owes_until(), Some(asked + 2 * RESPONSE), "{case}");
        let (near, mut device) = duplex(2_048);
        let mut link = Link::over_rtu(near, RESPONSE).on(wires.clone());
        let block = holding(1);
        // The late reply comes over the new connection.
        device.write_all(&frame(&[UNIT, 3, 2, 0, 1])).await.unwrap();
        let (read, ()) = tokio::join!(link.read(&block), async {
            device.read_exact(&mut [0; 8]).await.unwrap();
            assert_eq!(asked.elapsed(), 2 * RESPONSE, "{case}");
            device.write_all(&frame(&ANSWER)).await.unwrap();
        });
        assert_eq!(read.unwrap(), [9], "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_abandoned_leaves_the_line_owing_and_an_answer_does_not() {
    let wires = Line::default();
    let (near, mut device) = duplex(64);
    let mut link = Link::over_rtu(near, RESPONSE).on(wires.clone());
    assert_eq!(exchange(&mut link, &mut device, &[&frame(&ANSWER)]).await.unwrap(), [9]);
    exchange(&mut link, &mut device, &[&frame(&[UNIT, 0x83, 11])]).await.unwrap_err();
    assert_eq!(wires.owes_until(), None);
    let asked = Instant::now();
    let abandoned = tokio::time::timeout(RESPONSE / 3, link.read(&holding(1))).await;
    assert!(abandoned.is_err());
    assert_eq!(wires.owes_until(), Some(asked + 2 * RESPONSE));
}

#[tokio::test(start_paused = true)]
async fn a_link_keeps_quiet_as_long_as_it_is_told_to() {
    let (mut link, mut device) = fresh();
    let until = Instant::now() + RESPONSE;
    link.keep_quiet_until(until);
    link.keep_quiet_until(until - RESPONSE / 2);
    device.write_all(&frame(&[UNIT, 3, 2, 0, 1])).await.unwrap();
    let block = holding(1);
    let (read, ()) = tokio::join!(link.read(&block), async {
        device.read_exact(&mut [0; 8]).await.unwrap();
        assert_eq!(Instant::now(), until);
        device.write_all(&frame(&ANSWER)).await.unwrap();
    });
    assert_eq!(read.unwrap(), [9]);
}

#[tokio::test(start_paused = true)]
async fn the_answer_that_another_client_waits_for_is_not_taken() {
    let (mut link, mut device) = fresh();
    assert_eq!(exchange(&mut link, &mut device, &[&frame(&ANSWER)]).await.unwrap(), [9]);
    let begun = Instant::now();
    device.write_all(&frame(&[UNIT, 3, 1, 2, 0, 1])).await.unwrap();
    let block = holding(1);
    let (read, ()) = tokio::join!(link.read(&block), async {
        tokio::time::sleep(RESPONSE / 2).await;
        device.write_all(&frame(&[UNIT, 3, 2, 0xEE, 0xEE])).await.unwrap();
        device.read_exact(&mut [0; 8]).await.unwrap();
        assert!(begun.elapsed() > RESPONSE, "{:?}", begun.elapsed());
        device.write_all(&frame(&ANSWER)).await.unwrap();
    });
    assert_eq!(read.unwrap(), [9]);
}

#[tokio::test(start_paused = true)]
async fn any_unit_may_answer_where_that_is_set_but_not_among_others() {
    let any = || {
        let (near, far) = duplex(64);
        let ignored = Ignored { unit: true, transaction: false };
        (Link::with(ReplyReader::new(near, Framing::Rtu).ignoring(ignored), RESPONSE), far)
    };
    let request = frame(&[UNIT, 3, 0, 0, 0, 1]);
    for unit in [0, 1, UNIT, 255] {
        let (mut link, mut device) = any();
        let right = frame(&[unit, 3, 2, 0, 9]);
        assert_eq!(exchange(&mut link, &mut device, &[&right]).await.unwrap(), [9], "{unit}");
        assert_eq!(exchange(&mut link, &mut device, &[&request, &right]).await.unwrap(), [9], "{unit}");
        let no = exchange(&mut link, &mut device, &[&frame(&[unit, 0x83, 2])]).await.unwrap_err();
        assert_eq!(no.kind(), "exception", "{unit}");
        let other = frame(&[unit, 3, 0, 9, 0, 1]);
        for before in [&[0][..], &other] {
            let (mut link, mut device) = any();
            let read = exchange(&mut link, &mut device, &[before, &right]).await;
            assert!(matches!(read, Err(ReadError::Protocol(_))), "{unit} behind {before:?}: {read:?}");
        }
        let (mut link, mut device) = fresh();
        let read = exchange(&mut link, &mut device, &[&right]).await;
        match read {
            Ok(words) => assert_eq!((words, unit), (vec![9], UNIT)),
            Err(error) => assert_eq!((error.kind(), unit == UNIT), ("unit", false)),
        }
    }
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
        // What may come between two exchanges, or around a reply, and what is taken at once.
        assert!(sent <= 65 << 10, "{flood:?}: {sent} bytes taken");
    }
}

#[tokio::test]
async fn over_real_sockets_the_next_connection_waits_for_what_the_last_one_left_unanswered() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let response_timeout = Duration::from_millis(50);
    let settings = Settings { transport: Transport::Rtu, response_timeout, ..Settings::default() };
    let mut asked_at = Vec::new();
    let begun = Instant::now();
    // Each dials on its own, as after a reload.
    for _ in 0..3 {
        let mut resolver = Resolver::new("127.0.0.1", listener.local_addr().unwrap().port());
        let (link, accepted) = tokio::join!(Link::connect(&mut resolver, &settings), listener.accept());
        let (mut link, mut device) = (link.unwrap(), accepted.unwrap().0);
        let block = holding(1);
        let (read, ()) = tokio::join!(link.read(&block), async {
            device.read_exact(&mut [0; 8]).await.unwrap();
            asked_at.push(begun.elapsed());
        });
        assert!(matches!(read, Err(ReadError::ResponseTimeout(_))), "{read:?}");
    }
    assert!(asked_at[1] >= 2 * response_timeout && asked_at[2] >= 4 * response_timeout, "{asked_at:?}");
}
