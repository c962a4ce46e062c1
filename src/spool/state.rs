//! The file `state` of earlier releases: the newest stamps that they used. It is read, never written.
//!
//! Two lines of 256 bytes, each with a sequence number and its CRC-32C, the greater number counts. Lost or damaged the file is
//! harmless: stamps then go on from the newest name on disk.

use crate::reading::Timestamp;

const VERSION: &str = "pattoo-spool-1";
const LINE_BYTES: usize = 256;

/// The stamps in a file of this content: the newest of a batch, the newest that a post may have had.
pub(super) fn remembered(text: &[u8]) -> [Timestamp; 2] {
    let newest = text.chunks(LINE_BYTES).take(2).filter_map(parse).max_by_key(|&(sequence, _)| sequence);
    newest.map_or_else(Default::default, |(_, stamps)| stamps)
}

fn parse(line: &[u8]) -> Option<(u64, [Timestamp; 2])> {
    let (content, crc) = std::str::from_utf8(line).ok()?.trim_end().rsplit_once(' ')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(content.as_bytes()) {
        return None;
    }
    let mut numbers = content.strip_prefix(VERSION)?.split_whitespace().map_while(|word| word.parse().ok());
    let [sequence, newest, posted] = [numbers.next()?, numbers.next()?, numbers.next()?];
    Some((sequence, [newest, posted].map(Timestamp::from_millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sequence: u64, newest: u64, posted: u64) -> String {
        let content = format!("{VERSION} {sequence} {newest} {posted} 1 2 3 4 5 6");
        let line = format!("{content} {:08x}", crc32c::crc32c(content.as_bytes()));
        format!("{line:<width$}\n", width = LINE_BYTES - 1)
    }

    #[test]
    fn the_newer_line_that_is_whole_counts() {
        let stamps = |newest, posted| [newest, posted].map(Timestamp::from_millis);
        let (old, new) = (line(7, 100, 90), line(8, 200, 190));
        let torn = new.replace("200", "300");
        let cases = [
            (format!("{old}{new}"), stamps(200, 190)),
            (format!("{new}{old}"), stamps(200, 190)),
            (format!("{old}{torn}"), stamps(100, 90)),
            (torn, stamps(0, 0)),
            ("\u{0}nonsense".to_owned(), stamps(0, 0)),
            (String::new(), stamps(0, 0)),
        ];
        for (text, expected) in cases {
            assert_eq!(remembered(text.as_bytes()), expected, "{text:?}");
        }
    }
}
