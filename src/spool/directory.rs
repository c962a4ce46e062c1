//! The directory of the queue, held by its descriptor: every file of it is reached relative to that.
//!
//! So nothing is ever written below a mount point whose disk was pulled, and no link planted on the way is
//! followed. A file is written whole or not at all. Opening a file neither follows a link nor waits for the
//! other end of a FIFO. One spare descriptor is kept, to be given up when the process has none left.

use std::cell::RefCell;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::SpoolError;
use super::disk::Stat;
use crate::files::lock::{TakeError, WriteLock};

/// What ends the name of a file that is being written.
pub(super) const TEMPORARY: &str = ".tmp";

/// The file whose lock is that of the directory.
const LOCK: &str = "lock";

/// No batch is larger, in bytes; the Python agent's may be larger than ours.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;

const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
const DIRECTORY_MODE: u32 = 0o750;

/// A directory that is held open.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    spare: RefCell<Option<OwnedFd>>,
}

impl Directory {
    /// Opens the directory at `path`, which is made when missing.
    pub(super) fn open(path: PathBuf) -> Result<Self, SpoolError> {
        make(&path)?;
        let fd = fs::open(&path, DIRECTORY_FLAGS, Mode::empty()).map_err(|errno| not_opened(&path, errno))?;
        Ok(Self { spare: RefCell::new(spare(&fd)), fd, path })
    }

    /// The directory at `path` if there is one.
    pub(super) fn open_existing(path: PathBuf) -> Result<Option<Self>, SpoolError> {
        match fs::open(&path, DIRECTORY_FLAGS, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { spare: RefCell::new(None), fd, path })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(not_opened(&path, errno)),
        }
    }

    /// Takes it for this process alone, for as long as the result lives.
    ///
    /// What decides is the write lock of a file within it. `flock` on the directory itself could be taken by whoever may
    /// look into it; it is taken as well, so that an earlier release, which asks for nothing else, stays out, and it is
    /// all there is on a disk that takes no file.
    pub(super) fn lock(&self) -> Result<Option<WriteLock>, SpoolError> {
        // Tried first, judged last: its refusal counts only where no lock file can be made.
        let flocked = fs::flock(&self.fd, fs::FlockOperation::NonBlockingLockExclusive);
        let path = || self.path.join(LOCK);
        match WriteLock::take(&self.fd, Path::new(LOCK)) {
            Ok(lock) => Ok(Some(lock)),
            Err(TakeError::Io(_, Errno::ROFS | Errno::NOSPC | Errno::DQUOT)) => match flocked {
                Ok(()) => Ok(None),
                Err(Errno::WOULDBLOCK) => Err(SpoolError::InUse { path: self.path.clone() }),
                Err(errno) => Err(failed("lock", &self.path)(errno)),
            },
            Err(TakeError::Held) => Err(SpoolError::InUse { path: self.path.clone() }),
            Err(TakeError::Io(action, errno)) => Err(failed(action, &path())(errno)),
            Err(source @ (TakeError::Reader(_) | TakeError::NotAFile)) => {
                Err(SpoolError::NoLock { path: path(), source })
            }
        }
    }

    /// If somebody has deleted it: a new one in its place, on the same disk only.
    pub(super) fn anew(&self) -> Result<Option<Self>, SpoolError> {
        let old = fs::fstat(&self.fd).map_err(failed("inspect", &self.path))?;
        if old.st_nlink > 0 {
            return Ok(None);
        }
        let new = Self::open(self.path.clone())?;
        // Another device is what lies below a mount point whose disk was pulled: readings written there would be out of
        // sight.
        let disk = fs::fstat(&new.fd).map_err(failed("inspect", &self.path))?.st_dev;
        if disk == old.st_dev { Ok(Some(new)) } else { Err(SpoolError::Moved { path: self.path.clone() }) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The directory `name` within it, made when missing.
    pub(super) fn subdirectory(&self, name: &str) -> Result<Self, SpoolError> {
        let path = self.path.join(name);
        match fs::mkdirat(&self.fd, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => {
                let mode = Mode::from_raw_mode(DIRECTORY_MODE);
                fs::chmodat(&self.fd, name, mode, AtFlags::empty()).map_err(failed("set the mode of", &path))?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("make", &path)(errno)),
        }
        let opened = fs::openat(&self.fd, name, DIRECTORY_FLAGS, Mode::empty());
        let fd = opened.map_err(|errno| not_opened(&path, errno))?;
        Ok(Self { fd, path, spare: RefCell::new(None) })
    }

    /// The directory `name` within it if there is one.
    pub(super) fn existing(&self, name: &str) -> Result<Option<Self>, SpoolError> {
        let path = self.path.join(name);
        match fs::openat(&self.fd, name, DIRECTORY_FLAGS, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path, spare: RefCell::new(None) })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(not_opened(&path, errno)),
        }
    }

    /// Whether somebody has deleted it.
    pub(super) fn is_deleted(&self) -> bool {
        fs::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Opens the regular file `name`, which has no other name if it is `access`ed for writing.
    pub(super) fn open_file(&self, name: &str, access: OFlags) -> Result<OwnedFd, SpoolError> {
        let path = self.path.join(name);
        let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match self.sparing(|| fs::openat(&self.fd, name, flags, FILE_MODE)) {
            Ok(file) => file,
            // A link, a socket, a directory.
            Err(Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::ISDIR) => return Err(SpoolError::NotAFile { path }),
            Err(errno) => return Err(failed("open", &path)(errno)),
        };
        let stat = fs::fstat(&file).map_err(failed("inspect", &path))?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        // A second name may be that of a file of somebody else: a hard link that was planted here.
        if !regular || (access.contains(OFlags::RDWR) && stat.st_nlink > 1) {
            return Err(SpoolError::NotAFile { path });
        }
        if access.contains(OFlags::CREATE) {
            // Whatever the umask says.
            fs::fchmod(&file, FILE_MODE).map_err(failed("set the mode of", &path))?;
        }
        self.keep_spare();
        Ok(file)
    }

    /// Calls `visit` with every name in it.
    pub(super) fn list(&self, mut visit: impl FnMut(&CStr) -> Result<(), SpoolError>) -> Result<(), SpoolError> {
        let open = || fs::Dir::read_from(&self.fd);
        for entry in self.sparing(open).map_err(failed("read", &self.path))? {
            visit(entry.map_err(failed("read", &self.path))?.file_name())?;
        }
        Ok(())
    }

    /// What is behind `name`.
    pub(super) fn stat(&self, name: &str) -> Result<Stat, SpoolError> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Stat::File(u64::try_from(stat.st_size).unwrap_or(0)))
            }
            Ok(_) => Ok(Stat::Other),
            Err(Errno::NOENT) => Ok(Stat::Missing),
            Err(errno) => Err(failed("inspect", &self.path.join(name))(errno)),
        }
    }

    pub(super) fn has(&self, name: &str) -> Result<bool, SpoolError> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("inspect", &self.path.join(name))(errno)),
        }
    }

    /// Makes `content` the content of `name`; after `Ok` it survives a crash of the machine. After `Err` it is the old or
    /// the new one, whole.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> Result<(), SpoolError> {
        let temporary = format!("{name}{TEMPORARY}");
        self.write_temporary(&temporary, content).inspect_err(|_| self.discard(&temporary))?;
        let renamed = fs::renameat(&self.fd, &*temporary, &self.fd, name);
        renamed.map_err(failed("rename", &self.path.join(&temporary))).inspect_err(|_| self.discard(&temporary))?;
        self.sync()
    }

    fn write_temporary(&self, name: &str, content: &[u8]) -> Result<(), SpoolError> {
        let path = self.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let create = || fs::openat(&self.fd, name, flags, FILE_MODE);
        let file = match self.sparing(create) {
            // What an attempt could not remove that failed as well.
            Err(Errno::EXIST) => {
                self.discard(name);
                self.sparing(create)
            }
            other => other,
        };
        let file = file.map_err(failed("make", &path))?;
        // Whatever the umask says.
        fs::fchmod(&file, FILE_MODE).map_err(failed("set the mode of", &path))?;
        let file = std::fs::File::from(file);
        file.write_all_at(content, 0).map_err(|source| SpoolError::Io {
            action: "write",
            path: path.clone(),
            source,
        })?;
        // Before the rename: else a power cut may leave the new name with nothing in it, and the old content is gone.
        fs::fsync(&file).map_err(failed("fsync", &path))?;
        drop(file);
        self.keep_spare();
        Ok(())
    }

    fn discard(&self, name: &str) {
        // If it stays, the next attempt to write this file removes it.
        fs::unlinkat(&self.fd, name, AtFlags::empty()).ok();
    }

    /// Removes `name`, which may be gone already.
    pub(super) fn remove(&self, name: &str) -> Result<(), SpoolError> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", &self.path.join(name))(errno)),
        }
    }

    /// Moves `name` to `other` under the name `to`; `false` when it is gone already.
    pub(super) fn move_to(&self, name: &CStr, other: &Self, to: &str) -> Result<bool, SpoolError> {
        match fs::renameat(&self.fd, name, &other.fd, to) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("move", &self.path.join(name.to_string_lossy().as_ref()))(errno)),
        }
    }

    pub(super) fn sync(&self) -> Result<(), SpoolError> {
        fs::fsync(&self.fd).map_err(failed("fsync", &self.path))
    }

    fn keep_spare(&self) {
        let mut held = self.spare.borrow_mut();
        if held.is_none() {
            *held = spare(&self.fd);
        }
    }

    /// `open`, once more without the spare descriptor when there is no other left.
    fn sparing<T>(&self, open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match open() {
            // The readings of a process that has used up its descriptors are still written: the spare one makes room
            // for one file.
            Err(Errno::MFILE | Errno::NFILE) if self.spare.borrow_mut().take().is_some() => open(),
            other => other,
        }
    }
}

const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

fn spare(fd: &OwnedFd) -> Option<OwnedFd> {
    fd.try_clone().ok()
}

/// Makes a directory of ours and its parents, for owner and group alone, whatever the umask says.
fn make(path: &Path) -> Result<(), SpoolError> {
    let io = |source| SpoolError::Io { action: "make", path: path.to_owned(), source };
    let create = || std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path);
    let made = match (create(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            make(parent)?;
            create()
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(DIRECTORY_MODE)).map_err(io),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io(error)),
    }
}

/// Why there is no directory to open at `path`.
fn not_opened(path: &Path, errno: Errno) -> SpoolError {
    if ![Errno::NOTDIR, Errno::LOOP].contains(&errno) {
        return failed("open", path)(errno);
    }
    let what = match std::fs::read_link(path) {
        Ok(target) => format!("a symbolic link to {}", target.display()),
        Err(_) => "a file".to_owned(),
    };
    SpoolError::NotADirectory { path: path.to_owned(), what }
}

pub(super) fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(Errno) -> SpoolError + 'a {
    move |errno| SpoolError::Io { action, path: path.to_owned(), source: io::Error::from(errno) }
}
