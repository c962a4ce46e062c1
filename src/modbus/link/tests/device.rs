//! The far end of a link: a device that does what the test says, byte by byte.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use crate::modbus::error::ReadError;
use crate::modbus::link::Link;
use crate::modbus::plan::Block;
use crate::modbus::register::{Table, UnitId};

/// The deadline of every link here.
pub const RESPONSE: Duration = Duration::from_secs(3);
/// The unit of every block here.
pub const UNIT: u8 = 7;

pub struct Device(DuplexStream);

/// A link to a device that nobody has talked to yet.
pub fn fresh() -> (Link, Device) {
    let (near, far) = duplex(64);
    (Link::over(near, RESPONSE), Device(far))
}

/// A link that has read one block, so that the next transaction id is 1.
pub async fn used() -> (Link, Device) {
    let (mut link, mut device) = fresh();
    let read = exchange(&mut link, &mut device, &reply(0, UNIT, 3, &[1])).await;
    assert_eq!(read.unwrap(), [1]);
    (link, device)
}

/// Reads one holding register while the device answers with `bytes`.
pub async fn exchange(link: &mut Link, device: &mut Device, bytes: &[u8]) -> Result<Vec<u16>, ReadError> {
    let block = holding(1);
    let (read, ()) = tokio::join!(link.read(&block), async {
        device.request().await;
        device.send(bytes).await;
    });
    read
}

impl Device {
    /// The next request.
    pub async fn request(&mut self) -> [u8; 12] {
        let mut bytes = [0; 12];
        self.0.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    /// Fails when the link has closed.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Sends `frame` over and over; how many bytes went before the link closed.
    pub async fn flood(&mut self, frame: &[u8]) -> usize {
        let mut sent = 0;
        while let Ok(written) = self.0.write(&frame[sent % frame.len()..]).await {
            sent += written;
        }
        sent
    }

    /// Asserts that `link` is closed for good, and that nothing more had been sent to the device.
    pub async fn assert_closed(&mut self, link: &mut Link, case: &str) {
        let again = link.read(&holding(1)).await;
        assert!(matches!(again, Err(ReadError::LinkClosed)), "{case}: {again:?}");
        let mut rest = Vec::new();
        let end = timeout(RESPONSE, self.0.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{case}: the connection is still open");
        assert_eq!(rest, [0; 0], "{case}");
    }
}

/// The first `quantity` holding registers.
pub fn holding(quantity: u16) -> Block {
    block(Table::HoldingRegisters, 0, quantity)
}

pub fn block(table: Table, address: u16, quantity: u16) -> Block {
    Block { unit: UnitId(UNIT), table, address, quantity, whole: false, points: Vec::new() }
}

/// A reply with a consistent header.
pub fn reply(transaction: u16, unit: u8, function: u8, words: &[u16]) -> Vec<u8> {
    let count = u8::try_from(words.len() * 2).unwrap();
    let mut pdu = vec![function, count];
    pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    frame(transaction, 0, u16::from(count) + 3, unit, &pdu)
}

pub fn exception(transaction: u16, unit: u8, function: u8, code: u8) -> Vec<u8> {
    frame(transaction, 0, 3, unit, &[function | 0x80, code])
}

/// Any frame, consistent or not.
pub fn frame(transaction: u16, protocol: u16, length: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [transaction, protocol, length] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.push(unit);
    bytes.extend(pdu);
    bytes
}
