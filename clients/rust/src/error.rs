use std::time::Duration;

/// Why a call to a policy server failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is wrong.
    #[error("{field}: expected {expected}, got {got}")]
    InvalidRequest {
        /// Path of the wrong field in the request message, such as `observation.tensor.shape`.
        field: String,
        /// What would have been right.
        expected: String,
        /// What came.
        got: String,
    },
    /// No such policy, version or label; the message lists what there is.
    #[error("{0}")]
    PolicyNotFound(String),
    /// The policy's spec is not the one that the caller was written for.
    #[error("{0}")]
    SpecMismatch(String),
    /// The server is full.
    #[error("{message}; try again in {retry_after:?}")]
    ServerBusy {
        /// What is full.
        message: String,
        /// How long to wait before trying again.
        retry_after: Duration,
    },
    /// No answer came in time.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// Nobody answers at that address, or the server is starting or draining.
    #[error("{message}")]
    ServerUnavailable {
        /// Who does not answer, and why.
        message: String,
        /// How long to wait before trying again, if the server said so.
        retry_after: Option<Duration>,
    },
    /// The call's token is missing or unknown.
    #[error("{0}")]
    Unauthenticated(String),
    /// A defect of the server, or a call that it does not offer; its log has the reason.
    #[error("{0}")]
    ServerFailed(String),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Error::InvalidRequest { field: field.into(), expected: expected.into(), got: got.into() }
    }
}
