//! Rows of words as people and programs read them: aligned in columns, or with commas. Pure.

use crate::text::harmless::escaped;

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
        let heads = self.rows.first().map_or(0, Vec::len);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..heads).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
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
