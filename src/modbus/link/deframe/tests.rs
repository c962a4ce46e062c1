//! The rule of the header, clause by clause.

use super::*;

const UNIT: u8 = 7;

fn frame(bytes: &[u8]) -> Vec<u8> {
    [bytes, &checksum(bytes).to_le_bytes()].concat()
}

/// A request for `quantity` registers of function 3 at 0x0400.
fn request(quantity: u8) -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    bytes[..REQUEST].copy_from_slice(&frame(&[UNIT, 3, 4, 0, 0, quantity]));
    bytes
}

fn search(quantity: u8) -> Search {
    Search::new(&request(quantity), Ignored::default(), 256)
}

/// What is taken of these bytes, and whether only once the line is silent.
fn taken(quantity: u8, bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut search = search(quantity);
    search.push(bytes);
    match search.advance() {
        Ok(Progress::Reply(reply)) => Some((reply, false)),
        Ok(Progress::Settling) => search.settled().map(|reply| (reply, true)),
        Ok(Progress::More) | Err(_) => None,
    }
}

fn ours() -> Vec<u8> {
    frame(&[UNIT, 3, 4, 1, 2, 3, 4])
}

#[test]
fn a_clean_reply_is_taken_at_once_and_one_behind_noise_once_the_line_is_silent() {
    let no = frame(&[UNIT, 0x83, 2]);
    for reply in [ours(), no] {
        assert_eq!(taken(2, &reply), Some((reply.clone(), false)));
        for noise in [&[0][..], &[UNIT], &[UNIT, 3, 4, 0], &[1, 3], &[9, 16, 0, 0]] {
            let expected = if noise == [UNIT, 3, 4, 0] { None } else { Some((reply.clone(), true)) };
            // The head of our reply in the noise: it could be ours with an image of a reply in it.
            let found = taken(2, &[noise, &reply].concat());
            assert!(found == expected || reply.len() == 9 && found.is_none(), "{noise:?}: {found:?}");
        }
    }
}

#[test]
fn other_frames_are_skipped_whole_with_all_that_is_in_them() {
    let image = [&[9, 3, 9][..], &ours()].concat();
    let no_image = [&[9, 3, 5][..], &frame(&[UNIT, 0x83, 2])].concat();
    let others = [
        frame(&[9, 3, 0, 0, 0, 5]),
        frame(&[9, 4, 4, 1, 2, 3, 4]),
        frame(&[UNIT, 4, 4, 1, 2, 3, 4]),
        frame(&[9, 0x83, 2]),
        frame(&[9, 6, 0, 1, 0, 2]),
        frame(&[&[9, 16, 0, 1, 0, 4, 9][..], &ours()].concat()),
        frame(&[9, 16, 0, 1, 0, 4]),
        frame(&image),
        frame(&no_image),
        frame(&[UNIT, 3, 6, 1, 2, 3, 4, 5, 6]),
    ];
    for other in &others {
        assert_eq!(taken(2, other), None, "{other:?}");
        let both = [&other[..], &ours()].concat();
        assert_eq!(taken(2, &both), Some((ours(), false)), "{other:?}");
        let noisy = [&[0xFE], &both[..]].concat();
        assert_eq!(taken(2, &noisy), Some((ours(), true)), "{other:?}");
        // Cut anywhere, nothing in it is taken before it is whole.
        for cut in 1..other.len() {
            let mut search = search(2);
            search.push(&other[..cut]);
            assert!(!matches!(search.advance(), Ok(Progress::Reply(_))), "{other:?} cut at {cut}");
            search.push(&other[cut..]);
            search.push(&ours());
            assert_eq!(search.advance(), Ok(Progress::Reply(ours())), "{other:?} cut at {cut}");
        }
    }
}

#[test]
fn an_image_of_a_reply_in_a_damaged_frame_is_not_taken() {
    for image in [ours(), frame(&[UNIT, 0x83, 2])] {
        for head in [&[9, 3, 20][..], &[9, 65, 0], &[UNIT, 4, 20], &[0]] {
            let mut damaged = frame(&[head, &image, &[1, 2, 3]].concat());
            *damaged.last_mut().unwrap() ^= 1;
            assert_eq!(taken(2, &damaged), None, "{damaged:?}");
            // Nor at its very end, before its checksum.
            let damaged = [head, &image, &[0xAB, 0xCD]].concat();
            assert_eq!(taken(2, &damaged), None, "{damaged:?}");
        }
    }
    // In our own reply, damaged: it is skipped whole.
    let image = frame(&[UNIT, 0x83, 2]);
    let mut damaged = frame(&[&[UNIT, 3, 8][..], &image, &[1, 2, 3]].concat());
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(taken(4, &damaged), None);
    let mut search = search(4);
    search.push(&damaged);
    assert_eq!(search.advance(), Ok(Progress::More));
    assert_eq!(search.fault(), Some(Violation::Checksum));
}

#[test]
fn once_another_client_has_asked_for_the_same_no_reply_is_taken() {
    for rival in [frame(&[UNIT, 3, 0, 0, 0, 2]), frame(&[UNIT, 3, 9, 9, 0, 50])] {
        for noise in [&[][..], &[0], &[9, 3, 200]] {
            let mut search = search(2);
            search.push(&[noise, &rival, &ours()].concat());
            if search.advance() == Ok(Progress::Settling) {
                assert_eq!(search.settled(), None, "{rival:?} {noise:?}");
            }
            if noise.len() < 2 {
                assert_eq!(search.fault(), Some(Violation::OtherClient { unit: UNIT }), "{rival:?} {noise:?}");
            }
        }
        assert!(ends_with_rival(&[&[1, 2], &rival[..]].concat(), &request(2), Ignored::default()));
    }
    let other = frame(&[9, 3, 0, 0, 0, 2]);
    assert!(!ends_with_rival(&other, &request(2), Ignored::default()));
    assert!(ends_with_rival(&other, &request(2), Ignored { unit: true, transaction: false }));
    assert!(!ends_with_rival(&other[1..], &request(2), Ignored::default()));
}

#[test]
fn an_echo_is_waited_for_as_long_as_it_may_be_one() {
    let request = request(2);
    let echo = &request[..REQUEST];
    let mut one_more = Vec::new();
    for length in 1..REQUEST {
        let mut search = search(2);
        search.push(&echo[..length]);
        assert_eq!(search.advance(), Ok(Progress::More), "{length}");
        assert_eq!((search.fault(), search.has_echo()), (None, false), "{length}");
        search.push(&echo[length..]);
        search.push(&ours());
        assert_eq!(search.advance(), Ok(Progress::Reply(ours())), "{length}");
        assert!(search.has_echo());
        one_more.push(length);
    }
    assert_eq!(one_more.len(), 7);
}

#[test]
fn why_there_is_no_reply_is_told_by_what_has_come() {
    let fault = |bytes: &[u8]| {
        let mut search = search(2);
        search.push(bytes);
        search.advance().unwrap();
        search.fault()
    };
    let found_unit = |found| Some(Violation::Unit { expected: UNIT, found });
    assert_eq!(fault(&[]), None);
    assert_eq!(fault(&ours()[..6]), None);
    assert_eq!(fault(&[0]), Some(Violation::NoFrame { bytes: 1 }));
    assert_eq!(fault(&frame(&[0, 3, 4, 1, 2, 3, 4])), found_unit(0));
    assert_eq!(fault(&frame(&[255, 0x83, 2])), found_unit(255));
    assert_eq!(fault(&frame(&[UNIT, 4, 4, 1, 2, 3, 4])), Some(Violation::Function { expected: 3, found: 4 }));
    assert_eq!(fault(&frame(&[UNIT, 3, 2, 1, 2])), Some(Violation::ByteCount { expected: 4, found: 2 }));
    // Others who talk to each other say nothing of our device.
    assert_eq!(fault(&[frame(&[9, 3, 0, 0, 0, 2]), frame(&[9, 3, 4, 1, 2, 3, 4])].concat()), None);
}

#[test]
fn there_is_an_end_of_what_is_looked_at() {
    let mut search = search(2);
    let other = frame(&[9, 4, 4, 1, 2, 3, 4]);
    let mut pushed = 0;
    let error = loop {
        search.push(&other);
        pushed += other.len();
        if let Err(error) = search.advance() {
            break error;
        }
    };
    assert_eq!((error, pushed / 1_024), (Violation::Flood { most: MOST_BYTES }, 16));
}
