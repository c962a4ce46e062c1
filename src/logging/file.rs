//! The log file: opened with suspicion, opened again when it is moved away or removed.
//!
//! A link, a FIFO, a device, or a file with a second name is refused: what is written here must not end up
//! elsewhere. Before each line the path is looked at, so that a log that was rotated (`mv`), truncated in
//! place or deleted goes on under its name without anybody having to tell. A line that the disk took only
//! half of is ended before the next one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The name of the log file in `log_directory`.
pub const FILE_NAME: &str = "pattoo.log";

/// The name of the file for what a daemon says beside its log: the last words of a panic.
pub const DAEMON_FILE_NAME: &str = "pattoo-daemon.log";

/// The log file, open.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// The last line is there in part only.
    torn: bool,
}

impl LogFile {
    /// The log file in `directory`, both made when missing.
    ///
    /// # Errors
    /// When it cannot be made, or is no plain file of its own.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE_NAME);
        let file = open(&path)?;
        Ok(Self { path, file, torn: false })
    }

    /// Writes one line, its end included.
    ///
    /// # Errors
    /// When the disk takes none or only a part of it.
    pub fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if !self.is_at_its_path()
            // If not, the old one takes the line, wherever it is by now.
            && let Ok(file) = open(&self.path)
        {
            (self.file, self.torn) = (file, false);
        }
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        // Not write_all, which does not say how much of the line is there when it fails.
        let mut rest = line;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.torn = rest.len() < line.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn is_at_its_path(&self) -> bool {
        let (Ok(ours), Ok(there)) = (self.file.metadata(), fs::symlink_metadata(&self.path)) else { return false };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    }
}

/// A plain file of its own to append to, made when missing.
pub fn open(path: &Path) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    // Without NONBLOCK the opening of a FIFO waits for a reader.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file =
        OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        let what = format!("{} is no file of its own (links are not followed)", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory_with_log() -> (tempfile::TempDir, LogFile) {
        let directory = tempfile::tempdir().unwrap();
        let log = LogFile::open(&directory.path().join("log")).unwrap();
        (directory, log)
    }

    fn text(log: &LogFile) -> String {
        fs::read_to_string(&log.path).unwrap()
    }

    #[test]
    fn a_log_that_is_moved_or_removed_goes_on_under_its_name() {
        let (directory, mut log) = directory_with_log();
        log.write(b"one\n").unwrap();
        let rotated = directory.path().join("rotated");
        fs::rename(&log.path, &rotated).unwrap();
        log.write(b"two\n").unwrap();
        assert_eq!((fs::read_to_string(rotated).unwrap(), text(&log)), ("one\n".to_owned(), "two\n".to_owned()));
        fs::remove_dir_all(log.path.parent().unwrap()).unwrap();
        log.write(b"three\n").unwrap();
        assert_eq!(text(&log), "three\n");
        File::create(&log.path).unwrap();
        log.write(b"four\n").unwrap();
        assert_eq!(text(&log), "four\n", "truncated in place");
    }

    #[test]
    fn what_is_planted_as_the_log_is_refused_and_untouched() {
        let (directory, mut log) = directory_with_log();
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let plants: [fn(&Path, &Path); 3] = [
            |victim, path| std::os::unix::fs::symlink(victim, path).unwrap(),
            |victim, path| fs::hard_link(victim, path).unwrap(),
            |_, path| {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            },
        ];
        for plant in plants {
            fs::remove_file(&log.path).unwrap();
            plant(&victim, &log.path);
            LogFile::open(log.path.parent().unwrap()).unwrap_err();
            log.write(b"line\n").unwrap();
            assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        }
    }
}
