//! As much of HTTP/1.1 as the pattoo server speaks: one request with a content length, one answer, close.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Request line and headers, as sent.
#[derive(Debug, Clone)]
pub struct Head {
    /// `POST /path HTTP/1.1`.
    pub line: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

/// A request, or `None` when the other side closed before it was whole.
pub fn read_request(stream: &mut TcpStream) -> Option<(Head, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let line = read_line(&mut reader)?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let head = Head { line, headers };
    let length = head.header("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    Some(line.strip_suffix("\r\n")?.to_owned())
}

/// Sends a whole answer with the headers of the real server and one more, if any; whether it left.
pub fn answer(stream: &mut TcpStream, status: u16, extra: &str, body: &[u8]) -> bool {
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}", body.len()) };
    let lines = [
        format!("HTTP/1.1 {status} {}", reason(status)),
        "Server: gunicorn".to_owned(),
        format!("Date: {}", http_date(super::super::now_ms() / 1000)),
        "Connection: close".to_owned(),
        length,
        extra.to_owned(),
    ];
    let head: Vec<u8> =
        lines.iter().filter(|line| !line.is_empty()).flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
    stream.write_all(&[&head, &b"\r\n"[..], body].concat()).is_ok()
}

/// Announces 20 bytes and sends two.
pub fn cut_answer(stream: &mut TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 20\r\n\r\nOK").ok();
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "NO CONTENT",
        302 => "FOUND",
        404 => "NOT FOUND",
        500 => "INTERNAL SERVER ERROR",
        _ => "OTHER",
    }
}

/// RFC 9110, 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS[(days % 7) as usize];
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{weekday}, {:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1, MONTHS[month])
}
