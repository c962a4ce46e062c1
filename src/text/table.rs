//! Rows of words as people and programs read them: aligned in columns, or with commas. Pure.

use crate::text::folded;
use crate::text::harmless::escaped;

/// What is between two columns.
const BETWEEN: &str = "  ";

/// No column is made narrower.
const LEAST: usize = 9;

/// A table: what its columns are called, and its rows.
#[derive(Debug, Clone, Default)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with these columns and no row yet.
    #[must_use]
    pub fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    /// One more row, with a cell for each column; what is in a cell stays in it.
    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().map(|cell| escaped(&cell).into_owned()).collect());
    }

    /// Whether it has no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// In columns, two spaces apart; nothing at the end of a line that is not seen.
    #[must_use]
    pub fn columns(&self) -> String {
        self.within(usize::MAX)
    }

    /// The same in lines of at most `width` characters: what is too long for its column goes on below, in the same column.
    #[must_use]
    pub fn within(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<Vec<String>> = row.iter().zip(&widths).map(|(cell, &width)| folded(cell, width)).collect();
            for line in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let part = |(cell, &width): (&Vec<String>, &usize)| {
                    format!("{:<width$}", cell.get(line).map_or("", String::as_str))
                };
                let parts: Vec<String> = cells.iter().zip(&widths).map(part).collect();
                text.push_str(parts.join(BETWEEN).trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// How wide each column may be. What there is too much of is taken from the widest ones: at first of those that can be
    /// folded between words, so that no address is cut where a word could go below.
    fn widths(&self, width: usize) -> Vec<usize> {
        let Some(heads) = self.rows.first() else { return Vec::new() };
        let length = |text: &str| text.chars().count();
        let mut widths = vec![0; heads.len()];
        let mut words = vec![LEAST; heads.len()];
        for row in &self.rows {
            for ((widest, longest), cell) in widths.iter_mut().zip(&mut words).zip(row) {
                *widest = (*widest).max(length(cell));
                *longest = (*longest).max(cell.split(' ').map(length).max().unwrap_or(0));
            }
        }
        let gaps = BETWEEN.len() * heads.len().saturating_sub(1);
        let least: Vec<usize> = heads.iter().map(|head| length(head).max(LEAST)).collect();
        for least in [words, least] {
            while widths.iter().sum::<usize>() + gaps > width {
                let shrinkable = (0..widths.len()).filter(|&column| widths[column] > least[column]);
                let Some(widest) = shrinkable.max_by_key(|&column| widths[column]) else { break };
                widths[widest] -= 1;
            }
        }
        widths
    }

    /// With commas, as RFC 4180 has it but for the ends of lines.
    #[must_use]
    pub fn csv(&self) -> String {
        let quoted = |cell: &String| {
            let special = cell.contains([',', '"', '\n', '\r']);
            if special { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.clone() }
        };
        self.rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E11: 80 columns are enough for a table, and every word of it is there.
    #[test]
    fn a_table_fits_and_loses_nothing() {
        let mut table = TextTable::new(&["device", "unit", "why"]);
        let why = "the device answers with exception 2 (illegal data address) to a request for 30775-30776";
        table.push(["meter1.example.net:1502".to_owned(), "1".to_owned(), why.to_owned()]);
        table.push(["x".repeat(70), "2".to_owned(), "short".to_owned()]);
        let text = table.within(80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(why.split(' ').all(|word| text.contains(word)), "words stay whole: {text}");
        let letters = |text: &str| text.chars().filter(|it| !it.is_whitespace()).collect::<Vec<_>>();
        let (mut found, mut all) = (letters(&text), letters(&table.columns()));
        found.sort_unstable();
        all.sort_unstable();
        assert_eq!(found, all);
        assert_eq!(table.within(200), table.columns());
    }

    #[test]
    fn a_table_is_aligned_and_its_commas_and_quotes_survive() {
        let mut table = TextTable::new(&["device", "why"]);
        assert!(table.is_empty());
        table.push(["größe".to_owned(), "said \"no\", twice".to_owned()]);
        table.push(["a longer name".to_owned(), String::new()]);
        assert_eq!(table.columns(), "device         why\ngröße          said \"no\", twice\na longer name\n");
        assert_eq!(table.csv(), "device,why\ngröße,\"said \"\"no\"\", twice\"\na longer name,\n");
    }
}
