//! What can go wrong between us and an API server.
//!
//! Owns: [`ClusterError`] and [`Refusal`]. Does not: decide what to do about it.
//! Invariant: names the server or the object, and says what to do next.

use serde_json::Value;
use std::time::Duration;
use thiserror::Error;

/// Why a request was not answered as asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterError {
    /// There is no usable configuration.
    #[error("{source_of}: {cause}; give a kubeconfig with --store kube:PATH, or set KUBECONFIG")]
    Configuration {
        /// Which file or variable.
        source_of: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No server answered.
    #[error("API server {server}: {cause}; check that it runs and that this node reaches it")]
    Unreachable {
        /// The last one that was tried.
        server: String,
        /// What happened.
        cause: String,
    },
    /// The server said no.
    #[error("{0}")]
    Refused(Refusal),
    /// It serves no such kind.
    #[error("{kind}: the API server does not serve it; install its CRD")]
    NotServed {
        /// `GlobalNetworkPolicy.projectcalico.org`.
        kind: String,
    },
    /// The answer is not what the API promises.
    #[error("API server: {what}: {cause}; look at the server's logs and at what is between it and this node")]
    Malformed {
        /// Which answer.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
    /// It is not the cluster it was; nothing it says is believed.
    #[error(
        "API server: it has lost its data or is another cluster's (kube-system was {known}, now {found}); \
         restore it, or, if this cluster is meant, stop the agent, remove its cache and start it again"
    )]
    OtherCluster {
        /// The uid of kube-system before.
        known: String,
        /// Now.
        found: String,
    },
    /// Our side has been closed.
    #[error("the connection to the API server is closed; open it again")]
    Closed,
}

/// A `Status` of the API server that is no success.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP status: 403, 404, 409, 410, 422, 429, 500 …
    pub code: u16,
    /// `NotFound`, `AlreadyExists`, `Conflict`, `Expired`, `Invalid`, `Forbidden` …
    pub reason: String,
    /// In the server's words.
    pub message: String,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Reads the body of an answer, or of an `ERROR` event of a watch; `code` is for bodies that are no
    /// `Status`, as a proxy gives them.
    pub(crate) fn read(code: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let status: Option<Value> = serde_json::from_slice(body).ok();
        let text =
            |name: &str| status.as_ref().and_then(|status| status.get(name)?.as_str()).map(str::to_owned);
        let given = status.as_ref().and_then(|status| u16::try_from(status.get("code")?.as_u64()?).ok());
        let suggested =
            status.as_ref().and_then(|status| status.pointer("/details/retryAfterSeconds")?.as_u64());
        let message = text("message").unwrap_or_else(|| {
            let body: String = String::from_utf8_lossy(body).trim().chars().take(200).collect();
            format!("the API server answered {code}: {body}")
        });
        Self {
            code: given.unwrap_or(code),
            reason: text("reason").unwrap_or_default(),
            message,
            retry_after: retry_after.or_else(|| suggested.map(Duration::from_secs)),
        }
    }
}

impl ClusterError {
    /// The HTTP status, if the server said no.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// There is no such object, or its kind is not served.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404) || matches!(self, Self::NotServed { .. })
    }

    /// There is one already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.reason == "AlreadyExists")
    }

    /// Somebody else changed it meanwhile, or owns the field.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409) && !self.is_already_exists()
    }

    /// The resource version is too old: list again.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// Whoever serves the kind does not answer: an API server behind the API server that is down.
    pub fn is_unavailable(&self) -> bool {
        self.code() == Some(503)
    }

    /// Who we are is not believed: credentials are to be read again.
    pub fn is_unauthorized(&self) -> bool {
        self.code() == Some(401)
    }

    /// We may not do that.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// There is no answer of a server: it could not be asked, or said nothing that can be understood.
    pub fn is_no_answer(&self) -> bool {
        self.code().is_none() && !self.is_not_found()
    }

    /// No server could be asked.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Closed)
    }
}
