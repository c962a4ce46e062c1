//! What an output has made of the last point tables. Around a reload readings of two tables alternate, so two are kept.

use crate::reading::points::{PointTable, TableId};

/// So many point tables are remembered.
const TABLES: usize = 2;

/// What was made of the tables used last, the last one first.
#[derive(Debug)]
pub(super) struct Recent<T>(Vec<(TableId, T)>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Recent<T> {
    /// What was made of `table`, by `make` if it is new.
    pub(super) fn of(&mut self, table: &PointTable, make: impl FnOnce() -> T) -> &mut T {
        if let Some(place) = self.0.iter().position(|(id, _)| *id == table.id()) {
            self.0[..=place].rotate_right(1);
        } else {
            self.0.truncate(TABLES - 1);
            self.0.insert(0, (table.id(), make()));
        }
        &mut self.0[0].1
    }

    /// Which tables are remembered, the last one first.
    #[cfg(test)]
    pub(super) fn ids(&self) -> Vec<TableId> {
        self.0.iter().map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reading::points::Builder;

    #[test]
    fn what_was_made_of_the_last_two_tables_is_kept() {
        let table = |hostname| Builder::new("4c", hostname, Duration::from_secs(1)).build();
        let [a, b, c] = ["a", "b", "c"].map(table);
        let (mut recent, mut made) = (Recent::default(), 0);
        let mut found = Vec::new();
        for table in [&a, &b, &a, &b, &c, &b, &a, &a] {
            found.push(*recent.of(table, || {
                made += 1;
                made
            }));
            assert_eq!(recent.ids().first(), Some(&table.id()));
        }
        assert_eq!(found, [1, 2, 1, 2, 3, 2, 4, 4]);
    }
}
