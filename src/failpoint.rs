//! Places at which a test can make the process panic or hang, to see that the rest does what it promises.
//!
//! Off unless the variable [`VARIABLE`] names a file; then the place whose name the file holds panics when it is
//! next passed, once: the file is removed first. With `hang` before the name it never goes on instead. Builds without
//! debug assertions hold none of this.

use std::path::PathBuf;
use std::sync::LazyLock;

/// The variable that names the file.
pub const VARIABLE: &str = "PATTOO_FAIL_POINT";

/// Panics, or never returns, if a test asks for it at this place.
///
/// # Panics
/// That is what it is for.
pub fn pass(place: &str) {
    if cfg!(debug_assertions) {
        fail_if_asked(place);
    }
}

fn fail_if_asked(place: &str) {
    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    let Some(file) = FILE.as_ref() else { return };
    let asked = std::fs::read_to_string(file).unwrap_or_default();
    if asked.trim().strip_prefix("hang ") == Some(place) && std::fs::remove_file(file).is_ok() {
        loop {
            std::thread::park();
        }
    }
    let asked = asked.trim() == place;
    // Two lines, as the text of a panic may be.
    assert!(!(asked && std::fs::remove_file(file).is_ok()), "a test asked for it\nat {place}");
}
