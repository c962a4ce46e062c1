//! A serial port of this machine, opened as the line wants it. The only file that names `serial2_tokio`.
//!
//! Eight data bits, no flow control, as the specification has it. What had come before it was opened is nobody's
//! answer and dropped. Opening may take a while (USB), so that it has a thread that may block, and a limit.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serial2_tokio::{CharSize, FlowControl, SerialPort, Settings as Line, StopBits};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::modbus::error::ConnectError;
use crate::modbus::settings::{Parity, Settings};

/// Up to 19200 baud frames are 3.5 characters of 11 bits apart; above that always so long (2.5.1.1).
const SHORTEST_SILENCE: Duration = Duration::from_micros(1_750);

/// The port at `path`, within the connect timeout.
pub(super) async fn open(path: &str, settings: &Settings) -> Result<SerialPort, ConnectError> {
    let failed = |source| ConnectError::SerialPort { path: path.to_owned(), source };
    let (file, line) = (PathBuf::from(path), settings.clone());
    // After the timeout the thread goes on, for nothing can stop it. A port that it opens by then is dropped with its
    // result, and so is closed.
    let opening = spawn_blocking(move || {
        let port = SerialPort::open(file, |as_it_is| adjusted(as_it_is, &line))?;
        port.discard_buffers()?;
        Ok(port)
    });
    match timeout(settings.connect_timeout, opening).await {
        Ok(opened) => opened.unwrap_or_else(|died| Err(io::Error::other(died))).map_err(failed),
        Err(_elapsed) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

/// How long a line must be silent between two frames.
pub(super) fn silence(baud: u32) -> Duration {
    (Duration::from_secs(11) * 7 / 2 / baud.max(1)).max(SHORTEST_SILENCE)
}

fn adjusted(mut line: Line, settings: &Settings) -> io::Result<Line> {
    line.set_raw();
    line.set_baud_rate(settings.baud)?;
    line.set_char_size(CharSize::Bits8);
    line.set_flow_control(FlowControl::None);
    line.set_parity(match settings.parity {
        Parity::None => serial2_tokio::Parity::None,
        Parity::Even => serial2_tokio::Parity::Even,
        Parity::Odd => serial2_tokio::Parity::Odd,
    });
    line.set_stop_bits(if settings.stop_bits == 2 { StopBits::Two } else { StopBits::One });
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_far_apart_as_the_specification_wants() {
        let cases = [(1_200, 32_083), (9_600, 4_010), (19_200, 2_005), (115_200, 1_750)];
        for (baud, micros) in cases {
            assert_eq!(silence(baud).as_micros(), micros, "{baud}");
        }
    }

    #[tokio::test]
    async fn what_is_no_serial_port_is_told() {
        for path in ["/dev/null", "/dev/no-such-port", "/proc/self/status"] {
            let error = open(path, &Settings::default()).await.unwrap_err();
            assert_eq!(error.kind(), "serial_port", "{path}: {error:?}");
        }
    }
}
