//! One line of text that must neither be lost nor change silently: kept in two copies side by side.
//!
//! The second one is named `<file>.copy`. A file that is gone is made again from the other one, which is told;
//! when both are there and say different things, or one of them is empty, a person must say which is right:
//! nothing is written then. A file without a copy, such as the original's, gets one.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::text_file::{self, TextFileError};

/// Why the text is not known.
#[derive(Debug, Error)]
pub enum MirroredError {
    /// A copy could not be read or made.
    #[error("one of two copies is not to be had")]
    File(#[from] TextFileError),
    /// The copies disagree.
    #[error(
        "{} holds {first:?}, but {} holds {second:?}; copy the right one over the wrong one",
        path.display(), copy(path).display()
    )]
    Unequal {
        /// The first copy.
        path: PathBuf,
        /// What it says, cut.
        first: String,
        /// What the second one says, cut.
        second: String,
    },
}

/// A text as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The text, as the first file has it.
    pub text: String,
    /// Whether the first file was gone and was made again.
    pub restored: bool,
}

/// Where the second copy of the file at `path` is.
#[must_use]
pub fn copy(path: &Path) -> PathBuf {
    let mut copy = path.as_os_str().to_owned();
    copy.push(".copy");
    copy.into()
}

/// What the file at `path` and its copy say, if either is there; afterwards both are.
///
/// # Errors
/// When they disagree, or cannot be read or made.
pub fn read(path: &Path) -> Result<Option<Found>, MirroredError> {
    let copy = copy(path);
    match (text_file::read(path)?, text_file::read(&copy)?) {
        (None, None) => Ok(None),
        (Some(text), None) => {
            // An empty file is not worth a copy; whoever asked refuses it.
            if !text.trim().is_empty() {
                text_file::write(&copy, &text)?;
            }
            Ok(Some(Found { text, restored: false }))
        }
        (None, Some(text)) => {
            text_file::write(path, &text)?;
            Ok(Some(Found { text, restored: true }))
        }
        // A newline that an editor has added is no difference.
        (Some(first), Some(second)) if first.trim() == second.trim() => {
            Ok(Some(Found { text: first, restored: false }))
        }
        (Some(first), Some(second)) => {
            // An agent id of 64 digits is shown whole.
            let cut = |text: String| text.trim().chars().take(70).collect();
            Err(MirroredError::Unequal { path: path.to_owned(), first: cut(first), second: cut(second) })
        }
    }
}

/// Makes `text` the content of the file at `path` and of its copy.
///
/// # Errors
/// When the system says no.
pub fn write(path: &Path, text: &str) -> Result<(), MirroredError> {
    // An end between the two leaves a file without a copy, and the next read makes it.
    text_file::write(path, text)?;
    Ok(text_file::write(&copy(path), text)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn both(path: &Path) -> [Option<String>; 2] {
        [path, &copy(path)].map(|path| fs::read_to_string(path).ok())
    }

    #[test]
    fn one_copy_is_enough_and_then_there_are_two_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, "text").unwrap();
        for (lost, restored) in [(path.clone(), true), (copy(&path), false)] {
            fs::remove_file(lost).unwrap();
            assert_eq!(read(&path).unwrap(), Some(Found { text: "text".to_owned(), restored }));
            assert_eq!(both(&path), ["text", "text"].map(|text| Some(text.to_owned())));
        }
    }

    #[test]
    fn copies_that_disagree_are_left_to_a_person() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        for (first, second) in [("one", "two"), ("", "two"), ("one", "\n")] {
            fs::write(&path, first).unwrap();
            fs::write(copy(&path), second).unwrap();
            assert!(matches!(read(&path), Err(MirroredError::Unequal { .. })), "{first:?} {second:?}");
            assert_eq!(both(&path), [first, second].map(|text| Some(text.to_owned())));
        }
        fs::write(&path, "two\n").unwrap();
        fs::write(copy(&path), "two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap().text, "two\n");
    }
}
