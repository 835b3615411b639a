//! Printing answers.
//!
//! Owns: the formats of `-o`, writing to stdout, and to stderr.
//! Does not: know what is printed.
//! Invariant: a closed pipe (`| head`) ends the output quietly.

use std::fmt::Display;
use std::io::{self, Write as _};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for a person.
    #[default]
    // As calicoctl calls it.
    #[value(alias = "ps")]
    Table,
    /// More columns.
    Wide,
    /// One JSON document; a list is `{"items": […]}`.
    Json,
    /// The same as YAML.
    Yaml,
}

/// A list as every JSON answer spells it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Items<T> {
    pub items: Vec<T>,
}

/// Prints `value` as JSON or YAML, or the text `table(wide)` makes of it.
pub fn print<T: Serialize>(format: Format, value: &T, table: impl FnOnce(bool) -> String) -> io::Result<()> {
    match format {
        Format::Table => write(&table(false)),
        Format::Wide => write(&table(true)),
        Format::Json => write(&serde_json::to_string_pretty(value)?),
        Format::Yaml => write(&serde_saphyr::to_string(value).map_err(io::Error::other)?),
    }
}

/// Writes text to stdout, with one newline at its end.
pub fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{newline}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to stderr. Nobody may be there to read it, which changes nothing.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Columns for a person: as wide as their widest cell, two spaces between. A column without any cell is left
/// out. Cells may carry terminal colours.
pub fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &Vec<String>, at: usize| row.get(at).cloned().unwrap_or_default();
    let used: Vec<usize> = (0..header.len())
        .filter(|at| rows.is_empty() || rows.iter().any(|row| !cell(row, *at).is_empty()))
        .collect();
    let heading: Vec<String> = header.iter().map(|text| (*text).to_owned()).collect();
    let mut text = String::new();
    let width = |at: usize| {
        let all = rows.iter().chain([&heading]);
        all.map(|row| visible_width(&cell(row, at))).max().unwrap_or_default()
    };
    let widths: Vec<usize> = used.iter().map(|at| width(*at)).collect();
    for row in [&heading].into_iter().chain(rows) {
        let mut line = String::new();
        for (at, width) in used.iter().zip(&widths) {
            let content = cell(row, *at);
            let gap = width.saturating_sub(visible_width(&content)) + 2;
            line.push_str(&content);
            line.push_str(&" ".repeat(gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Characters that a terminal shows; colour sequences take no room.
pub fn visible_width(text: &str) -> usize {
    let mut width = 0;
    let mut in_sequence = false;
    for c in text.chars() {
        match (in_sequence, c) {
            (false, '\u{1b}') => in_sequence = true,
            (true, 'm') => in_sequence = false,
            (true, _) => {}
            (false, _) => width += 1,
        }
    }
    width
}

/// A colour of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Green,
    Red,
    Yellow,
    Bold,
}

/// Text in a colour, if stdout is a terminal and NO_COLOR is not set.
pub fn paint(colour: Colour, text: &str) -> String {
    use std::io::IsTerminal as _;
    if !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => "32",
        Colour::Red => "31",
        Colour::Yellow => "33",
        Colour::Bold => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_empty_ones_are_left_out() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text =
            columns(&["NAME", "ZONE", "NODE"], &[row(["a", "", "node1"]), row(["longer", "", "node2"])]);
        assert_eq!(text, "NAME    NODE\na       node1\nlonger  node2\n");
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(visible_width("\u{1b}[32m●\u{1b}[0m a"), 3);
    }
}
