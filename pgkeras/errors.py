"""Every exception that pgkeras raises on purpose.

::

    PgkerasError
    ├── ConfigError                a setting, preset or option is wrong
    ├── MissingExtraError          a package is not installed; the message has the pip command
    ├── EnvironmentSetupError      an environment id is unknown or its environment cannot be created
    ├── EnvironmentStepError       an environment crashed or returned an invalid result
    ├── UnsupportedSpaceError      an observation or action space is not supported
    ├── TrainingError              training cannot continue: a loss or gradient is not finite
    ├── RunError                   a run directory is missing, incomplete or unwritable
    ├── BundleError                an exported policy on disk
    │   ├── BundleNotFoundError    there is no bundle at that path
    │   ├── CorruptBundleError     files are missing, changed or unreadable
    │   ├── NewerBundleError       written by a newer pgkeras, in a schema unknown to this one
    │   └── ExportError            a policy could not be exported; nothing was published
    ├── EngineError                an engine cannot load or run a policy
    ├── HubError                   the Hugging Face Hub refuses a request, or does not respond
    ├── BenchError                 a measurement has no result, or it cannot be written
    └── PolicyServiceError         a call to a policy server failed
        ├── InvalidRequestError    the request is invalid: names the field, the expected and the received value
        ├── PolicyNotFoundError    no such policy, version or label
        ├── SpecMismatchError      the policy's spec is not the one the caller was written for
        ├── ServerBusyError        the server is full; ``retry_after`` says how many seconds to wait
        ├── DeadlineExceededError  no response in time
        ├── ServerUnavailableError no server responds at that address, or the server is draining
        │   └── TlsError           the connection could not be secured; the message says what to do
        ├── UnauthenticatedError   the call's token is missing or unknown
        └── ServerFailedError      a defect of the server, or a call that it does not offer

Subclasses of :class:`PolicyServiceError` are raised in the server, sent as gRPC status codes (the table is in
:mod:`pgkeras.protocol.status`) and raised again in the client. Only :class:`TlsError` is raised by the client alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "BenchError",
    "BundleError",
    "BundleNotFoundError",
    "ConfigError",
    "CorruptBundleError",
    "DeadlineExceededError",
    "EngineError",
    "EnvironmentSetupError",
    "EnvironmentStepError",
    "ExportError",
    "HubError",
    "InvalidRequestError",
    "MissingExtraError",
    "NewerBundleError",
    "PgkerasError",
    "PolicyNotFoundError",
    "PolicyServiceError",
    "RunError",
    "ServerBusyError",
    "ServerFailedError",
    "ServerUnavailableError",
    "SpecMismatchError",
    "TlsError",
    "TrainingError",
    "UnauthenticatedError",
    "UnsupportedSpaceError",
    "extra_needed",
]


class PgkerasError(Exception):
    """Base of every exception that pgkeras raises on purpose."""


class ConfigError(PgkerasError, ValueError):
    """A setting, preset or option is wrong; the message names it and the allowed values."""


class MissingExtraError(PgkerasError, ImportError):
    """A package that this feature needs is not installed.

    Args:
        package: The import name of the missing package.
        extra: The pgkeras extra that installs it.
        purpose: The purpose, which completes the sentence "... is needed to".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{package} is needed to {purpose}; install it with: pip install "pgkeras[{extra}]"')
        self.package = package
        self.extra = extra


@contextmanager
def extra_needed(extra: str, purpose: str) -> Iterator[None]:
    """Context that converts a failed import into a MissingExtraError.

    Args:
        extra: The pgkeras extra that installs the package.
        purpose: The purpose, which completes the sentence "... is needed to".

    Raises:
        MissingExtraError: A module is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError((error.name or "a package").partition(".")[0], extra, purpose) from error


class EnvironmentSetupError(PgkerasError):
    """An environment id is unknown, or its environment cannot be created."""


class EnvironmentStepError(PgkerasError):
    """An environment crashed, or returned a value outside its spaces."""


class UnsupportedSpaceError(PgkerasError, TypeError):
    """An observation or action space is not supported."""


class TrainingError(PgkerasError, ArithmeticError):
    """Training cannot continue: a loss or gradient is not finite."""


class RunError(PgkerasError):
    """A run directory is missing, incomplete or cannot be written."""


class BundleError(PgkerasError):
    """Base of the errors about an exported policy on disk."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no bundle at that path."""


class CorruptBundleError(BundleError):
    """Files of a bundle are missing, changed or unreadable."""


class NewerBundleError(BundleError):
    """A bundle was written by a newer pgkeras, in a schema unknown to this one."""


class ExportError(BundleError):
    """A policy could not be exported; nothing was published."""


class EngineError(PgkerasError):
    """An engine cannot load or run a policy."""


class HubError(PgkerasError):
    """The Hugging Face Hub refuses a request, or does not respond; the message says what to do."""


class BenchError(PgkerasError):
    """A measurement has no result, or its result cannot be written."""


class PolicyServiceError(PgkerasError):
    """A call to a policy server failed."""


class InvalidRequestError(PolicyServiceError, ValueError):
    """The request is invalid.

    Args:
        field: Path of the invalid field in the request message, such as ``observation.tensor.shape``.
        expected: Description of a valid value.
        got: The received value.
    """

    def __init__(self, field: str, expected: str, got: str) -> None:
        super().__init__(f"{field}: expected {expected}, got {got}")
        self.field = field
        self.expected = expected
        self.got = got


class PolicyNotFoundError(PolicyServiceError, LookupError):
    """No such policy, version or label; the message lists the available ones."""


class SpecMismatchError(PolicyServiceError):
    """The policy's spec is not the one that the caller was written for."""


class ServerBusyError(PolicyServiceError):
    """The server is full.

    Args:
        message: Which limit was reached.
        retry_after: Seconds to wait before trying again.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceededError(PolicyServiceError, TimeoutError):
    """No response arrived within the deadline."""


class ServerUnavailableError(PolicyServiceError, ConnectionError):
    """No server responds at that address, or the server is draining.

    Args:
        message: The address and the reason.
        retry_after: Seconds to wait before trying again, if the server has sent them.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TlsError(ServerUnavailableError):
    """The connection could not be secured: a certificate is wrong, or only one side speaks TLS."""


class UnauthenticatedError(PolicyServiceError, PermissionError):
    """The call's token is missing or unknown to the server."""


class ServerFailedError(PolicyServiceError):
    """A defect of the server, or a call that it does not offer; its log has the reason."""
