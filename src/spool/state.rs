//! What must outlive an emptied queue: the newest stamps ever used, and the counters of the books.
//!
//! One file, `state`: two lines, written in turn in place, each with a sequence number and its CRC-32C: a
//! power cut spoils one at most. Behind each is another one that says how many datapoints were on disk then; it
//! counts for the line with its sequence number only, and earlier releases neither read nor write it. Lost, damaged
//! or of a newer version the file is harmless: stamps then go on from the newest name on disk, counters from 0, and
//! what is on disk is counted as it is read. It is never the reason for anything to fail.

use std::os::fd::OwnedFd;

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io;

use super::Tally;
use super::directory::Directory;
use crate::reading::Timestamp;

const FILE: &str = "state";
const VERSION: &str = "pattoo-spool-1";
const LINE_BYTES: usize = 256;

/// How a line begins that says how much is on disk.
const ON_DISK: &str = "pattoo-spool-on-disk-1";

/// What is remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    /// The newest stamp of a batch.
    pub(super) newest: Timestamp,
    /// The newest stamp that a post may have had.
    pub(super) posted: Timestamp,
    /// The counters.
    pub(super) tally: Tally,
    /// Datapoints on disk; `None` when nobody wrote that down.
    pub(super) on_disk: Option<u64>,
}

/// The file, held open so that it can be written when there are no descriptors left.
#[derive(Debug, Default)]
pub(super) struct State {
    file: Option<OwnedFd>,
    sequence: u64,
}

impl State {
    /// Opens the file in `directory` and reads what it remembers, also from a disk that takes nothing.
    pub(super) fn open(directory: &Directory) -> (Self, Remembered) {
        let writable = open(directory, WRITING);
        let read_only = if writable.is_none() { open(directory, OFlags::RDONLY) } else { None };
        let (sequence, remembered) = writable.as_ref().or(read_only.as_ref()).map(read).unwrap_or_default();
        (Self { file: writable, sequence }, remembered)
    }

    /// Remembers, if the disk lets it.
    pub(super) fn save(&mut self, directory: &Directory, remembered: &Remembered) {
        if self.file.is_none() {
            // The disk may take it by now.
            self.file = open(directory, WRITING);
            let found = self.file.as_ref().map(read).unwrap_or_default();
            self.sequence = self.sequence.max(found.0);
        }
        self.sequence += 1;
        if let Some(file) = &self.file {
            io::pwrite(file, line(self.sequence, remembered).as_bytes(), self.place()).ok();
        }
        self.save_on_disk(remembered.tally.on_disk);
    }

    /// Remembers how many datapoints are on disk, if the disk lets it, and nothing else.
    pub(super) fn save_on_disk(&mut self, datapoints: u64) {
        if let Some(file) = &self.file {
            let line = sealed(&format!("{ON_DISK} {} {datapoints}", self.sequence));
            io::pwrite(file, line.as_bytes(), self.place() + 2 * LINE_BYTES as u64).ok();
        }
    }

    /// Where the line of this sequence number is.
    fn place(&self) -> u64 {
        (self.sequence % 2) * LINE_BYTES as u64
    }
}

const WRITING: OFlags = OFlags::RDWR.union(OFlags::CREATE);

fn open(directory: &Directory, access: OFlags) -> Option<OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o640);
    let file = fs::openat(directory.fd(), FILE, flags, mode).ok()?;
    let ours = fs::fstat(&file)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1);
    let settled = access == OFlags::RDONLY || fs::fchmod(&file, mode).is_ok();
    (ours && settled).then_some(file)
}

/// What a file remembers, and how many saves it has seen.
fn read(file: &OwnedFd) -> (u64, Remembered) {
    let mut text = [0; 4 * LINE_BYTES];
    let read = io::pread(file, &mut text, 0).unwrap_or(0);
    parse_all(text.get(..read).unwrap_or_default())
}

/// The stamps in a file of this content: the newest of a batch, the newest that a post may have had.
pub(super) fn remembered(text: &[u8]) -> [Timestamp; 2] {
    let (_, remembered) = parse_all(text);
    [remembered.newest, remembered.posted]
}

fn parse_all(text: &[u8]) -> (u64, Remembered) {
    let lines: Vec<&[u8]> = text.chunks(LINE_BYTES).take(4).collect();
    let newest = lines.iter().take(2).filter_map(|line| parse(line)).max_by_key(|&(sequence, _)| sequence);
    let (sequence, mut remembered) = newest.unwrap_or_default();
    let mut on_disk = lines.iter().skip(2).filter_map(|line| numbers(line, ON_DISK));
    remembered.on_disk = on_disk.find_map(|it| (it.len() == 2 && it[0] == sequence).then(|| it[1]));
    (sequence, remembered)
}

fn line(sequence: u64, Remembered { newest, posted, tally, .. }: &Remembered) -> String {
    sealed(&format!(
        "{VERSION} {sequence} {newest} {posted} {} {} {} {} {} {}",
        tally.delivered, tally.quarantined, tally.evicted_space, tally.evicted_size, tally.evicted_age, tally.vanished
    ))
}

/// With its CRC, as long as every line.
fn sealed(content: &str) -> String {
    let line = format!("{content} {:08x}", crc32c::crc32c(content.as_bytes()));
    format!("{line:<width$}\n", width = LINE_BYTES - 1)
}

/// The numbers of a whole line that begins with `version`.
fn numbers(line: &[u8], version: &str) -> Option<Vec<u64>> {
    let (content, crc) = std::str::from_utf8(line).ok()?.trim_end().rsplit_once(' ')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(content.as_bytes()) {
        return None;
    }
    content.strip_prefix(version)?.split_whitespace().map(|word| word.parse().ok()).collect()
}

fn parse(line: &[u8]) -> Option<(u64, Remembered)> {
    let [sequence, newest, posted, delivered, quarantined, evicted_space, evicted_size, evicted_age, vanished] =
        numbers(line, VERSION)?[..]
    else {
        return None;
    };
    let mut tally =
        Tally { delivered, quarantined, evicted_space, evicted_size, evicted_age, vanished, ..Tally::default() };
    // Whatever has left came in.
    tally.found = delivered.checked_add(quarantined)?.checked_add(tally.lost())?;
    let [newest, posted] = [newest, posted].map(Timestamp::from_millis);
    Some((sequence, Remembered { newest, posted, tally, on_disk: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(newest: u64) -> Remembered {
        let tally = Tally { delivered: u64::MAX / 2, vanished: 7, found: u64::MAX / 2 + 7, ..Tally::default() };
        Remembered {
            newest: Timestamp::from_millis(newest),
            posted: Timestamp::from_millis(3),
            tally: Tally { on_disk: newest, ..tally },
            on_disk: Some(newest),
        }
    }

    /// As it is read back: what was on disk is no counter.
    fn read_back(saved: Remembered) -> Remembered {
        Remembered { tally: Tally { on_disk: 0, ..saved.tally }, ..saved }
    }

    fn saved(times: u64) -> (tempfile::TempDir, Directory) {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path().join("spool")).unwrap();
        let (mut state, nothing) = State::open(&directory);
        assert_eq!(nothing, Remembered::default());
        for time in 1..=times {
            state.save(&directory, &remembered(time));
        }
        (root, directory)
    }

    #[test]
    fn what_was_saved_last_is_remembered() {
        for times in 1..4 {
            let (_root, directory) = saved(times);
            assert_eq!(State::open(&directory).1, read_back(remembered(times)));
        }
    }

    #[test]
    fn whatever_byte_is_damaged_one_of_the_two_last_saves_is_remembered() {
        let (_root, directory) = saved(4);
        let path = directory.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len(), 4 * LINE_BYTES);
        let [last, before] = [4, 3].map(remembered).map(read_back);
        let uncounted = [last, before].map(|it| Remembered { on_disk: None, ..it });
        let harmless = [last, before, uncounted[0], uncounted[1]];
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let (_, after) = State::open(&directory);
            assert!(harmless.contains(&after), "byte {place}: {after:?}");
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            let (_, after) = State::open(&directory);
            assert!(harmless.contains(&after) || after == Remembered::default(), "{length} bytes");
        }
    }

    #[test]
    fn what_was_on_disk_counts_only_when_nobody_saved_after_it() {
        let (_root, directory) = saved(2);
        let (mut state, _) = State::open(&directory);
        state.save_on_disk(230);
        let (_, after) = State::open(&directory);
        assert_eq!((after.on_disk, after.newest), (Some(230), Timestamp::from_millis(2)));
        // An earlier release saves its own line, and knows of no other.
        let file = open(&directory, WRITING).unwrap();
        io::pwrite(&file, line(3, &remembered(7)).as_bytes(), LINE_BYTES as u64).unwrap();
        let (_, after) = State::open(&directory);
        assert_eq!((after.on_disk, after.newest), (None, Timestamp::from_millis(7)));
    }

    #[test]
    fn a_file_that_could_only_be_read_at_the_start_is_written_once_it_can_be() {
        let (_root, directory) = saved(2);
        let file = open(&directory, OFlags::RDONLY).unwrap();
        assert_eq!(read(&file), (2, read_back(remembered(2))));
        for sequence in [0, 2] {
            State { file: None, sequence }.save(&directory, &remembered(9 + sequence));
            assert_eq!(State::open(&directory).1, read_back(remembered(9 + sequence)));
        }
    }

    #[test]
    fn a_line_always_has_its_length() {
        let most = Tally {
            delivered: u64::MAX,
            quarantined: u64::MAX,
            evicted_space: u64::MAX,
            evicted_size: u64::MAX,
            evicted_age: u64::MAX,
            vanished: u64::MAX,
            ..Tally::default()
        };
        let most = Remembered {
            newest: Timestamp::from_millis(u64::MAX),
            posted: Timestamp::from_millis(u64::MAX),
            tally: most,
            on_disk: None,
        };
        for remembered in [most, Remembered::default()] {
            assert_eq!(line(u64::MAX, &remembered).len(), LINE_BYTES);
        }
    }

    #[test]
    fn a_link_or_a_fifo_in_its_place_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let directory = Directory::open(root.path().join("spool")).unwrap();
        let path = directory.path().join(FILE);
        for plant in [
            &|| std::os::unix::fs::symlink(&victim, &path).unwrap() as (),
            &|| std::fs::hard_link(&victim, &path).unwrap(),
            &|| fs::mknodat(directory.fd(), FILE, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
        ] as [&dyn Fn(); 3]
        {
            plant();
            let (mut state, remembered) = State::open(&directory);
            assert_eq!(remembered, Remembered::default());
            state.save(&directory, &remembered);
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
            std::fs::remove_file(&path).unwrap();
        }
    }
}
