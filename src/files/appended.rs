//! A file of lines that is only ever appended to: mended after what failed, rotated by size.
//!
//! What is appended is durable when [`Appended::append`] returns. What fails half way is cut off again, at the next attempt if
//! need be, and what was appended last is not appended again: so each line is there once, whatever the disk does; only what was
//! under way at a kill or a power cut may be there twice. A line that such an end has left unfinished is cut off first.
//!
//! When the file would grow beyond its limit it is renamed to `<path>.1`, that one to `.2` and so on, and the last one goes.
//! A file that somebody else has renamed is noticed, because it is opened anew each time, and lines that somebody else has appended
//! stay. One of another form, such as another configuration has left, is renamed before anything is appended.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::regular;

/// An unfinished line is looked for in so many bytes at the end.
const LONGEST_LINE: u64 = 64 << 10;

/// Where to append, and what is known of it.
#[derive(Debug)]
pub struct Appended {
    path: PathBuf,
    header: String,
    /// What a file of this form begins with.
    opening: &'static str,
    max_bytes: u64,
    keep: u32,
    /// Its inode, and how long it was when we were done with it.
    end: Option<(u64, u64)>,
    /// Whether what is behind that may be a part of an attempt that failed.
    torn: bool,
    /// What was appended last.
    last: Bytes,
}

impl Appended {
    /// Nothing is opened yet. A new file begins with `header`, and whatever is of this form with `opening`; none grows beyond
    /// `max_bytes` unless what is appended is larger; `keep` older ones are kept.
    #[must_use]
    pub fn new(path: PathBuf, header: String, opening: &'static str, max_bytes: u64, keep: u32) -> Self {
        Self { path, header, opening, max_bytes, keep, end: None, torn: false, last: Bytes::new() }
    }

    /// Appends `lines`, which end with a line break.
    ///
    /// # Errors
    /// When they are not on disk; they can be appended again.
    pub fn append(&mut self, lines: Bytes) -> io::Result<()> {
        // No two posts are equal, because readings have their times: this is the last one once more.
        if self.last == lines {
            return Ok(());
        }
        let mut file = regular::open_or_make(&self.path)?;
        let mut length = self.mend(&mut file)?;
        let is_full = length > 0 && length + lines.len() as u64 > self.max_bytes;
        // Nobody could read a file of two forms.
        let is_other = length > 0 && !self.is_of_this_form(&mut file)?;
        if is_full || is_other {
            // That one did not have to go for being full: it is kept though none are.
            rotate(&self.path, if is_other { self.keep.max(1) } else { self.keep })?;
            file = regular::open_or_make(&self.path)?;
            length = self.mend(&mut file)?;
        }
        let header = if length == 0 { self.header.as_bytes() } else { b"" };
        let inode = file.metadata()?.ino();
        (self.end, self.torn) = (Some((inode, length)), true);
        file.write_all(header).and_then(|()| file.write_all(&lines)).and_then(|()| file.sync_data()).inspect_err(
            |_| {
                // If that fails too, the next attempt does it.
                file.set_len(length).ok();
            },
        )?;
        if length == 0 {
            // The name is durable too.
            let directory = self.path.parent().filter(|parent| *parent != Path::new(""));
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        (self.end, self.torn) = (Some((inode, length + (header.len() + lines.len()) as u64)), false);
        self.last = lines;
        Ok(())
    }

    /// Whether the file begins as ours do.
    fn is_of_this_form(&self, file: &mut File) -> io::Result<bool> {
        let inode = file.metadata()?.ino();
        // What we have begun, or looked at before.
        if self.end.is_some_and(|(known, _)| known == inode) {
            return Ok(true);
        }
        file.seek(SeekFrom::Start(0))?;
        let mut begin = Vec::new();
        file.take(self.opening.len() as u64).read_to_end(&mut begin)?;
        Ok(begin == self.opening.as_bytes())
    }

    /// Cuts off what is not whole; returns how long the file is then.
    fn mend(&self, file: &mut File) -> io::Result<u64> {
        let found = file.metadata()?;
        let whole = match self.end {
            Some((inode, end)) if inode == found.ino() && (self.torn || end == found.len()) => end.min(found.len()),
            // What is whole behind our end is of somebody else, who may need it.
            _ => whole_lines(file, found.len())?,
        };
        if whole < found.len() {
            file.set_len(whole)?;
        }
        Ok(whole)
    }
}

/// How long the file is without an unfinished line at its end.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let from = length.saturating_sub(LONGEST_LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(LONGEST_LINE).read_to_end(&mut end)?;
    match end.iter().rposition(|&byte| byte == b'\n') {
        Some(place) => Ok(from + place as u64 + 1),
        None if from == 0 => Ok(0),
        // Nothing is cut off: what does not consist of lines may be somebody else's file, named by mistake.
        None => Err(io::Error::new(ErrorKind::InvalidData, "it does not consist of lines")),
    }
}

/// Makes the file the first of the older ones.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    if keep == 0 {
        return fs::remove_file(path);
    }
    let older = |n: u32| {
        let mut name = OsString::from(path);
        if n > 0 {
            name.push(format!(".{n}"));
        }
        PathBuf::from(name)
    };
    // The oldest first, so that no rename replaces a file that is still to be kept. An end in between leaves a gap, and
    // the next rotation passes over it.
    for n in (0..keep).rev() {
        match fs::rename(older(n), older(n + 1)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::symlink;

    use super::*;

    fn appended(path: &Path, keep: u32) -> Appended {
        Appended::new(path.to_owned(), "head\n".to_owned(), "head", 20, keep)
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    /// What another program appends.
    fn add(path: &Path, text: &str) {
        OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_are_appended_once_under_one_header_with_mode_0640() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        let mut file = appended(&path, 3);
        for lines in ["one\n", "one\n", "two\n", "two\n"] {
            file.append(lines.into()).unwrap();
        }
        assert_eq!(text(&path), "head\none\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        appended(&path, 3).append("three\n".into()).unwrap();
        assert_eq!(text(&path), "head\none\ntwo\nthree\n");
    }

    #[test]
    fn files_rotate_by_size_and_the_last_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        for (keep, left) in [(2, vec!["a.csv", "a.csv.1", "a.csv.2"]), (0, vec!["a.csv"])] {
            let mut file = appended(&path, keep);
            for n in 0..5 {
                file.append(format!("{n}-{}\n", "x".repeat(20)).into()).unwrap();
            }
            let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, left);
            for (name, n) in left.iter().zip((0..5).rev()) {
                let text = text(&directory.path().join(name));
                assert!(text.starts_with(&format!("head\n{n}-")) && text.lines().count() == 2, "{text}");
                fs::remove_file(directory.path().join(name)).unwrap();
            }
        }
    }

    #[test]
    fn what_is_unfinished_is_cut_off_whoever_left_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        for (found, then) in [("head\none\ntw", "head\none\n3\n"), ("hea", "head\n3\n"), ("", "head\n3\n")] {
            fs::write(&path, found).unwrap();
            appended(&path, 0).append("3\n".into()).unwrap();
            assert_eq!(text(&path), then);
        }
        // An attempt of our own, half of which is on disk.
        let mut file = appended(&path, 0);
        file.append("4\n".into()).unwrap();
        add(&path, "5\n6");
        file.torn = true;
        file.append("5\n6\n".into()).unwrap();
        assert_eq!(text(&path), "head\n3\n4\n5\n6\n");
    }

    #[test]
    fn what_somebody_else_appends_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        let mut files = [(); 2].map(|()| Appended::new(path.clone(), "head\n".to_owned(), "head", 1_000, 0));
        for (n, lines) in ["1\n", "2\n", "3\n", "4\n"].into_iter().enumerate() {
            files[n % 2].append(lines.into()).unwrap();
        }
        add(&path, "theirs\nunfin");
        files[0].append("5\n".into()).unwrap();
        assert_eq!(text(&path), "head\n1\n2\n3\n4\ntheirs\n5\n");
    }

    #[test]
    fn a_file_that_was_renamed_or_emptied_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        let mut file = appended(&path, 0);
        file.append("1\n".into()).unwrap();
        fs::rename(&path, directory.path().join("b.csv")).unwrap();
        file.append("2\n".into()).unwrap();
        assert_eq!(text(&path), "head\n2\n");
        fs::write(&path, "").unwrap();
        file.append("3\n".into()).unwrap();
        assert_eq!(text(&path), "head\n3\n");
    }

    #[test]
    fn a_file_of_another_form_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let [path, aside] = ["a.csv", "a.csv.1"].map(|name| directory.path().join(name));
        for keep in [2, 0] {
            fs::write(&path, "{1}\n{2}\n").unwrap();
            let mut file = appended(&path, keep);
            file.append("3\n".into()).unwrap();
            file.append("4\n".into()).unwrap();
            assert_eq!((&*text(&path), &*text(&aside)), ("head\n3\n4\n", "{1}\n{2}\n"));
            // And back, without a header.
            let mut file = Appended::new(path.clone(), String::new(), "{", 1_000, keep);
            file.append("{5}\n".into()).unwrap();
            assert_eq!((&*text(&path), &*text(&aside)), ("{5}\n", "head\n3\n4\n"));
        }
    }

    #[test]
    fn what_is_no_file_of_lines_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        fs::write(place("binary"), vec![0; 100_000]).unwrap();
        symlink(place("elsewhere"), place("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, place("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in ["binary", "link", "pipe", "no/directory", "."].map(place) {
            assert!(appended(&path, 1).append("1\n".into()).is_err(), "{path:?}");
        }
        assert_eq!(fs::metadata(place("binary")).unwrap().len(), 100_000);
        assert!(!place("elsewhere").exists());
        // A device that is always full.
        assert!(appended(Path::new("/dev/full"), 1).append("1\n".into()).is_err());
    }
}
