//! Exit codes.
//!
//! Owns: the mapping from what a verb found to what the shell sees (0 to 4, design/cli.md).
//! Does not: decide what an error is; verbs say so by the constructor they use.
//! Invariant: a failure is printed once, on stderr, with its causes.

use std::fmt::Display;
use std::process::ExitCode;

use crate::{logging, output};

/// What a verb that ran to its end found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
#[allow(dead_code, reason = "each verb uses the answers it needs")]
pub enum Answer {
    /// Done, or the answer is yes: 0.
    Yes,
    /// The answer is no (blocked, unhealthy, not found), and the verb has printed it: 1.
    No,
    /// The exit code of a program that the verb ran for the caller.
    Code(u8),
}

/// Why a verb could not do its work. The message names the object, the field and the fix.
#[derive(Debug)]
pub enum Failure {
    /// Something asked for is not there or not well: 1.
    No(anyhow::Error),
    /// Usage or bad input: 2.
    BadInput(anyhow::Error),
    /// The agent, the laboratory or the store cannot be reached: 3.
    Unreachable(anyhow::Error),
    /// The kernel or the permissions do not allow it: 4.
    NotAllowed(anyhow::Error),
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.parts().1)
    }
}

/// What every verb returns.
pub type Outcome = Result<Answer, Failure>;

#[allow(dead_code, reason = "each verb uses the constructors it needs")]
impl Failure {
    pub fn no(error: impl Into<anyhow::Error>) -> Self {
        Self::No(error.into())
    }

    pub fn bad_input(error: impl Into<anyhow::Error>) -> Self {
        Self::BadInput(error.into())
    }

    pub fn unreachable(error: impl Into<anyhow::Error>) -> Self {
        Self::Unreachable(error.into())
    }

    pub fn not_allowed(error: impl Into<anyhow::Error>) -> Self {
        Self::NotAllowed(error.into())
    }

    /// The same failure, said in other words.
    pub fn with_words(self, words: String) -> Self {
        self.map(|_| anyhow::anyhow!(words))
    }

    /// The same failure, with more to say at its end.
    pub fn and_then_words(self, words: &str) -> Self {
        self.map(|error| anyhow::anyhow!("{error:#}; {words}"))
    }

    /// One failure for several: each on its line, in the class of the first.
    pub fn of_all(failures: Vec<Self>) -> Option<Self> {
        let words: Vec<String> = failures.iter().map(ToString::to_string).collect();
        Some(failures.into_iter().next()?.with_words(words.join("\ntortie: ")))
    }

    fn map(self, change: impl FnOnce(anyhow::Error) -> anyhow::Error) -> Self {
        match self {
            Self::No(error) => Self::No(change(error)),
            Self::BadInput(error) => Self::BadInput(change(error)),
            Self::Unreachable(error) => Self::Unreachable(change(error)),
            Self::NotAllowed(error) => Self::NotAllowed(change(error)),
        }
    }

    fn parts(&self) -> (u8, &anyhow::Error) {
        match self {
            Self::No(error) => (1, error),
            Self::BadInput(error) => (2, error),
            Self::Unreachable(error) => (3, error),
            Self::NotAllowed(error) => (4, error),
        }
    }
}

/// An error nobody classified: what the operating system refuses is a matter of kernel and permissions (4), the rest is
/// "no" (1).
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let refused = error.chain().any(|cause| {
            cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied)
        });
        if refused { Self::NotAllowed(error) } else { Self::No(error) }
    }
}

/// The laboratory sorts its failures the same way.
impl From<tortie_lab::Error> for Failure {
    fn from(error: tortie_lab::Error) -> Self {
        use tortie_lab::Error;
        match error {
            Error::No(cause) => Self::No(cause),
            Error::BadInput(cause) => Self::BadInput(cause),
            Error::Unreachable(cause) => Self::Unreachable(cause),
            Error::NotAllowed(cause) => Self::NotAllowed(cause),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::from(anyhow::Error::from(error))
    }
}

/// Prints a failure, if any, and turns the outcome into the process's exit code.
pub fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::Code(code)) => ExitCode::from(code),
        Err(failure) => {
            say(&failure);
            ExitCode::from(failure.parts().0)
        }
    }
}

/// Prints a failure that does not keep the rest from being done.
pub fn say(failure: &Failure) {
    let words = format!("{:#}", failure.parts().1);
    match logging::json_line(&words) {
        Some(line) => output::tell(line),
        None => output::tell(format_args!("tortie: {words}")),
    }
}

/// Help and version are answers (0); everything else the parser refuses is usage (2).
pub fn usage(refused: &clap::Error) -> ExitCode {
    // A closed stdout or stderr leaves nobody to tell.
    let _ = refused.print();
    if refused.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_operating_system_is_a_matter_of_permissions() {
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let error = anyhow::Error::from(refused).context("creating namespace tl-lab-node1");
        assert_eq!(Failure::from(error).parts().0, 4);
        assert_eq!(Failure::from(anyhow::anyhow!("no such pod")).parts().0, 1);
    }
}
