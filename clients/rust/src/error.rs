use std::time::Duration;

/// The error of a failed call to a policy server.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the request is invalid.
    #[error("{field}: expected {expected}, got {got}")]
    InvalidRequest {
        /// Path of the invalid field in the request message, such as `observation.tensor.shape`.
        field: String,
        /// Description of a valid value.
        expected: String,
        /// Description of the value that was received.
        got: String,
    },
    /// The policy, version or label does not exist. The message lists those that do.
    #[error("{0}")]
    PolicyNotFound(String),
    /// The policy's spec has changed since the client described it.
    #[error("{0}")]
    SpecMismatch(String),
    /// The server is at capacity.
    #[error("{message}; try again in {retry_after:?}")]
    ServerBusy {
        /// Which limit was reached.
        message: String,
        /// How long to wait before a retry.
        retry_after: Duration,
    },
    /// No response arrived in time.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// No server responds at the address, or it is starting or draining.
    #[error("{message}")]
    ServerUnavailable {
        /// Which server does not respond, and why.
        message: String,
        /// How long the server asks to wait before a retry, if it says so.
        retry_after: Option<Duration>,
    },
    /// The call's token is missing or unknown to the server.
    #[error("{0}")]
    Unauthenticated(String),
    /// An internal error of the server (its log has the reason), or a call that it does not implement.
    #[error("{0}")]
    ServerFailed(String),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Error::InvalidRequest { field: field.into(), expected: expected.into(), got: got.into() }
    }
}
