//! Translates gRPC status codes to errors.

use std::error::Error as _;
use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::Error;
use crate::v1::PlayError;

const DEFAULT_RETRY: Duration = Duration::from_secs(1);
// Upper limit of timeouts, within the range of the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
// Part of gRPC's message for an oversized message. That status has no details.
const SIZE_REFUSAL: &str = "larger than max";

/// The target and the timeout of a call, for error messages.
#[derive(Clone, Debug)]
pub struct Call {
    /// HOST:PORT.
    pub target: String,
    /// The timeout that it was given.
    pub timeout: Duration,
}

/// Returns the deadline that is a timeout from now.
pub(crate) fn after(time: Duration) -> Instant {
    Instant::now() + time.min(LONGEST)
}

impl Call {
    pub(crate) fn late(&self) -> Error {
        Error::DeadlineExceeded(format!(
            "no answer from {} within {:?}; is it the right address? If the server is just slow, allow a longer timeout",
            self.target, self.timeout
        ))
    }

    pub(crate) fn ended(&self) -> Error {
        unavailable(format!("{} has ended the session; open a new one", self.target))
    }

    fn unreachable(&self, reason: &str) -> Error {
        unavailable(format!(
            "no policy server answers at {}; start one with: pgkeras serve, or check the address ({reason})",
            self.target
        ))
    }

    fn cut_off(&self) -> Error {
        unavailable(format!(
            "{} has cut the call off: it is stopping, or has far more calls than it can take; try again in a moment",
            self.target
        ))
    }
}

/// Returns the error for the status of a failed call.
pub fn error_of(status: &Status, call: &Call) -> Error {
    // A PlayError has the fields of a google.rpc.Status, under the same numbers.
    let details = PlayError::decode(status.details()).ok().filter(|error| error.code == status.code() as i32);
    if let Some(details) = details {
        return translate(&details.message, status);
    }
    let plain = Status::new(status.code(), status.message());
    if status.source().is_some() && status.code() != Code::OutOfRange {
        return call.unreachable(&reasons(status)); // not sent by the server: the connection has failed
    }
    match status.code() {
        Code::DeadlineExceeded => call.late(),
        Code::Cancelled => call.cut_off(),
        Code::Unavailable => call.unreachable(status.message()),
        _ => translate(status.message(), &plain),
    }
}

/// Returns the error for one message of a session.
pub(crate) fn error_of_step(error: &PlayError) -> Error {
    let details = error.encode_to_vec().into();
    translate(&error.message, &Status::with_details(Code::from_i32(error.code), error.message.clone(), details))
}

fn translate(message: &str, status: &Status) -> Error {
    // tonic clamps negative delays to zero, which counts as no delay.
    let retry_delay = || status.get_details_retry_info().and_then(|info| info.retry_delay);
    let retry_after = || retry_delay().filter(|delay| !delay.is_zero()).map(|delay| delay.min(LONGEST));
    let message = message.to_owned();
    match status.code() {
        Code::InvalidArgument => invalid_request(message, status),
        Code::NotFound => Error::PolicyNotFound(message),
        Code::FailedPrecondition => Error::SpecMismatch(message),
        Code::ResourceExhausted if message.contains(SIZE_REFUSAL) => too_large(message),
        Code::OutOfRange => too_large(message), // refused by this client
        Code::ResourceExhausted => Error::ServerBusy { message, retry_after: retry_after().unwrap_or(DEFAULT_RETRY) },
        Code::DeadlineExceeded => Error::DeadlineExceeded(message),
        // A stopping server ends the remaining calls with CANCELLED.
        Code::Unavailable | Code::Cancelled => Error::ServerUnavailable { message, retry_after: retry_after() },
        Code::Unauthenticated => Error::Unauthenticated(message),
        Code::Internal => Error::ServerFailed(message),
        code => Error::ServerFailed(format!("{code:?}: {message}")),
    }
}

fn unavailable(message: String) -> Error {
    Error::ServerUnavailable { message, retry_after: None }
}

fn too_large(message: String) -> Error {
    Error::invalid("message", "a message within the size limits that describe() states", message)
}

fn invalid_request(message: String, status: &Status) -> Error {
    let violations = status.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
    let Some(violation) = violations.into_iter().next() else {
        return Error::invalid("request", "one that the server accepts", message);
    };
    match status.get_details_error_info().filter(|info| info.domain == "pgkeras") {
        Some(mut info) => Error::InvalidRequest {
            field: violation.field,
            expected: info.metadata.remove("expected").unwrap_or_default(),
            got: info.metadata.remove("got").unwrap_or_default(),
        },
        None => Error::invalid(violation.field, "one that the server accepts", violation.description),
    }
}

/// Describes a connection failure with its chain of causes.
fn reasons(status: &Status) -> String {
    let mut words = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let reason = error.to_string();
        if !words.contains(&reason) {
            words = format!("{words}: {reason}");
        }
        source = error.source();
    }
    words
}
