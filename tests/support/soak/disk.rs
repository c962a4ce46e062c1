//! The disk below the agent's cache: a small file system of its own, if we may mount one, and what others do there.
//!
//! Mounted below the temporary directory of the run and unmounted when dropped. Without the right to mount,
//! the cache lies where everything lies, and a full or read-only disk cannot be tried.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastrand::Rng;

use crate::support::spool::{self, Batch};

/// Room for the backlog of the longest outage.
const SIZE: &str = "size=256m";

/// A mounted file system.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// A file system of its own at `path`, which is made.
    pub fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).expect("a directory in our own");
        let path_text = path.to_str().expect("a path in UTF-8");
        mount(&["-t", "tmpfs", "-o", SIZE, "soak", path_text]).then(|| Self { path: path.to_path_buf() })
    }

    /// Takes all room that is left, also what has become free since the last call.
    pub fn fill(&self) {
        let Ok(mut ballast) = OpenOptions::new().create(true).append(true).open(self.ballast()) else { return };
        for block in [1 << 20, 4 << 10, 1] {
            while ballast.write_all(&vec![0; block]).is_ok() {}
        }
    }

    /// Gives the room back.
    pub fn release(&self) {
        fs::remove_file(self.ballast()).expect("the ballast was there");
    }

    /// Remounts it; nobody may have a file open for writing.
    pub fn set_read_only(&self, read_only: bool) -> bool {
        let option = if read_only { "remount,ro" } else { "remount,rw" };
        mount(&["-o", option, self.path.to_str().expect("a path in UTF-8")])
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: an agent that a failed run left behind may still be in it.
        Command::new("umount").arg("-l").arg(&self.path).stderr(Stdio::null()).status().ok();
    }
}

fn mount(arguments: &[&str]) -> bool {
    let mounted = Command::new("mount").args(arguments).stderr(Stdio::null()).status();
    mounted.is_ok_and(|status| status.success())
}

/// The batches that wait, oldest first.
pub fn batches(spool: &Path) -> Vec<Batch> {
    spool::batches(spool, "pattoo")
}

/// A batch that was damaged while nobody was looking.
#[derive(Debug)]
pub struct Damaged {
    /// What it held, as a body.
    pub whole: Vec<u8>,
    /// Its bytes now.
    pub damaged: Vec<u8>,
}

/// Damages up to a third of the batches, at least one, and leaves a torn temporary file.
pub fn damage(spool: &Path, rng: &mut Rng) -> Vec<Damaged> {
    let mut batches = batches(spool);
    let last = batches.last().cloned();
    rng.shuffle(&mut batches);
    batches.truncate(batches.len().div_ceil(3));
    if !batches.is_empty() {
        fs::write(spool.join("log/0123456789abcdef.points.tmp"), b"{\"agent_id").expect("room for a few bytes");
    }
    let damage = |(place, batch): (usize, Batch)| {
        // The end of the log without a whole header is what a power cut leaves, and none of the agent's concern.
        let headers = usize::from(last.as_ref() != Some(&batch));
        damage_one(batch, place % (3 + headers), rng)
    };
    batches.into_iter().enumerate().map(damage).collect()
}

fn damage_one(batch: Batch, how: usize, rng: &mut Rng) -> Damaged {
    let mut segment = fs::read(&batch.segment).expect("a segment");
    let (header, readings) = segment[batch.bytes.clone()].split_at_mut(spool::HEADER);
    let place = rng.usize(..readings.len());
    match how {
        0 => readings[place] ^= 1 << rng.u8(..8),
        1 => readings[place..].iter_mut().for_each(|byte| *byte = !*byte),
        2 => readings.rotate_left(1),
        _ => header[rng.usize(..spool::HEADER)] ^= 1 << rng.u8(..8),
    }
    // As good as rotated.
    readings[0] ^= u8::from(how == 2) << 7;
    let damaged = segment[batch.bytes.clone()].to_vec();
    fs::write(&batch.segment, &segment).expect("room for as much as before");
    Damaged { whole: batch.body, damaged }
}

/// Something in the agent's directory that is not the agent's.
#[derive(Debug)]
pub struct Planted {
    path: PathBuf,
    what: Foreign,
}

#[derive(Debug)]
enum Foreign {
    File(Vec<u8>),
    Directory,
    Link(PathBuf),
    Fifo,
}

/// Plants files, a directory, a link and a FIFO among the batches, some of them under names of batches.
pub fn plant(spool: &Path, id: &str, outside: &Path, rng: &mut Rng) -> Vec<Planted> {
    let at = 1_700_000_000_000 + rng.u64(..1_000_000_000);
    let other = "f".repeat(64);
    fs::write(outside, b"{}").expect("a file outside");
    let things = [
        (format!("note {at}.txt"), Foreign::File(b"please keep".to_vec())),
        (format!("log/note {at}.segment"), Foreign::File(b"please keep this too".to_vec())),
        (format!("{at}_{other}.json"), Foreign::File(b"{}".to_vec())),
        (format!("{}_{id}.json", at + 1), Foreign::Directory),
        (format!("{}_{id}.json", at + 2), Foreign::Link(outside.to_path_buf())),
        (format!("{}_{id}.json", at + 3), Foreign::Fifo),
    ];
    let planted = things.map(|(name, what)| Planted { path: spool.join(name), what });
    for Planted { path, what } in &planted {
        match what {
            Foreign::File(bytes) => fs::write(path, bytes).expect("room for a few bytes"),
            Foreign::Directory => fs::create_dir(path).expect("room for a directory"),
            Foreign::Link(to) => std::os::unix::fs::symlink(to, path).expect("room for a link"),
            Foreign::Fifo => assert!(Command::new("mkfifo").arg(path).status().is_ok_and(|status| status.success())),
        }
    }
    planted.into()
}

impl Planted {
    /// Says what has become of it when it is not what it was.
    pub fn complaint(&self) -> Option<String> {
        let kind = fs::symlink_metadata(&self.path).map(|metadata| metadata.file_type());
        let same = match &self.what {
            Foreign::File(bytes) => fs::read(&self.path).is_ok_and(|now| now == *bytes),
            Foreign::Directory => kind.is_ok_and(|kind| kind.is_dir()),
            Foreign::Link(to) => fs::read_link(&self.path).is_ok_and(|now| now == *to) && to.exists(),
            Foreign::Fifo => kind.is_ok_and(|kind| kind.is_fifo()),
        };
        (!same).then(|| format!("{} is not what it was: {:?}", self.path.display(), self.what))
    }
}
