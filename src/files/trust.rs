//! Whose a directory is, and who else can replace what is in it.
//!
//! A file is as safe as the least safe directory on the way to it: whoever may write to one of them can put another
//! directory, or a link, in the place of the next. Root's own programs therefore look at the whole way ([`check_way`])
//! and reach a directory without following a link ([`open_or_make`]). The sticky bit keeps others from replacing what is
//! ours, so `/tmp` is safe to pass through.

use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, Gid, Mode, OFlags, Uid};
use rustix::process::geteuid;
use thiserror::Error;

/// Why a directory is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Untrusted {
    /// It is somebody else's, who could replace everything in it.
    #[error("{} belongs to user {owner}, not to user {us} who runs this program; run chown on it", path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Everybody may replace everything in it.
    #[error("{} can be written by every user of this machine; run chmod o-w on it", .0.display())]
    Everybody(PathBuf),
    /// The group may replace everything in it.
    #[error("{} can be written by its group; if that is not meant, run chmod g-w on it", .0.display())]
    Group(PathBuf),
}

/// What is wrong with a directory of this owner and mode.
#[must_use]
pub fn judge(path: &Path, owner: u32, mode: u32, us: u32) -> Option<Untrusted> {
    const STICKY: u32 = 0o1000;
    let path = path.to_owned();
    // Of root only: the owner of a sticky directory may still rename what others have in it.
    if mode & STICKY != 0 && owner == 0 {
        return None;
    }
    if owner != us && owner != 0 {
        return Some(Untrusted::Owner { path, owner, us });
    }
    if mode & 0o002 != 0 {
        return Some(Untrusted::Everybody(path));
    }
    (mode & 0o020 != 0).then_some(Untrusted::Group(path))
}

/// Fails if somebody else could lead astray what is written to the directory at `path`, or to the first that is there
/// on the way to it. A group is not somebody else: who is in it was decided by root.
///
/// # Errors
/// When a directory on the way is not to be trusted, or cannot be looked at.
pub fn check_way(path: &Path) -> io::Result<()> {
    let (there, _) = as_far_as_there(path)?;
    let us = geteuid().as_raw();
    for directory in there.ancestors() {
        let metadata = std::fs::metadata(directory)?;
        match judge(directory, metadata.uid(), metadata.mode(), us) {
            Some(grave @ (Untrusted::Owner { .. } | Untrusted::Everybody(_))) => {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, grave));
            }
            Some(Untrusted::Group(_)) | None => {}
        }
    }
    Ok(())
}

/// What is wrong with a file or directory that other users may write to, if they may, with its mode and what to do.
///
/// A group of the owner's own number is the owner alone, as many systems set users up, and group 0 is root's.
#[must_use]
pub fn doubt(metadata: &Metadata) -> Option<String> {
    let (mode, us) = (metadata.mode() & 0o7777, geteuid().as_raw());
    if mode & 0o002 != 0 {
        return Some(format!("mode {mode:04o} lets every user of this machine write to it; run chmod o-w on it"));
    }
    let (owner, group) = (metadata.uid(), metadata.gid());
    if owner != 0 && owner != us {
        return Some(format!(
            "it belongs to user {owner} (mode {mode:04o}), who decides by that what user {us} does; run chown root on it"
        ));
    }
    (mode & 0o020 != 0 && group != 0 && group != owner)
        .then(|| format!("mode {mode:04o} lets group {group} write to it; if that is not meant, run chmod g-w on it"))
}

/// Who gets directories that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDirectory {
    /// The mode of the last one; those on the way are 0755.
    pub mode: u32,
    /// The owner of the last one; `None`, and those on the way: this process.
    pub owner: Option<(u32, u32)>,
}

/// Opens the directory at `path` and makes what is missing of it. A link on the way is followed only where it stands
/// now: whoever replaces a directory by one meanwhile is refused. A directory that is there keeps its owner and mode.
///
/// With `within`, what is behind a link that leads out of that directory is refused: an image is not the machine.
///
/// # Errors
/// When the system says no, or the way leads elsewhere.
pub fn open_or_make(path: &Path, new: NewDirectory, within: Option<&Path>) -> io::Result<OwnedFd> {
    let (there, missing) = as_far_as_there(path)?;
    if let Some(within) = within.map(as_far_as_there).transpose()?.map(|(within, _)| within)
        && !there.starts_with(&within)
    {
        let what = format!("{} leads to {}, out of {}", path.display(), there.display(), within.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut directory = fs::open("/", flags, Mode::empty())?;
    // Step by step, because O_NOFOLLOW is about the last name of a path only.
    for component in there.components() {
        if let Component::Normal(name) = component {
            directory = fs::openat(&directory, name, flags, Mode::empty())?;
        }
    }
    let last = missing.len();
    for (place, name) in (1..).zip(&missing) {
        // One that is there by now is an error: somebody else has made it. Ours is for nobody else until it is what it
        // shall be.
        fs::mkdirat(&directory, name, Mode::from_raw_mode(0o700))?;
        directory = fs::openat(&directory, name, flags, Mode::empty())?;
        let mode = if place == last { new.mode } else { 0o755 };
        if let Some((user, group)) = new.owner.filter(|_| place == last) {
            fs::fchown(&directory, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
    }
    Ok(directory)
}

/// The part of `path` that is there, without links, and the names that are missing.
fn as_far_as_there(path: &Path) -> io::Result<(PathBuf, Vec<PathBuf>)> {
    let path = std::path::absolute(path)?;
    let mut missing = Vec::new();
    for there in path.ancestors() {
        // Of the link itself: one that leads to nothing is there, and is not to be taken for a name that is free.
        match std::fs::symlink_metadata(there) {
            Ok(_) => {
                missing.reverse();
                return Ok((there.canonicalize()?, missing));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match there.file_name() {
                Some(name) => missing.push(PathBuf::from(name)),
                // What `..` means behind something that is missing nobody knows.
                None => return Err(io::ErrorKind::InvalidInput.into()),
            },
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    const OURS: NewDirectory = NewDirectory { mode: 0o750, owner: None };

    #[test]
    fn what_others_may_replace_is_not_trusted() {
        let path = Path::new("/x");
        let owner = |owner| Some(Untrusted::Owner { path: path.to_owned(), owner, us: 7 });
        let cases = [
            (7, 0o40_750, None),
            (0, 0o40_755, None),
            (0, 0o41_777, None),
            (7, 0o40_775, Some(Untrusted::Group(path.to_owned()))),
            (7, 0o40_777, Some(Untrusted::Everybody(path.to_owned()))),
            (0, 0o40_777, Some(Untrusted::Everybody(path.to_owned()))),
            (8, 0o40_700, owner(8)),
            (8, 0o41_777, owner(8)),
        ];
        for (owner, mode, expected) in cases {
            assert_eq!(judge(path, owner, mode, 7), expected, "{owner} {mode:o}");
        }
    }

    #[test]
    fn one_bad_directory_on_the_way_is_enough() {
        let root = tempfile::tempdir().unwrap();
        let way = root.path().join("a/b/c");
        std::fs::create_dir_all(&way).unwrap();
        check_way(&way.join("missing/too")).unwrap();
        let middle = root.path().join("a");
        std::fs::set_permissions(&middle, PermissionsExt::from_mode(0o777)).unwrap();
        assert!(check_way(&way).unwrap_err().to_string().contains("chmod o-w"));
        std::fs::set_permissions(&middle, PermissionsExt::from_mode(0o755)).unwrap();
        if geteuid().is_root() {
            chown(&middle, Some(65_534), None).unwrap();
            assert!(check_way(&way.join("missing")).unwrap_err().to_string().contains("65534"));
        }
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_there_keeps_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        drop(open_or_make(&path, OURS, None).unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o750, 0o755));
        drop(open_or_make(&path, NewDirectory { mode: 0o700, owner: None }, None).unwrap());
        assert_eq!(mode(&path), 0o750);
    }

    #[test]
    fn a_link_out_of_an_image_is_refused_and_one_within_it_followed() {
        let root = tempfile::tempdir().unwrap();
        let (image, outside) = (root.path().join("image"), root.path().join("outside"));
        std::fs::create_dir_all(image.join("usr/lib")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        symlink("usr/lib", image.join("lib")).unwrap();
        symlink(&outside, image.join("etc")).unwrap();
        symlink("/nowhere", image.join("dangling")).unwrap();
        drop(open_or_make(&image.join("lib/x"), OURS, Some(&image)).unwrap());
        assert!(image.join("usr/lib/x").is_dir());
        for name in ["etc/systemd", "etc", "dangling/x"] {
            open_or_make(&image.join(name), OURS, Some(&image)).unwrap_err();
        }
        assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0);
    }
}
