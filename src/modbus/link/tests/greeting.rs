//! Devices that say something before they are asked (A14), and devices that answer as another unit (A20).

use super::*;
use crate::modbus::link::Remark;

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_first_request_is_thrown_away_also_during_a_pause() {
    for pause in [Duration::ZERO, Duration::from_secs(2)] {
        for greeting in [b"+REG:4711\r\n".to_vec(), vec![0; 60], reply(0, UNIT, 3, &[1])] {
            let (link, mut device) = fresh();
            let mut link = link.paced(pause, Duration::ZERO);
            device.send(&greeting).await;
            let read = exchange(&mut link, &mut device, &reply(0, UNIT, 3, &[9])).await;
            assert_eq!(read.unwrap(), [9], "{pause:?} {greeting:?}");
            assert_eq!(link.take_remark(), Some(Remark::Greeting { bytes: greeting.len() }));
            let again = exchange(&mut link, &mut device, &reply(1, UNIT, 3, &[8])).await;
            assert_eq!((again.unwrap(), link.take_remark()), (vec![8], None));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_greeting_that_crosses_the_first_request_is_thrown_away_however_it_is_cut() {
    let right = reply(0, UNIT, 3, &[9]);
    for greeting in [&b"OK\n"[..], b"+REG:4711\r\n", &[0], &[0; 40], &[0xFF; 7], &[0, 0, 0, 1, 0]] {
        let bytes = [greeting, &right].concat();
        for cut in 1..bytes.len() {
            let (mut link, mut device) = fresh();
            let block = holding(1);
            let (read, ()) = tokio::join!(link.read(&block), async {
                device.request().await;
                device.send(&bytes[..cut]).await;
                sleep(TICK).await;
                device.send(&bytes[cut..]).await;
            });
            assert_eq!(read.unwrap(), [9], "{greeting:?} cut at {cut}");
            assert_eq!(link.take_remark(), Some(Remark::Greeting { bytes: greeting.len() }));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_greeting_without_end_is_refused_at_its_bound() {
    // Before the first request, and while it waits for its reply.
    for asked in [false, true] {
        let (near, far) = tokio::io::duplex(4 << 10);
        let (mut link, mut far) = (Link::over(near, RESPONSE), far);
        if !asked {
            far.write_all(&[b'x'; 1_025]).await.unwrap();
        }
        let block = holding(1);
        let (read, ()) = tokio::join!(link.read(&block), async {
            if asked {
                far.read_exact(&mut [0; 12]).await.unwrap();
                // The last two could be those of a frame.
                far.write_all(&[b'x'; 1_027]).await.unwrap();
            }
        });
        let error = read.unwrap_err();
        assert!(matches!(error, ReadError::Protocol(Violation::Flood { most: 1_024 })), "{asked}: {error:?}");
        assert!(matches!(link.read(&block).await, Err(ReadError::LinkClosed)));
        // The whole bound is free.
        let (near, mut far) = tokio::io::duplex(4 << 10);
        let mut link = Link::over(near, RESPONSE);
        far.write_all(&[b'x'; 1_024]).await.unwrap();
        let (read, ()) = tokio::join!(link.read(&block), async {
            far.read_exact(&mut [0; 12]).await.unwrap();
            far.write_all(&reply(0, UNIT, 3, &[9])).await.unwrap();
        });
        assert_eq!(read.unwrap(), [9]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_reply_that_looks_like_a_frame_is_no_greeting() {
    for (bytes, kind) in [
        (reply(1, UNIT, 3, &[9]), "transaction_id"),
        (reply(0, UNIT + 1, 3, &[9]), "unit"),
        (reply(0, UNIT, 4, &[9]), "function"),
        (reply(0, UNIT, 3, &[9, 9]), "length"),
    ] {
        let (mut link, mut device) = fresh();
        let error = exchange(&mut link, &mut device, &bytes).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        device.assert_closed(&mut link, kind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_answers_as_another_unit_is_read_only_if_that_is_set() {
    for unit in [0, 1, 255] {
        for ignored in [false, true] {
            let (near, mut far) = tokio::io::duplex(64);
            let reader = ReplyReader::new(near, Framing::Mbap).ignoring(Ignored { unit: ignored, transaction: false });
            let mut link = Link::with(reader, RESPONSE);
            let block = holding(1);
            for (transaction, bytes) in [(0, reply(0, unit, 3, &[9])), (1, exception(1, unit, 3, 2))] {
                let (read, ()) = tokio::join!(link.read(&block), async {
                    if ignored || transaction == 0 {
                        far.read_exact(&mut [0; 12]).await.unwrap();
                        far.write_all(&bytes).await.unwrap();
                    }
                });
                match (ignored, transaction, read) {
                    (true, 0, Ok(words)) => assert_eq!(words, [9]),
                    (true, 1, Err(error)) => assert_eq!(error.kind(), "exception"),
                    (false, 0, Err(ReadError::Protocol(violation))) => {
                        let said = format!(
                            "unit 7 expected, {unit} found; if it answers so whatever unit is asked, set ignore_unit_id"
                        );
                        assert_eq!(violation.to_string(), said);
                    }
                    (false, 1, Err(ReadError::LinkClosed)) => {}
                    (.., other) => panic!("{unit} {ignored} {transaction}: {other:?}"),
                }
            }
        }
    }
}
