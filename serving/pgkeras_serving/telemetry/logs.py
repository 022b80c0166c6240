"""Logs: one line per event, as text or JSON. Observations are logged only if the settings say so."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from pgkeras.errors import InvalidRequestError, PolicyServiceError
from pgkeras.v1 import service_pb2
from pgkeras_serving.settings.config import ServerConfig

__all__ = ["AccessLog", "Call", "about", "configure"]

_HUMAN, _JSON = "human", "json"
_MAX_LINES = 10_000
_FLUSH_SECONDS = 1.0
_MINUTE = 60.0
_GRPC = "grpc._cython.cygrpc"
_GRPC_LINES_PER_MINUTE = 6
_DROPPED = "%d log lines were dropped here because earlier lines were not read in time"


def about(**fields: Any) -> dict[str, Any]:
    """Builds the ``extra`` of a log record: policy, version, method, code and the like."""
    return {"fields": fields}


def configure(config: ServerConfig, worker: int | None = None) -> None:
    """Sends the log to standard error, in the configured format.

    Args:
        config: The server's settings.
        worker: Number of this worker process, added to its lines; None without worker processes.
    """
    form = config.log_format
    if form == "auto":
        form = _HUMAN if sys.stderr.isatty() else _JSON
    handler = _BackgroundHandler(sys.stderr.fileno())
    handler.setFormatter(_Machine() if form == _JSON else _Human())
    if worker is not None:
        handler.addFilter(_WorkerFilter(worker))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger(_GRPC).addFilter(_RateLimitFilter(_GRPC_LINES_PER_MINUTE))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core would write lines without the formatter


class _BackgroundHandler(logging.Handler):
    """Writes lines in a background thread, so that a reader who falls behind does not block the event loop.

    Lines that do not fit into the queue are dropped. The next written line reports their number.

    Args:
        file: Descriptor of the file to write to.
    """

    def __init__(self, file: int) -> None:
        super().__init__()
        self._file = file
        self._lines: queue.Queue[str] = queue.Queue(_MAX_LINES)
        self._dropped = 0
        threading.Thread(target=self._write, name="pgkeras-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Formats a line and queues it."""
        try:
            line = self.format(record)
            if self._dropped:
                note = logging.LogRecord(__name__, logging.WARNING, "", 0, _DROPPED, (self._dropped,), None)
                self._lines.put_nowait(self.format(note))
                self._dropped = 0
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1
        except Exception:  # as the standard handlers do
            self.handleError(record)

    def flush(self) -> None:
        """Waits until the queued lines are written, but at most a second."""
        due = time.monotonic() + _FLUSH_SECONDS
        while self._lines.unfinished_tasks and time.monotonic() < due:
            time.sleep(0.005)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            with contextlib.suppress(OSError):  # the log itself failed, so the error cannot be logged
                rest = f"{line}\n".encode(errors="backslashreplace")
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            self._lines.task_done()


class _WorkerFilter(logging.Filter):
    """Adds the worker's number to the fields of every line."""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns True."""
        record.fields = {**getattr(record, "fields", {}), "worker": self._worker}
        return True


class _RateLimitFilter(logging.Filter):
    """Passes a few records per minute, each shortened to one line, because any client can cause them.

    Args:
        lines: Maximum number per minute. The next record that passes reports how many did not.
    """

    def __init__(self, lines: int) -> None:
        super().__init__()
        self._lines = lines
        self._recent: deque[float] = deque(maxlen=lines)
        self._dropped = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether the record passes."""
        now = time.monotonic()
        if len(self._recent) == self._lines and now - self._recent[0] < _MINUTE:
            self._dropped += 1
            return False
        self._recent.append(now)
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message = f"{message}: {record.exc_info[1]!r}"
        if self._dropped:
            message = f"{message} ({self._dropped} similar lines were omitted)"
        record.msg, record.args, record.exc_info = message.replace("\n", " "), (), None
        self._dropped = 0
        return True


class AccessLog:
    """Logs a line for every call that ends.

    Args:
        observations: Whether the lines include the observations.
    """

    def __init__(self, observations: bool) -> None:
        self._logger = logging.getLogger("pgkeras.access")
        self._observations = observations

    def call(self, method: str, peer: str, request: bytes = b"") -> Call:
        """Starts the record of a call.

        Args:
            method: The method's name.
            peer: The client's address.
            request: The encoded request. For a session, the first message is set when it arrives.
        """
        return Call(self, method, peer, request)

    def ended(self, call: Call, code: str, error: Exception | None, response: bytes | None) -> None:
        """Logs a call that has ended; see :meth:`Call.ended`."""
        fields: dict[str, Any] = {"method": call.method, "code": code, "peer": call.peer}
        asked, answered = _read(_REQUESTS, call.method, call.request), _read(_RESPONSES, call.method, response)
        if asked is not None and asked.policy.name:
            fields["policy"] = asked.policy.name
        if answered is not None:
            fields["policy"], fields["version"] = answered.policy.name, answered.policy.version
        elif call.version is not None:
            fields["policy"], fields["version"] = call.version
        fields["milliseconds"] = round((time.perf_counter_ns() - call.start) / 1e6, 3)
        if isinstance(error, InvalidRequestError) and not self._observations:
            fields["reason"] = (
                f"{error.field}: expected {error.expected}"  # without the value: it may be an observation
            )
        elif isinstance(error, PolicyServiceError):
            fields["reason"] = str(error)
        if self._observations and isinstance(asked, service_pb2.ActRequest):
            fields["observation"] = json_format.MessageToDict(asked.observation)
        self._logger.info("%s %s", call.method, code, extra=about(**fields))

    def message(self, message: bytes, policy: str, version: int) -> None:
        """Logs a session's message if observations are logged."""
        request = _read(_REQUESTS, "Play", message) if self._observations else None
        if request is not None:
            observation = json_format.MessageToDict(request.observation)
            fields = about(method="Play", policy=policy, version=version, observation=observation)
            self._logger.info("a session's message", extra=fields)


@dataclass
class Call:
    """A call in the access log.

    Args:
        log: The access log.
        method: The method's name.
        peer: The client's address.
        request: The encoded request; of a session, its first message.
        version: Name and version of the policy, if the response does not contain them.
        start: Time of arrival (``time.perf_counter_ns``).
    """

    log: AccessLog
    method: str
    peer: str
    request: bytes = b""
    version: tuple[str, int] | None = None
    start: int = field(default_factory=time.perf_counter_ns)

    def ended(self, code: str, error: Exception | None = None, response: bytes | None = None) -> None:
        """Logs the end of the call.

        Args:
            code: Name of its status code.
            error: The error with which it failed, if any.
            response: The encoded response, if any.
        """
        self.log.ended(self, code, error, response)


_REQUESTS = {"Act": service_pb2.ActRequest, "Play": service_pb2.PlayRequest, "GetPolicy": service_pb2.GetPolicyRequest}
_RESPONSES = {"Act": service_pb2.ActResponse, "GetPolicy": service_pb2.GetPolicyResponse}


def _read(kinds: Mapping[str, Any], method: str, data: bytes | None) -> Any:
    """Parses a message. Returns None if it is missing, invalid, or of a method without a policy."""
    if data is None or method not in kinds:
        return None
    with contextlib.suppress(DecodeError):
        return kinds[method].FromString(data)
    return None


class _Machine(logging.Formatter):
    """Formats a record as a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _moment(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Human(logging.Formatter):
    """Formats a record as time, level and message, followed by its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        tail = "".join(f" {name}={value}" for name, value in fields.items() if value not in ("", None))
        said = record.getMessage() + tail
        if not said.isprintable():  # text from clients must not imitate other log lines
            said = "".join(c if c.isprintable() else repr(c)[1:-1] for c in said)
        line = f"{_moment(record).strftime('%Y-%m-%d %H:%M:%S')} {record.levelname:<7} {said}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _moment(record: logging.LogRecord) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(record.created, datetime.UTC)
