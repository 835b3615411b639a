//! The budget file: one section for each program, one line for each number.

use crate::Statistics;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Growth beyond this share of the budget fails, in per cent.
const TOLERANCE_PERCENT: u64 = 10;
/// So many units more are never too much: small programs move in large steps.
const SLACK: u64 = 16;

/// What one program may cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// [`Statistics::verified`].
    pub verified: u64,
    /// [`Statistics::static_insns`].
    pub static_insns: u64,
    /// [`Statistics::stack`].
    pub stack: u64,
    /// Why it is what it is; whoever raises it says so here.
    pub reason: String,
}

/// One number over its budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Program.
    pub program: String,
    /// Which number.
    pub what: &'static str,
    /// Measured.
    pub is: u64,
    /// Budget.
    pub budget: u64,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// All programs together may take so long to load, in milliseconds.
    pub total_load_millis: u64,
    /// By program.
    pub programs: BTreeMap<String, Budget>,
}

impl Budgets {
    /// Reads the file's text; the error names line and fix.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut budgets = Self::default();
        let mut section = String::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
                budgets.programs.entry(section.clone()).or_default();
                continue;
            }
            budgets.assign(&section, line).ok_or_else(|| {
                format!("budgets.toml line {number}: {line:?} is not `name = number`; run `xtask budgets`")
            })?;
        }
        Ok(budgets)
    }

    fn assign(&mut self, section: &str, line: &str) -> Option<()> {
        let (key, value) = line.split_once('=')?;
        let (key, value) = (key.trim(), value.trim());
        let Some(budget) = self.programs.get_mut(section) else {
            self.total_load_millis = (key == "total_load_millis").then(|| value.parse().ok()).flatten()?;
            return Some(());
        };
        match key {
            "verified" => budget.verified = value.parse().ok()?,
            "static" => budget.static_insns = value.parse().ok()?,
            "stack" => budget.stack = value.parse().ok()?,
            "reason" => budget.reason = value.trim_matches('"').to_owned(),
            _ => return None,
        }
        Some(())
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# What each program may cost. Growth of more than a tenth fails the suite: make the program smaller, or\n\
             # run `xtask budgets` and write the reason beside the number that grew.\n\n",
        );
        // Writing into a string does not fail.
        let _ = writeln!(text, "total_load_millis = {}", self.total_load_millis);
        for (name, budget) in &self.programs {
            let Budget { verified, static_insns, stack, reason } = budget;
            let _ =
                write!(text, "\n[{name}]\nverified = {verified}\nstatic = {static_insns}\nstack = {stack}\n");
            if !reason.is_empty() {
                let _ = writeln!(text, "reason = \"{reason}\"");
            }
        }
        text
    }

    /// Takes measurements over as budgets; reasons stay.
    pub fn update(&mut self, measured: &BTreeMap<String, Statistics>) {
        self.programs.retain(|name, _| measured.contains_key(name));
        for (name, is) in measured {
            let budget = self.programs.entry(name.clone()).or_default();
            (budget.verified, budget.static_insns, budget.stack) = (is.verified, is.static_insns, is.stack);
        }
    }

    /// What is over its budget, or has none.
    pub fn excesses(&self, measured: &BTreeMap<String, Statistics>) -> Vec<Excess> {
        let none = Budget::default();
        let mut found = Vec::new();
        for (program, is) in measured {
            let budget = self.programs.get(program).unwrap_or(&none);
            let numbers = [
                ("verified instructions", is.verified, budget.verified),
                ("static instructions", is.static_insns, budget.static_insns),
                ("bytes of stack", is.stack, budget.stack),
            ];
            for (what, is, budget) in numbers {
                if is > allowed(budget) {
                    found.push(Excess { program: program.clone(), what, is, budget });
                }
            }
        }
        for name in self.programs.keys().filter(|name| !measured.contains_key(*name)) {
            found.push(Excess {
                program: name.clone(),
                what: "budget without such a program",
                is: 0,
                budget: 0,
            });
        }
        found
    }
}

fn allowed(budget: u64) -> u64 {
    match budget {
        0 => 0,
        _ => budget + (budget * TOLERANCE_PERCENT / 100).max(SLACK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(verified: u64, static_insns: u64, stack: u64) -> BTreeMap<String, Statistics> {
        let statistics = Statistics { verified, static_insns, stack, ..Statistics::default() };
        BTreeMap::from([("a_program".to_owned(), statistics)])
    }

    fn budgets(verified: u64, static_insns: u64, stack: u64) -> Budgets {
        let budget = Budget { verified, static_insns, stack, reason: "because".to_owned() };
        Budgets { total_load_millis: 1000, programs: BTreeMap::from([("a_program".to_owned(), budget)]) }
    }

    #[test]
    fn a_file_reads_back_as_it_was_written() {
        let budgets = budgets(1, 2, 3);
        assert_eq!(Budgets::parse(&budgets.render()), Ok(budgets));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error =
            Budgets::parse("total_load_millis = 1\n[a]\nverified = many\n").expect_err("not a number");
        assert!(error.contains("line 3") && error.contains("verified = many"), "{error}");
    }

    #[test]
    fn a_tenth_more_is_accepted_and_more_than_that_is_not() {
        let budgets = budgets(1000, 1000, 500);
        assert_eq!(budgets.excesses(&measured(1100, 1100, 550)), []);
        let over = budgets.excesses(&measured(1101, 1101, 551));
        assert_eq!(over.iter().map(|excess| excess.is).collect::<Vec<_>>(), [1101, 1101, 551]);
    }

    #[test]
    fn a_program_without_a_budget_and_a_budget_without_a_program_fail() {
        assert_eq!(Budgets::default().excesses(&measured(1, 1, 1)).len(), 3);
        assert_eq!(budgets(1, 1, 1).excesses(&BTreeMap::new()).len(), 1);
    }

    #[test]
    fn an_update_takes_the_numbers_and_keeps_the_reason() {
        let mut budgets = budgets(1, 2, 3);
        budgets.update(&measured(10, 20, 30));
        let budget = &budgets.programs["a_program"];
        assert_eq!((budget.verified, budget.reason.as_str()), (10, "because"));
    }
}
