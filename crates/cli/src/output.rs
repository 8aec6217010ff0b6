//! Printing: columns for people, JSON and YAML for programs, names for pipes.
#![expect(clippy::print_stdout, reason = "a client prints")]

use serde_json::Value;
use troupe_resources::print::value_to_yaml;

use crate::args::Format;

/// A table: a heading and rows.
#[derive(Clone, Debug, Default)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns.
    #[must_use]
    pub fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; control characters become spaces.
    pub fn row(&mut self, cells: Vec<String>) {
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        self.rows.push(cells.iter().map(|cell| cell.chars().map(clean).collect()).collect());
    }

    /// Columns, two spaces apart, the last one ragged.
    #[must_use]
    pub fn render(&self) -> String {
        let heading: Vec<String> = self.heading.iter().map(|h| h.to_uppercase()).collect();
        let all = || std::iter::once(&heading).chain(&self.rows);
        let width = |column: usize| {
            all().filter_map(|row| row.get(column)).map(|c| display_width(c)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        let mut text = String::new();
        for row in all() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let pad = width.saturating_sub(display_width(cell)) + 2;
                line.extend(std::iter::repeat_n(' ', pad));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Columns that a text takes in a terminal: East Asian wide characters and emoji take two.
fn display_width(text: &str) -> usize {
    let wide = |c: char| {
        matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3
            | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6
            | 0x1f300..=0x1faff | 0x20000..=0x3fffd)
    };
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

/// Prints a value in the wanted format; `table` and `names` are used for theirs.
pub fn print(
    format: Format,
    value: &Value,
    table: impl FnOnce() -> String,
    names: impl FnOnce() -> Vec<String>,
) {
    print!("{}", text(format, value, table, names));
}

/// What [`print`] prints.
pub fn text(
    format: Format,
    value: &Value,
    table: impl FnOnce() -> String,
    names: impl FnOnce() -> Vec<String>,
) -> String {
    match format {
        Format::Table => table(),
        Format::Json => format!("{value:#}\n"),
        Format::Yaml => value_to_yaml(value),
        Format::Name => names().iter().map(|name| format!("{name}\n")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_in_chinese() {
        let mut table = Table::new(&["name", "status"]);
        table.row(vec!["翻译".into(), "ok".into()]);
        table.row(vec!["four".into(), "no\nnewline".into()]);
        assert_eq!(table.render(), "NAME  STATUS\n翻译  ok\nfour  no newline\n");
    }
}
