//! The link against a device that misbehaves in every way known, on a stream in memory with a paused
//! clock; then once on a real socket.

pub mod device;
mod greeting;
mod late;
mod rtu;
mod tls;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::modbus::error::{Exception, Violation};
use crate::modbus::register::Table;
use device::{RESPONSE, UNIT, block, exception, exchange, frame, fresh, holding, reply, used};

const TICK: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn the_words_of_both_tables_are_read_with_the_exact_bytes() {
    use Table::{HoldingRegisters, InputRegisters};
    let (mut link, mut device) = fresh();
    let cases: [(_, _, _, &[u16], [u8; 12]); 4] = [
        (InputRegisters, 386, 4, &[2_715, 0, 65_535], [0, 0, 0, 0, 0, 6, 7, 4, 1, 130, 0, 3]),
        (HoldingRegisters, 0, 3, &[258], [0, 1, 0, 0, 0, 6, 7, 3, 0, 0, 0, 1]),
        (HoldingRegisters, 65_535, 3, &[9], [0, 2, 0, 0, 0, 6, 7, 3, 255, 255, 0, 1]),
        (InputRegisters, 0, 4, &[7; 125], [0, 3, 0, 0, 0, 6, 7, 4, 0, 0, 0, 125]),
    ];
    for (transaction, (table, address, function, words, request)) in (0..).zip(cases) {
        let block = block(table, address, u16::try_from(words.len()).unwrap());
        let (read, sent) = tokio::join!(link.read(&block), async {
            let sent = device.request().await;
            device.send(&reply(transaction, UNIT, function, words)).await;
            sent
        });
        assert_eq!(sent, request, "{table} {address}");
        assert_eq!(read.unwrap(), words, "{table} {address}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_carries_the_unit_of_its_block() {
    let (mut link, mut device) = fresh();
    for (transaction, unit) in (0..).zip([0, 1, 255]) {
        let mut block = holding(1);
        block.unit.0 = unit;
        let (read, sent) = tokio::join!(link.read(&block), async {
            let sent = device.request().await;
            device.send(&reply(transaction, unit, 3, &[5])).await;
            sent
        });
        assert_eq!((read.unwrap(), sent[6]), (vec![5], unit));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_accepted_however_it_is_cut() {
    let bytes = reply(0, UNIT, 3, &[1, 2, 3]);
    for cut in 1..bytes.len() {
        let (mut link, mut device) = fresh();
        let block = holding(3);
        let (read, ()) = tokio::join!(link.read(&block), async {
            device.request().await;
            device.send(&bytes[..cut]).await;
            sleep(TICK).await;
            device.send(&bytes[cut..]).await;
        });
        assert_eq!(read.unwrap(), [1, 2, 3], "cut at {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_does_not_fit_is_refused_and_closes_the_link() {
    use Violation::{ByteCount, Function, Length, ProtocolId, TransactionId, Unit};
    let transaction = |found| TransactionId { expected: 1, found };
    let length = |found| Length { expected: 5, found };
    let count = |found| ByteCount { expected: 2, found };
    let with_length = |found| frame(1, 0, found, UNIT, &[3, 2, 0, 9]);
    let with_count = |found| frame(1, 0, 5, UNIT, &[3, found, 0, 9]);
    let function = |found| Function { expected: 3, found };
    let unit = |found| Unit { expected: 7, found };
    let cases = [
        ("id + 1", reply(2, UNIT, 3, &[9]), transaction(2)),
        ("id - 1, 0", reply(0, UNIT, 3, &[9]), transaction(0)),
        ("id far off", reply(0xFF01, UNIT, 3, &[9]), transaction(0xFF01)),
        ("exception, other id", exception(2, UNIT, 3, 2), transaction(2)),
        ("protocol 1", frame(1, 1, 5, UNIT, &[3, 2, 0, 9]), ProtocolId { found: 1 }),
        ("protocol 256", frame(1, 256, 5, UNIT, &[3, 2, 0, 9]), ProtocolId { found: 256 }),
        ("length 0", with_length(0), length(0)),
        ("length 1", with_length(1), length(1)),
        ("length 2", with_length(2), length(2)),
        ("length 3, no exception", with_length(3), length(3)),
        ("length 4", with_length(4), length(4)),
        ("length 6", with_length(6), length(6)),
        ("length 254", with_length(254), length(254)),
        ("length 255", with_length(255), length(255)),
        ("length 256", with_length(256), length(256)),
        ("length 65535", with_length(65_535), length(65_535)),
        ("no register", reply(1, UNIT, 3, &[]), length(3)),
        ("a register too many", reply(1, UNIT, 3, &[9, 9]), length(7)),
        ("byte count 0", with_count(0), count(0)),
        ("byte count 1", with_count(1), count(1)),
        ("byte count 3", with_count(3), count(3)),
        ("byte count 4", with_count(4), count(4)),
        ("byte count 255", with_count(255), count(255)),
        ("unit + 1", reply(1, 8, 3, &[9]), unit(8)),
        ("unit 0", reply(1, 0, 3, &[9]), unit(0)),
        ("exception, other unit", exception(1, 8, 3, 2), unit(8)),
        ("the other table", reply(1, UNIT, 4, &[9]), function(4)),
        ("a write", frame(1, 0, 5, UNIT, &[6, 0, 0, 9]), function(6)),
        ("function 0", reply(1, UNIT, 0, &[9]), function(0)),
        ("exception, other function", exception(1, UNIT, 4, 2), function(0x84)),
        ("exception with a tail", frame(1, 0, 5, UNIT, &[0x83, 2, 0, 0]), Length { expected: 3, found: 5 }),
        ("not Modbus", b"HTTP/1.1 400 Bad Request\r\n".to_vec(), transaction(0x4854)),
    ];
    for (case, bytes, violation) in cases {
        let (mut link, mut device) = used().await;
        let error = exchange(&mut link, &mut device, &bytes).await.unwrap_err();
        assert!(matches!(error, ReadError::Protocol(found) if found == violation), "{case}: {error:?}");
        device.assert_closed(&mut link, case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_head_is_refused_before_the_rest_arrives() {
    let (mut link, mut device) = used().await;
    let start = Instant::now();
    let error = exchange(&mut link, &mut device, &[0, 2]).await.unwrap_err();
    assert_eq!(error.kind(), "transaction_id");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_exception_keeps_its_number_and_the_link() {
    let (mut link, mut device) = fresh();
    let mut transaction = 0;
    let codes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x7F, 0x80, 0xFF].map(|code| (3, code));
    // Some leave out the function that it is about.
    for (function, code) in codes.into_iter().chain([(0, 4), (0, 11)]) {
        let bytes = exception(transaction, UNIT, function, code);
        let error = exchange(&mut link, &mut device, &bytes).await.unwrap_err();
        assert!(matches!(error, ReadError::Exception(found) if found == Exception { code }), "{code}: {error:?}");

        let bytes = reply(transaction + 1, UNIT, 3, &[9]);
        let words = exchange(&mut link, &mut device, &bytes).await;
        assert_eq!(words.unwrap(), [9], "after exception {code}");
        transaction += 2;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_just_before_the_deadline_counts() {
    let (mut link, mut device) = fresh();
    let block = holding(1);
    let (read, ()) = tokio::join!(link.read(&block), async {
        device.request().await;
        sleep(RESPONSE.saturating_sub(TICK)).await;
        device.send(&reply(0, UNIT, 3, &[9])).await;
    });
    assert_eq!(read.unwrap(), [9]);
}

#[tokio::test(start_paused = true)]
async fn without_a_whole_reply_the_deadline_closes_the_link() {
    let whole = reply(1, UNIT, 3, &[9]);
    for arrived in 0..whole.len() {
        let (mut link, mut device) = used().await;
        let start = Instant::now();
        let read = exchange(&mut link, &mut device, &whole[..arrived]).await;
        assert!(matches!(read, Err(ReadError::ResponseTimeout(RESPONSE))), "{arrived} bytes: {read:?}");
        assert_eq!(start.elapsed(), RESPONSE, "{arrived} bytes");

        // The rest comes late: nobody is there to take it for the next answer.
        assert!(device.try_send(&whole[arrived..]).await.is_err());
        device.assert_closed(&mut link, "late").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drip_does_not_move_the_deadline() {
    let (mut link, mut device) = used().await;
    let (block, start) = (holding(10), Instant::now());
    let drip = async {
        device.request().await;
        for byte in reply(1, UNIT, 3, &[9; 10]) {
            sleep(Duration::from_millis(200)).await;
            if device.try_send(&[byte]).await.is_err() {
                break;
            }
        }
    };
    let read = async { (link.read(&block).await, start.elapsed()) };
    let ((read, elapsed), ()) = tokio::join!(read, drip);
    assert!(matches!(read, Err(ReadError::ResponseTimeout(RESPONSE))));
    assert_eq!(elapsed, RESPONSE);
    device.assert_closed(&mut link, "drip").await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_takes_no_bytes_does_not_move_the_deadline() {
    let (near, _far) = tokio::io::duplex(4);
    let mut link = Link::over(near, RESPONSE);
    let start = Instant::now();
    let read = link.read(&holding(1)).await;
    assert!(matches!(read, Err(ReadError::ResponseTimeout(RESPONSE))));
    assert_eq!(start.elapsed(), RESPONSE);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_abandoned_closes_the_link() {
    let (mut link, mut device) = fresh();
    assert!(timeout(TICK, link.read(&holding(1))).await.is_err());
    device.request().await;
    device.assert_closed(&mut link, "abandoned").await;
}

#[tokio::test(start_paused = true)]
async fn an_end_of_file_tells_how_much_had_come_and_whether_the_link_was_stale() {
    let whole = reply(1, UNIT, 3, &[9]);
    for arrived in 0..whole.len() {
        let (mut link, mut device) = used().await;
        let block = holding(1);
        let (read, ()) = tokio::join!(link.read(&block), async {
            device.request().await;
            device.send(&whole[..arrived]).await;
            drop(device);
        });
        let error = read.unwrap_err();
        assert!(
            matches!(error, ReadError::Closed { received, reused: true, source: None } if received == arrived),
            "{arrived}: {error:?}"
        );
        assert_eq!(error.is_stale_connection(), arrived == 0, "{arrived}");
        let again = link.read(&block).await;
        assert!(matches!(again, Err(ReadError::LinkClosed)), "{again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_closed_while_idle_is_stale_only_if_it_had_worked() {
    let (mut link, device) = used().await;
    drop(device);
    assert!(link.read(&holding(1)).await.unwrap_err().is_stale_connection());

    let (mut link, device) = fresh();
    drop(device);
    let error = link.read(&holding(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_stale_connection()), ("closed", false));
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_a_reply_leave_it_alone_and_close_the_link() {
    let answer = reply(1, UNIT, 3, &[9]);
    let no = exception(1, UNIT, 3, 2);
    let next = reply(2, UNIT, 3, &[8]);
    for (case, bytes, refused) in [
        ("the next reply, unasked", [&answer[..], &next].concat(), false),
        ("the same reply twice", [&answer[..], &answer].concat(), false),
        ("one byte", [&answer[..], &[0]].concat(), false),
        ("junk behind an exception", [&no[..], &[0, 0]].concat(), true),
    ] {
        let (mut link, mut device) = used().await;
        let read = exchange(&mut link, &mut device, &bytes).await;
        match read {
            Ok(words) => assert_eq!((words, refused), (vec![9], false), "{case}"),
            Err(error) => assert_eq!((error.kind(), refused), ("exception", true), "{case}"),
        }
        // No request leaves on such a link.
        let error = link.read(&holding(1)).await.unwrap_err();
        assert_eq!(error.kind(), "unasked", "{case}");
        device.assert_closed(&mut link, case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_between_requests_close_the_link() {
    for bytes in [&[0][..], &reply(0, UNIT, 3, &[1])] {
        let (mut link, mut device) = used().await;
        device.send(bytes).await;
        let error = link.read(&holding(1)).await.unwrap_err();
        assert_eq!(error.kind(), "unasked", "{bytes:?}");
        device.assert_closed(&mut link, "between").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_closed_before_it_fills_anything() {
    let floods = [
        ("zeros", vec![0; 10]),
        ("of the right id, too long", frame(1, 0, 65_535, UNIT, &[3, 2])),
        ("of replies", reply(1, UNIT, 3, &[9])),
    ];
    for (case, bytes) in floods {
        let (mut link, mut device) = used().await;
        let block = holding(1);
        let poll_twice = async {
            let results = (link.read(&block).await, link.read(&block).await);
            assert!(results.1.is_err(), "{case}: {results:?}");
        };
        let ((), sent) = tokio::join!(poll_twice, async {
            device.request().await;
            device.flood(&bytes).await
        });
        // What the pipe holds, the reply that was asked for, and the byte behind it.
        assert!(sent <= 64 + 12, "{case}: {sent} bytes taken");
        device.assert_closed(&mut link, case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_are_kept_after_connecting_and_between_requests_and_count_for_no_deadline() {
    let pause_after_connect = Duration::from_secs(10);
    let pause_between_requests = Duration::from_secs(4);
    let (link, mut device) = fresh();
    let mut link = link.paced(pause_after_connect, pause_between_requests);
    let begun = Instant::now();
    for (transaction, bytes, asked_at) in [
        (0, reply(0, UNIT, 3, &[9]), pause_after_connect),
        (1, exception(1, UNIT, 3, 2), pause_after_connect + pause_between_requests),
        (2, reply(2, UNIT, 3, &[9]), pause_after_connect + 2 * pause_between_requests),
    ] {
        let block = holding(1);
        let (read, ()) = tokio::join!(link.read(&block), async {
            device.request().await;
            assert_eq!(begun.elapsed(), asked_at, "request {transaction}");
            device.send(&bytes).await;
        });
        assert_eq!(read.is_ok(), transaction != 1);
    }
    // A pause that is over by itself is not waited for again.
    sleep(pause_between_requests).await;
    let asleep = begun.elapsed();
    let block = holding(1);
    let (read, ()) = tokio::join!(link.read(&block), async {
        device.request().await;
        assert_eq!(begun.elapsed(), asleep);
        device.send(&reply(3, UNIT, 3, &[9])).await;
    });
    assert_eq!(read.unwrap(), [9]);
}

/// A link over a real socket, and the device's end of it.
async fn connected() -> (Link, tokio::net::TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut resolver = Resolver::new("localhost", listener.local_addr().unwrap().port());
    let patient = Duration::from_secs(30);
    let settings = Settings { connect_timeout: patient, response_timeout: patient, ..Settings::default() };
    let (link, accepted) = tokio::join!(Link::connect(&mut resolver, &settings), listener.accept());
    (link.unwrap(), accepted.unwrap().0)
}

#[tokio::test]
async fn over_a_real_socket_words_come_and_a_reset_is_told() {
    let (mut link, mut stream) = connected().await;
    let block = holding(1);
    let (read, ()) = tokio::join!(link.read(&block), async {
        stream.read_exact(&mut [0; 12]).await.unwrap();
        let bytes = reply(0, UNIT, 3, &[9]);
        stream.write_all(&bytes).await.unwrap();
    });
    assert_eq!(read.unwrap(), [9]);

    let (read, ()) = tokio::join!(link.read(&block), async {
        stream.read_exact(&mut [0; 12]).await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
    });
    let error = read.unwrap_err();
    assert!(matches!(error, ReadError::Closed { source: Some(_), .. }), "{error:?}");
    assert!(error.is_stale_connection());
}

#[tokio::test]
async fn closing_resets_the_connection() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut host = Resolver::new("127.0.0.1", listener.local_addr().unwrap().port());
    let link = Link::connect(&mut host, &Settings::default()).await.unwrap();
    let (mut device, _) = listener.accept().await.unwrap();
    drop(link);
    let error = device.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
