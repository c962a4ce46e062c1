//! Percentiles, as far as the table needs them.

use std::fmt;

/// How values are spread.
pub struct Spread {
    /// How many there are.
    pub count: usize,
    /// The median.
    pub p50: u64,
    /// Not reached by all but one in a hundred.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
}

impl Spread {
    /// Of these values.
    pub fn of(values: impl Iterator<Item = u64>) -> Self {
        let mut values: Vec<u64> = values.collect();
        values.sort_unstable();
        let at =
            |percent: usize| values.get(values.len() * percent / 100).or(values.last()).copied().unwrap_or_default();
        Self { count: values.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {} ms p99 {} ms max {} ms", self.p50, self.p99, self.max)
    }
}
