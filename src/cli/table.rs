//! Columns of text.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use super::output::printable;

const HEAD: Style = Style::new().bold();

/// One field of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Text whose colour says how things are: good, so-so, or bad.
    pub fn rated(text: impl AsRef<str>) -> Self {
        let mut cell = Self::from(text.as_ref());
        cell.style = match text.as_ref() {
            "ready" | "closed" | "running" => AnsiColor::Green.on_default(),
            "probing" | "half-open" | "restarting" => AnsiColor::Yellow.on_default(),
            "resting" | "open" | "disabled" | "abandoned" => AnsiColor::Red.on_default(),
            _ => Style::new(),
        };
        cell
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        let text = printable(text.as_ref()).replace(['\n', '\t'], " ");
        Self {
            text,
            style: Style::new(),
        }
    }
}

/// Rows under their headings, every column as wide as its widest field; nothing if there are no rows.
pub fn table<const N: usize>(heads: [&str; N], rows: &[[Cell; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let width = |text: &str| text.chars().count();
    let widths: [usize; N] = std::array::from_fn(|column| {
        let fields = rows.iter().map(|row| width(&row[column].text));
        fields.fold(width(heads[column]), usize::max)
    });
    let head = heads.map(|text| Cell {
        text: text.to_owned(),
        style: HEAD,
    });
    let mut lines = String::new();
    for row in std::iter::once(&head).chain(rows) {
        for (column, Cell { text, style }) in row.iter().enumerate() {
            let last = column + 1 == N;
            let padding = if last {
                0
            } else {
                widths[column] - width(text) + 2
            };
            // Writing to a string cannot fail.
            let _ = write!(lines, "{style}{text}{style:#}{:padding$}", "");
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_field() {
        let rows = [
            [Cell::from("ä"), Cell::from("x")],
            [Cell::from("long"), Cell::from("a\nb")],
        ];
        let plain = anstream::adapter::strip_str(&table(["id", "why"], &rows)).to_string();
        assert_eq!(plain, "id    why\nä     x\nlong  a b\n");
        assert_eq!(table(["id"], &[]), "");
    }
}
