//! With transaction ids: requests that were given up on a connection that has brought nothing yet (A13).

use super::*;

/// Reads one holding register while the device does `act`; then whether the link may be asked again.
async fn read_while(link: &mut Link, act: impl Future<Output = ()>) -> (Result<Vec<u16>, ReadError>, bool) {
    let block = holding(1);
    let (read, ()) = tokio::join!(link.read(&block), act);
    (read, link.may_ask_again())
}

/// A link whose first `requests` were swallowed.
async fn swallowed(requests: u16) -> (Link, device::Device) {
    let (mut link, mut device) = fresh();
    for transaction in 0..requests {
        let (read, again) = read_while(&mut link, async {
            assert_eq!(device.request().await[..2], transaction.to_be_bytes());
        })
        .await;
        assert!(matches!(read, Err(ReadError::ResponseTimeout(RESPONSE))), "{read:?}");
        assert!(again, "{transaction}");
    }
    (link, device)
}

#[tokio::test(start_paused = true)]
async fn a_device_that_swallows_its_first_requests_is_read_over_the_same_connection() {
    let (mut link, mut device) = swallowed(3).await;
    let read = exchange(&mut link, &mut device, &reply(3, UNIT, 3, &[9])).await;
    assert_eq!(read.unwrap(), [9]);
    assert!(!link.may_ask_again());
    // From then on it is a connection like any other.
    let (read, again) = read_while(&mut link, async {
        device.request().await;
    })
    .await;
    assert!(matches!(read, Err(ReadError::ResponseTimeout(RESPONSE))) && !again, "{read:?}");
    device.assert_closed(&mut link, "used").await;
}

#[tokio::test(start_paused = true)]
async fn late_replies_are_never_taken_whenever_and_however_they_come() {
    let late = [reply(0, UNIT, 3, &[1]), exception(1, UNIT, 3, 6)].concat();
    let bytes = [&late[..], &reply(2, UNIT, 3, &[9])].concat();
    for before_request in [false, true] {
        for cut in 1..bytes.len() {
            let (mut link, mut device) = swallowed(2).await;
            if before_request {
                device.send(&bytes[..cut.min(late.len())]).await;
            }
            let (read, _) = read_while(&mut link, async {
                device.request().await;
                if !before_request {
                    device.send(&bytes[..cut]).await;
                    sleep(TICK).await;
                }
                device.send(&bytes[if before_request { cut.min(late.len()) } else { cut }..]).await;
            })
            .await;
            assert_eq!(read.unwrap(), [9], "{before_request} cut at {cut}");
            let next = exchange(&mut link, &mut device, &reply(3, UNIT, 3, &[8])).await;
            assert_eq!(next.unwrap(), [8], "{before_request} cut at {cut}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_reply_begins_before_its_request() {
    let right = reply(1, UNIT, 3, &[9]);
    for early in 1..right.len() {
        let (mut link, mut device) = fresh();
        let (read, again) = read_while(&mut link, async {
            device.request().await;
            device.send(&right[..early]).await;
        })
        .await;
        // What is a frame is refused at once, what might be part of a greeting is kept for the time being.
        assert!(read.is_err() && again == (early < 6), "{early}: {read:?}");
        if again {
            let read = exchange(&mut link, &mut device, &right[early..]).await;
            assert!(read.is_err(), "{early}: {read:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn late_replies_after_the_first_answer_are_skipped_too_each_once() {
    for when in ["behind the reply", "between", "with the next"] {
        let (mut link, mut device) = swallowed(1).await;
        let late = reply(0, UNIT, 3, &[1]);
        let right = reply(1, UNIT, 3, &[9]);
        let sent = if when == "behind the reply" { [&right[..], &late].concat() } else { right };
        assert_eq!(exchange(&mut link, &mut device, &sent).await.unwrap(), [9], "{when}");
        if when == "between" {
            device.send(&late).await;
        }
        let right = reply(2, UNIT, 3, &[8]);
        let sent = if when == "with the next" { [&late[..], &right].concat() } else { right };
        assert_eq!(exchange(&mut link, &mut device, &sent).await.unwrap(), [8], "{when}");
        // A second one is no late reply.
        device.send(&late).await;
        assert_eq!(link.read(&holding(1)).await.unwrap_err().kind(), "unasked", "{when}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_that_does_not_fit_its_own_request_closes_the_link() {
    for (bytes, kind) in [
        (reply(0, UNIT, 4, &[1]), "function"),
        (reply(0, UNIT + 1, 3, &[1]), "unit"),
        (reply(0, UNIT, 3, &[1, 1]), "length"),
        (reply(7, UNIT, 3, &[1]), "transaction_id"),
    ] {
        let (mut link, mut device) = swallowed(1).await;
        let error = exchange(&mut link, &mut device, &bytes).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        device.assert_closed(&mut link, kind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_answered_late_is_asked_anew_and_so_is_one_that_swallows_too_much() {
    let (mut link, mut device) = swallowed(1).await;
    let (read, again) = read_while(&mut link, async {
        device.request().await;
        device.send(&reply(0, UNIT, 3, &[1])).await;
    })
    .await;
    assert!(matches!(read, Err(ReadError::ResponseTimeout(_))) && !again, "{read:?}");
    device.assert_closed(&mut link, "late for ever").await;

    let (mut link, mut device) = swallowed(7).await;
    let (read, again) = read_while(&mut link, async {
        device.request().await;
    })
    .await;
    assert!(matches!(read, Err(ReadError::ResponseTimeout(_))) && !again, "{read:?}");
    device.assert_closed(&mut link, "silent for ever").await;
}

#[tokio::test(start_paused = true)]
async fn without_ids_nothing_is_asked_again_over_the_same_connection() {
    let ignored = Ignored { transaction: true, unit: false };
    for (framing, length) in [(Framing::Mbap, 12), (Framing::Rtu, 8)] {
        let (near, mut far) = tokio::io::duplex(64);
        let mut link = Link::with(ReplyReader::new(near, framing).ignoring(ignored), RESPONSE);
        assert!(link.is_without_ids());
        let (read, again) = read_while(&mut link, async {
            far.read_exact(&mut vec![0; length]).await.unwrap();
        })
        .await;
        assert!(matches!(read, Err(ReadError::ResponseTimeout(RESPONSE))) && !again, "{framing:?}: {read:?}");
        assert!(matches!(link.read(&holding(1)).await, Err(ReadError::LinkClosed)));
    }
    assert!(!fresh().0.is_without_ids());
}
