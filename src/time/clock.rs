//! The one place that reads clocks. Every rule about time is elsewhere, and is told `now`.
//!
//! Two clocks: the wall clock, which people and time daemons set, and the time since boot
//! (`CLOCK_BOOTTIME`), which nobody sets and which goes on while the machine is suspended. A [`Moment`] is
//! one look at both; they are read within a millisecond of each other, because a process
//! stopped between the two looks would see a step that never was.

use std::fs;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::reading::Timestamp;

/// Readings of the two clocks further apart than this are taken again.
const TOGETHER: Duration = Duration::from_millis(1);

/// After so many tries a busy machine's best will have to do.
const TRIES: u32 = 5;

/// The variable by which systemd can hand in the boot id (`%b`); its sandbox may hide the file.
const BOOT_ID_VARIABLE: &str = "PATTOO_BOOT_ID";

/// Where the kernel tells the boot id.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// What both clocks show at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock's time.
    pub wall: Timestamp,
    /// The time since boot, suspension included.
    pub boot: Duration,
}

impl Moment {
    /// Whether the wall clock was set by `step` or more between this moment and `later`.
    #[must_use]
    pub fn has_stepped(self, later: Self, step: Duration) -> bool {
        let real = later.boot.saturating_sub(self.boot);
        let shown = later.wall.since(self.wall);
        let back = self.wall.since(later.wall);
        // Differences are never negative, so that each direction is looked at by itself. A clock that was set back lost
        // what it went back by, and what it should have gained.
        back + real.saturating_sub(shown) >= step || shown.saturating_sub(real) >= step
    }
}

/// What both clocks show now.
#[must_use]
pub fn now() -> Moment {
    let mut before = boot();
    let mut tries = 1;
    loop {
        let wall = wall();
        let boot = boot();
        if boot.saturating_sub(before) < TOGETHER || tries == TRIES {
            return Moment { wall, boot };
        }
        before = boot;
        tries += 1;
    }
}

/// The wall clock's time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "here it is asked")]
pub fn wall() -> Timestamp {
    SystemTime::now().into()
}

/// The time since boot, suspension included.
#[must_use]
pub fn boot() -> Duration {
    clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
}

/// The time since boot without suspension, as service managers compare it.
#[must_use]
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().unwrap_or_default()
}

/// Which boot of which machine this is, as 32 hex digits; `None` when the system does not tell.
#[must_use]
pub fn boot_id() -> Option<String> {
    let told = std::env::var(BOOT_ID_VARIABLE).ok().and_then(|text| hex32(&text));
    told.or_else(|| hex32(&fs::read_to_string(BOOT_ID_FILE).ok()?))
}

/// The 32 hex digits of an id, which the kernel writes with dashes and systemd without.
fn hex32(text: &str) -> Option<String> {
    let id = text.trim().replace('-', "").to_ascii_lowercase();
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_goes_on_and_the_wall_clock_is_told_with_it() {
        let first = now();
        let second = now();
        assert!(second.boot > first.boot);
        assert!(wall().since(first.wall) < Duration::from_secs(60));
    }

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_goes() {
        let moment = |wall, boot| Moment { wall: Timestamp::from_millis(wall), boot: Duration::from_millis(boot) };
        let step = Duration::from_secs(2);
        let cases = [
            (moment(60_000, 60_000), false),
            (moment(61_999, 60_000), false),
            (moment(62_000, 60_000), true),
            (moment(58_001, 60_000), false),
            (moment(58_000, 60_000), true),
            (moment(0, 1), false),
        ];
        for (later, stepped) in cases {
            assert_eq!(moment(0, 0).has_stepped(later, step), stepped, "{later:?}");
        }
        assert!(moment(10_000, 0).has_stepped(moment(8_000, 0), step));
        assert!(!moment(10_000, 0).has_stepped(moment(9_000, 500), step));
    }

    #[test]
    fn a_boot_id_is_the_same_however_it_is_written() {
        let id = "9f1b6a0c2d3e4f5061728394a5b6c7d8";
        let cases = [
            (id, Some(id)),
            ("9f1b6a0c-2d3e-4f50-6172-8394a5b6c7d8\n", Some(id)),
            ("9F1B6A0C-2D3E-4F50-6172-8394A5B6C7D8", Some(id)),
            ("", None),
            ("%b", None),
            ("../../../../etc/passwd0000000000", None),
            ("9f1b6a0c2d3e4f5061728394a5b6c7d", None),
        ];
        for (text, id) in cases {
            assert_eq!(hex32(text).as_deref(), id, "{text:?}");
        }
    }
}
