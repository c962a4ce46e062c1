//! How many bytes go into one post: learned from what gets through. Pure.
//!
//! Halved when a post is too large or is not answered in time, an eighth more when one is delivered, never above what
//! was refused as too large. There are ways on which no large packet gets through, so it goes down to a single reading.

/// Nothing larger is ever posted: servers take a megabyte in well under a second.
const MOST_BYTES: usize = 1 << 20;

/// The most readings that are worth loading at once, however small they are.
const MOST_READINGS: usize = 20_000;

/// What one reading takes, until a post has shown it.
// About what a reading takes in a post of the pattoo output (166 bytes were measured).
const BYTES_OF_A_READING: usize = 170;

/// How large a post may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    room: usize,
    /// More than twice as much was refused as too large.
    ceiling: usize,
    bytes_of_a_reading: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { room: MOST_BYTES, ceiling: MOST_BYTES, bytes_of_a_reading: BYTES_OF_A_READING }
    }
}

impl Size {
    /// How many bytes the next post may have.
    pub(super) fn room(self) -> usize {
        self.room
    }

    /// How many readings make about one post.
    pub(super) fn readings(self) -> usize {
        (self.room / self.bytes_of_a_reading).clamp(1, MOST_READINGS)
    }

    /// A post of so many readings was made.
    pub(super) fn made(&mut self, bytes: usize, readings: usize) {
        self.bytes_of_a_reading = (bytes / readings.max(1)).max(1);
    }

    /// A post of `bytes` was delivered. A small one says nothing of how a large one would fare.
    pub(super) fn delivered(&mut self, bytes: usize) {
        if bytes < self.room / 2 {
            return;
        }
        // An eighth of a few bytes is nothing: with 256 more a room of one reading grows, too.
        self.room = (self.room + self.room / 8 + 256).min(self.ceiling);
    }

    /// A post of `bytes` was not answered in time.
    pub(super) fn late(&mut self, bytes: usize) {
        // The ceiling stays: a way that is slow now may be faster later.
        self.room = (bytes / 2).clamp(1, self.ceiling);
    }

    /// A post of `bytes` was refused as too large.
    pub(super) fn too_large(&mut self, bytes: usize) {
        self.ceiling = (bytes / 2).clamp(1, self.ceiling);
        self.room = self.ceiling;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn late_posts_shrink_and_grow_again() {
        let mut size = Size::default();
        size.late(1 << 20);
        size.late(1 << 19);
        assert_eq!(size.room(), 1 << 18);
        for _ in 0..12 {
            size.delivered(100);
            size.delivered(size.room());
        }
        assert_eq!(size.room(), 1 << 20);
    }

    #[test]
    fn nothing_grows_beyond_what_was_too_large() {
        let mut size = Size::default();
        size.too_large(100_000);
        (0..100).for_each(|_| size.delivered(1 << 20));
        assert_eq!(size.room(), 50_000);
        size.late(1);
        assert_eq!((size.room(), size.readings()), (1, 1));
    }

    proptest! {
        /// Whatever the way lets through, a post that fits is found within a few attempts.
        #[test]
        fn a_way_is_found(limit in 600_usize..2 << 20) {
            let mut size = Size::default();
            let mut attempts = 0;
            while size.room() > limit {
                size.too_large(size.room());
                attempts += 1;
            }
            prop_assert!(attempts <= 11);
            prop_assert!(size.room() >= limit.min(MOST_BYTES) / 2);
        }
    }
}
