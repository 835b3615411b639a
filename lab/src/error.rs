//! What can go wrong in the laboratory, by what the caller can do about it.
//!
//! Owns: the four kinds, which the command line turns into its exit codes.
//! Does not: print.
//! Invariant: a refusal of the operating system is `NotAllowed` wherever it happened.

use std::fmt;
use std::io;

/// A failure of the laboratory.
#[derive(Debug)]
pub enum Error {
    /// What was asked for is not there, or not well.
    No(anyhow::Error),
    /// The request or its input cannot be meant.
    BadInput(anyhow::Error),
    /// The laboratory, an agent or a server does not answer.
    Unreachable(anyhow::Error),
    /// The kernel or the permissions do not allow it.
    NotAllowed(anyhow::Error),
}

/// What the laboratory's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The causes, without the kind.
    pub fn cause(&self) -> &anyhow::Error {
        match self {
            Self::No(error) | Self::BadInput(error) | Self::Unreachable(error) | Self::NotAllowed(error) => {
                error
            }
        }
    }

    /// The same kind with one more line of context in front.
    pub fn context(self, context: impl fmt::Display + Send + Sync + 'static) -> Self {
        match self {
            Self::No(error) => Self::No(error.context(context)),
            Self::BadInput(error) => Self::BadInput(error.context(context)),
            Self::Unreachable(error) => Self::Unreachable(error.context(context)),
            Self::NotAllowed(error) => Self::NotAllowed(error.context(context)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.cause())
    }
}

impl std::error::Error for Error {}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        let refused = error.chain().any(|cause| {
            matches!(cause.downcast_ref(), Some(nix::errno::Errno::EPERM | nix::errno::Errno::EACCES))
                || cause
                    .downcast_ref::<io::Error>()
                    .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        });
        if refused {
            Self::NotAllowed(error.context("the laboratory needs root (or CAP_SYS_ADMIN and CAP_NET_ADMIN)"))
        } else {
            Self::No(error)
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::from(anyhow::Error::from(error))
    }
}

/// `bad!("…")`: the input cannot be meant.
macro_rules! bad {
    ($($part:tt)*) => { $crate::error::Error::BadInput(anyhow::anyhow!($($part)*)) };
}
/// `no!("…")`: it is not there, or not well.
macro_rules! no {
    ($($part:tt)*) => { $crate::error::Error::No(anyhow::anyhow!($($part)*)) };
}
/// `silent!("…")`: it does not answer.
macro_rules! silent {
    ($($part:tt)*) => { $crate::error::Error::Unreachable(anyhow::anyhow!($($part)*)) };
}
pub(crate) use {bad, no, silent};

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_refusal_by_the_kernel_is_told_from_other_failures_through_any_context() {
        let refused = Err::<(), _>(nix::errno::Errno::EPERM).context("unsharing").unwrap_err();
        assert!(matches!(Error::from(refused), Error::NotAllowed(_)));
        assert!(matches!(Error::from(io::Error::other("odd")), Error::No(_)));
    }
}
