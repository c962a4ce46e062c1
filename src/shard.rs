//! One of several agents that share one configuration: which devices are its own, and which stamps. Pure.
//!
//! A device belongs to the shard for which the SHA-256 of `endpoint/shard` is greatest (rendezvous hashing): every
//! shard finds that out by itself, and when their number changes from N to N + 1 only about one device in N + 1 moves.
//! Series do not change when a device moves: all shards are one agent to the server.
//!
//! The server tells posts of one agent apart by their stamps alone. So the stamps of shard K of N are those that leave
//! the remainder K when divided by N, and no two shards ever have one in common.
//!
//! Shards count from 0, as the ordinals of a `StatefulSet` do. 0/1 is the agent that has no shards.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::digest::sha256;
use crate::reading::Timestamp;

/// So many shards at most: each has a millisecond of its own in every second.
pub const MOST: u16 = 1_000;

/// Which of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u16,
    count: u16,
}

/// Why a text is no shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ShardError {
    /// Not two numbers.
    #[error("a shard is K/N, such as 0/4 for the first of four")]
    Form,
    /// Out of range.
    #[error("shards count from 0: the last of {0} is {last}/{0}", last = .0 - 1)]
    Index(u16),
    /// None, or too many.
    #[error("there may be 1 to {MOST} shards")]
    Count,
}

impl Default for Shard {
    /// All there is.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let (index, count) = text.trim().split_once('/').ok_or(ShardError::Form)?;
        let [index, count] = [index, count].map(|number| number.trim().parse::<u16>().map_err(|_| ShardError::Form));
        let (index, count) = (index?, count?);
        match count {
            1..=MOST if index < count => Ok(Self { index, count }),
            1..=MOST => Err(ShardError::Index(count)),
            _ => Err(ShardError::Count),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// Its number, from 0.
    #[must_use]
    pub fn index(self) -> u16 {
        self.index
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> u16 {
        self.count
    }

    /// Whether there are others.
    #[must_use]
    pub fn is_one_of_many(self) -> bool {
        self.count > 1
    }

    /// Whether the device at `endpoint`, as it is shown, is this shard's.
    #[must_use]
    pub fn owns(self, endpoint: &str) -> bool {
        // Not the hash modulo the count: when that changes, nearly every device would move. Here only those move that a
        // new shard takes, or one that is gone has left.
        let weight = |shard: u16| sha256(&[endpoint.as_bytes(), b"/", shard.to_string().as_bytes()]);
        self.count == 1 || (0..self.count).max_by_key(|&shard| weight(shard)) == Some(self.index)
    }

    /// The first of its stamps that is not before `at`.
    #[must_use]
    pub fn stamp(self, at: Timestamp) -> Timestamp {
        let (index, count) = (u64::from(self.index), u64::from(self.count));
        // With `count` added, for the remainder may be greater than the index.
        let ahead = (index + count - at.as_millis() % count) % count;
        Timestamp::from_millis(at.as_millis().saturating_add(ahead))
    }

    /// The end of the name of whatever a shard has to itself: nothing for the first, so that an agent becomes the
    /// first of many shards without moving anything.
    #[must_use]
    pub fn suffix(self) -> String {
        if self.index == 0 { String::new() } else { format!("shard_{}", self.index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: u16) -> impl Iterator<Item = Shard> {
        (0..count).map(move |index| Shard { index, count })
    }

    fn owner(endpoint: &str, count: u16) -> u16 {
        let owners: Vec<_> = shards(count).filter(|shard| shard.owns(endpoint)).collect();
        assert_eq!(owners.len(), 1, "{endpoint} of {count}");
        owners[0].index
    }

    #[test]
    fn a_shard_is_spelled_from_0_on() {
        let cases = [
            ("0/1", Ok(Shard::default())),
            (" 3/4\n", Ok(Shard { index: 3, count: 4 })),
            ("4/4", Err(ShardError::Index(4))),
            ("0/0", Err(ShardError::Count)),
            ("0/1001", Err(ShardError::Count)),
            ("1", Err(ShardError::Form)),
            ("pattoo-1/4", Err(ShardError::Form)),
            ("-1/4", Err(ShardError::Form)),
            ("", Err(ShardError::Form)),
        ];
        for (text, shard) in cases {
            assert_eq!(text.parse::<Shard>(), shard, "{text}");
        }
        assert_eq!(ShardError::Index(4).to_string(), "shards count from 0: the last of 4 is 3/4");
    }

    #[test]
    fn every_device_has_one_shard_about_as_many_as_the_others_and_moves_only_if_it_must() {
        let endpoints: Vec<_> = (0..1_000).map(|n| format!("10.0.{}.{}:502", n / 250, n % 250)).collect();
        for count in 1..9 {
            let mut moved = 0;
            let mut sizes = vec![0_usize; usize::from(count)];
            for endpoint in &endpoints {
                let (before, after) = (owner(endpoint, count), owner(endpoint, count + 1));
                sizes[usize::from(before)] += 1;
                assert!(before == after || after == count, "{endpoint} moves from an old shard to an old one");
                moved += usize::from(before != after);
            }
            let fair = endpoints.len() / usize::from(count);
            assert!(sizes.iter().all(|&size| size.abs_diff(fair) <= fair / 3), "{sizes:?}");
            assert!(moved.abs_diff(endpoints.len() / usize::from(count + 1)) < 100, "{moved} of 1000 to {}", count + 1);
        }
    }

    #[test]
    fn no_stamp_is_of_two_shards_and_none_is_far_from_where_it_should_be() {
        for count in [1, 2, 3, 7, 1_000] {
            for at in 1_700_000_000_000..1_700_000_000_020 {
                let at = Timestamp::from_millis(at);
                let mut stamps: Vec<_> = shards(count).map(|shard| shard.stamp(at)).collect();
                stamps.sort();
                stamps.dedup();
                assert_eq!(stamps.len(), usize::from(count));
                assert!(stamps[0] == at && stamps.iter().all(|stamp| stamp.since(at).as_millis() < count.into()));
            }
        }
    }
}
