//! How the demo speaks.
//!
//! Owns: headings, ticks and crosses, the grid, and the count of expectations that failed.
//! Does not: probe anything.
//! Invariant: what did not hold is printed as such and makes the demo fail.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Instant;

use crate::output::{Colour, paint, write};

/// The account of a demo.
#[derive(Debug)]
pub struct Story {
    started: Instant,
    chapter: usize,
    held: usize,
    failed: Vec<String>,
}

/// Who asks, who is asked, and what came of it.
#[derive(Debug, Default)]
pub struct Grid {
    rows: Vec<String>,
    columns: Vec<String>,
    cells: BTreeMap<(String, String), Cell>,
    surprises: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    all: usize,
    open: usize,
    wrong: usize,
}

impl Grid {
    /// A grid that keeps this order, whoever asks first.
    pub fn new(rows: Vec<String>, columns: Vec<String>) -> Self {
        Self { rows, columns, ..Self::default() }
    }

    /// Adds an attempt: `open` is what came out, `due` what should have, `how` more words about it.
    pub fn add(&mut self, from: &str, to: &str, open: bool, due: bool, how: &str) {
        for (list, name) in [(&mut self.rows, from), (&mut self.columns, to)] {
            if !list.iter().any(|known| known == name) {
                list.push(name.to_owned());
            }
        }
        let cell = self.cells.entry((from.to_owned(), to.to_owned())).or_default();
        cell.all += 1;
        cell.open += usize::from(open);
        if open != due {
            cell.wrong += 1;
            let should = if due { "open" } else { "closed" };
            self.surprises.push(format!("{from} → {to} should be {should}: {how}"));
        }
    }

    fn draw(&self) -> String {
        let width = self.rows.iter().map(|row| row.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for (depth, column) in self.columns.iter().enumerate() {
            text.push_str(&format!("   {:width$}  {}┌ {column}\n", "", "│ ".repeat(depth)));
        }
        for row in &self.rows {
            let cell = |column: &String| self.cells.get(&(row.clone(), column.clone())).copied();
            let marks: Vec<String> = self.columns.iter().map(|column| mark(cell(column))).collect();
            text.push_str(&format!("   {row:width$}  {}\n", marks.join(" ")));
        }
        text.push_str(&format!("   {:width$}  ● open   · closed   ! not as it should be\n", ""));
        text
    }
}

/// More surprises than this are counted, not told.
const TOLD: usize = 6;

impl Story {
    /// Begins.
    pub fn begin() -> Self {
        Self { started: Instant::now(), chapter: 0, held: 0, failed: Vec::new() }
    }

    /// A heading.
    pub fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let time = format!("{:.1} s", self.started.elapsed().as_secs_f64());
        say(&format!("\n{}  {}", paint(Colour::Bold, &format!("{}. {title}", self.chapter)), time));
    }

    /// Something that must hold.
    pub fn expect(&mut self, holds: bool, sentence: impl Display) {
        if holds {
            self.held += 1;
            say(&format!("   {} {sentence}", paint(Colour::Green, "✓")));
        } else {
            say(&format!("   {} {}", paint(Colour::Red, "✗"), paint(Colour::Red, &sentence.to_string())));
            self.failed.push(sentence.to_string());
        }
    }

    /// A part of the story; that it could be told at all must hold as well.
    pub fn part(&mut self, tell: impl FnOnce(&mut Self) -> tortie_lab::Result<()>) {
        if let Err(error) = tell(self) {
            self.expect(false, format!("this part could be played: {error}"));
        }
    }

    /// Shows a grid, and expects that nothing in it is wrong.
    pub fn grid(&mut self, grid: &Grid, sentence: &str) {
        say(&grid.draw());
        let all: usize = grid.cells.values().map(|cell| cell.all).sum();
        let wrong = grid.surprises.len();
        if wrong == 0 {
            return self.expect(all > 0, format!("{sentence}: {all} of {all} attempts as they should be"));
        }
        self.expect(false, format!("{sentence}: {wrong} of {all} attempts are not as they should be"));
        grid.surprises.iter().take(TOLD).for_each(|surprise| say(&format!("       {surprise}")));
        if wrong > TOLD {
            say(&format!("       and {} more", wrong - TOLD));
        }
    }

    /// The last words. Says whether everything held.
    pub fn end(self) -> bool {
        let took = self.started.elapsed().as_secs_f64();
        if self.failed.is_empty() {
            let text = format!("{} expectations held, in {took:.1} s.", self.held);
            say(&format!("\n{}", paint(Colour::Green, &text)));
            return true;
        }
        let text = format!("{} of {} expectations failed:", self.failed.len(), self.failed.len() + self.held);
        say(&format!("\n{}", paint(Colour::Red, &text)));
        for failed in &self.failed {
            say(&format!("   ✗ {failed}"));
        }
        false
    }
}

/// A line.
pub fn say(text: &str) {
    // A reader that went away has seen enough; the exit status still tells the truth.
    let _ = write(text);
}

fn mark(cell: Option<Cell>) -> String {
    match cell {
        None => " ".to_owned(),
        Some(cell) if cell.wrong > 0 => paint(Colour::Red, "!"),
        Some(cell) if cell.open == cell.all => paint(Colour::Green, "●"),
        Some(_) => paint(Colour::Yellow, "·"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_expectation_fails_the_demo() {
        let mut story = Story::begin();
        story.expect(true, "good");
        assert!(Story { failed: Vec::new(), ..story }.end());
        let mut story = Story::begin();
        story.expect(false, "bad");
        story.expect(true, "good");
        assert!(!story.end());
    }

    #[test]
    fn a_wrong_cell_shows_and_counts() {
        let mut grid = Grid::default();
        grid.add("a", "x", true, true, "");
        grid.add("a", "y", false, false, "");
        grid.add("b", "x", true, true, "");
        grid.add("b", "x", false, true, "timeout");
        let text = grid.draw();
        assert!(text.contains("a  ● ·") && text.contains("b  !"), "{text}");
        assert_eq!(grid.surprises, ["b → x should be open: timeout"]);
        let mut story = Story::begin();
        story.grid(&grid, "the grid");
        assert!(!story.end());
    }

    #[test]
    fn a_grid_in_which_nothing_was_tried_holds_nothing() {
        let mut story = Story::begin();
        story.grid(&Grid::default(), "the grid");
        assert!(!story.end());
    }
}
