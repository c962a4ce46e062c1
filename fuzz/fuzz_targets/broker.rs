//! Whatever a broker sends, in any pieces: no panic, no endless packet, and the same packets however they are cut.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pattoo_agent_modbustcpd::outputs::mqtt::Version;
use pattoo_agent_modbustcpd::outputs::mqtt::packet::{MOST_BYTES, NoPacket, Said, take};

/// The packets in `bytes`, which come in pieces of `size`, and how it ends.
fn packets(version: Version, bytes: &[u8], size: usize) -> (Vec<Said>, Result<(), NoPacket>) {
    let (mut input, mut packets) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(size) {
        input.extend_from_slice(piece);
        loop {
            match take(version, &mut input) {
                Ok(Some(said)) => packets.push(said),
                Ok(None) => break,
                Err(error) => return (packets, Err(error)),
            }
        }
        assert!(input.len() <= MOST_BYTES + size, "a packet that is waited for is no longer than any may be");
    }
    (packets, Ok(()))
}

fuzz_target!(|bytes: &[u8]| {
    for version in [Version::V3, Version::V5] {
        let whole = packets(version, bytes, bytes.len().max(1));
        assert_eq!(packets(version, bytes, 1), whole);
        assert_eq!(packets(version, bytes, 3), whole);
    }
});
