"""The log: one line per event, as JSON or for people, without private data."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry import logs

from pgkeras.client import PolicyClient
from pgkeras.errors import InvalidRequestError, PolicyNotFoundError
from pgkeras.v1 import service_pb2, service_pb2_grpc
from tests.serving.conftest import run_cli, running, wait_until
from tests.serving.telemetry.test_metrics import page_of, samples

SECRET = np.array([0.25, -3.5, 77.125, 1.0], np.float32)
IN_JSON = base64.b64encode(SECRET.tobytes()).decode()


class Written(io.FileIO):
    """A file in place of standard error."""

    def __init__(self, path):
        super().__init__(path, "w+")
        self._path = path

    def getvalue(self):
        for handler in logging.getLogger().handlers:
            handler.flush()
        return self._path.read_text()


@pytest.fixture
def logger(monkeypatch, tmp_path):
    """Configures logging into a file; returns a logger and the file."""
    stream = Written(tmp_path / "log")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def start(**settings):
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure(ServerConfig(**settings))
        return logging.getLogger("test"), stream

    yield start
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)


def entries(server):
    """The JSON lines of a server's log. The first few lines come from LiteRT."""
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def calls(server):
    return [entry for entry in entries(server) if entry["logger"] == "pgkeras.access"]


def use(server):
    with PolicyClient(server.target, "discrete") as client:
        client.act(SECRET)
        client.act(SECRET[None].repeat(2, 0))
        with pytest.raises(InvalidRequestError):
            client.act(SECRET[:3])
        with client.play() as session:
            session.step(SECRET)
        with PolicyClient(server.target, "nobody") as lost, pytest.raises(PolicyNotFoundError):
            lost.describe()


def test_lines_contain_time_level_message_and_fields(logger):
    log, stream = logger(log_format="json")
    log.warning("careful\nthere", extra=logs.about(policy="p", version=3))
    try:
        raise ZeroDivisionError("broken")
    except ZeroDivisionError:
        log.exception("it failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert {name: first[name] for name in ("level", "logger", "message", "policy", "version")} == {
        "level": "warning",
        "logger": "test",
        "message": "careful\nthere",
        "policy": "p",
        "version": 3,
    }
    assert first["time"].endswith("+00:00")
    assert "ZeroDivisionError: broken" in second["exception"]


def test_for_people_a_line_cannot_pretend_to_be_two(logger):
    log, stream = logger(log_format="human")
    name = "p\n2026-01-01 00:00:00 INFO    forged\x1b[31m"
    log.info("policy %s", "x\n2026-01-01 00:00:00 INFO    forged\r", extra=logs.about(policy=name, code=""))
    (line,) = stream.getvalue().splitlines()
    forged = r"2026-01-01 00:00:00 INFO    forged"
    assert line.endswith(rf"INFO    policy x\n{forged}\r policy=p\n{forged}\x1b[31m")


def test_lines_below_the_level_are_dropped(logger):
    log, stream = logger(log_format="json", log_level="error")
    log.warning("not this")
    log.error("this")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["this"]


def test_calls_are_logged_on_request_and_observations_are_not(policies, tmp_path):
    with running(policies, tmp_path, "--log-access") as server:
        use(server)
        wait_until(lambda: {"Play", "GetPolicy"} <= {entry["method"] for entry in calls(server)})
        server.said()
        found = [(entry["method"], entry["code"], entry["policy"], entry.get("version")) for entry in calls(server)]
        assert found.count(("Act", "OK", "discrete", 2)) == 2
        assert found.count(("Act", "INVALID_ARGUMENT", "discrete", None)) == 1
        assert found.count(("GetPolicy", "NOT_FOUND", "nobody", None)) == 1
        assert found.count(("Play", "OK", "discrete", 2)) == 1
        reasons = {entry["code"]: entry.get("reason") for entry in calls(server)}
        assert reasons["OK"] is None
        assert reasons["INVALID_ARGUMENT"] == "observation: expected shape [4] or [batch, 4]"
        assert reasons["NOT_FOUND"] == "no policy 'nobody'; there is: discrete (version 1, 2), gaussian (version 1)"
        assert all(entry["milliseconds"] > 0 for entry in calls(server))
        ready = [entry for entry in entries(server) if "is ready" in entry["message"]]
        assert [(entry["policy"], entry["version"]) for entry in ready] == [
            ("discrete", 1),
            ("discrete", 2),
            ("gaussian", 1),
        ]
        text = server.log.read_text()
        assert IN_JSON not in text
        assert "77.125" not in text


def test_without_the_option_no_call_is_logged(policies, tmp_path):
    with running(policies, tmp_path) as server:
        use(server)
        assert server.stop() == 0
        assert calls(server) == []
        assert [entry["message"] for entry in entries(server)][-1] == "draining: no new calls are taken"


def test_observations_are_logged_when_asked_for(policies, tmp_path):
    with running(policies, tmp_path, "--log-access", "--log-observations") as server:
        use(server)
        wait_until(lambda: sum(IN_JSON in json.dumps(entry) for entry in calls(server)) >= 2)
    refused = run_cli("serve", str(policies), "--log-observations")
    assert refused.returncode == 1
    assert "log_observations: observations are part of the log of calls; set log_access as well" in refused.stderr


def test_on_a_terminal_the_log_is_human_readable(policies, tmp_path):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "pgkeras", "serve", str(policies), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, cwd=tmp_path) as process:
        assert process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    os.close(follower)
    text = os.read(leader, 65536).decode()
    os.close(leader)
    assert "is ready policy=discrete version=1" in text
    assert "{" not in text


def test_lines_that_no_process_reads_are_dropped_and_counted():
    reading, writing = os.pipe()
    log = logs._BackgroundHandler(writing)
    record = logging.LogRecord("x", logging.INFO, "", 0, "x" * 100, (), None)
    emitting = threading.Thread(target=lambda: [log.emit(record) for _ in range(12_000)], daemon=True)
    emitting.start()
    emitting.join(60)
    assert not emitting.is_alive(), "logging blocks"
    lines = []
    threading.Thread(target=lambda: lines.extend(os.fdopen(reading)), daemon=True).start()
    wait_until(lambda: not log._lines.unfinished_tasks)
    log.emit(record)
    wait_until(lambda: not log._lines.unfinished_tasks)
    os.close(writing)
    wait_until(lambda: bool(lines))
    notes = [line for line in lines if "lines were dropped here" in line]
    assert notes, "a later line counts the dropped lines"
    kept = len(lines) - len(notes) - 1  # without the last line, which was logged after the reader had caught up
    assert kept + sum(int(note.split()[0]) for note in notes) == 12_000


def test_sessions_are_counted_once_and_logged_with_their_code(policies, tmp_path):
    with running(policies, tmp_path, "--http-port", "0", "--log-access") as server:
        page = page_of(server)
        with PolicyClient(server.target, "discrete") as client, client.play() as session:
            session.step(np.zeros((1, 4), np.float32))
        with grpc.insecure_channel(server.target) as channel:
            unknown = iter([service_pb2.PlayRequest(policy={"name": "nobody"})])
            answers = service_pb2_grpc.PolicyServiceStub(channel).Play(unknown, timeout=60)
            with pytest.raises(grpc.RpcError):
                list(answers)
        wait_until(lambda: sum(line["method"] == "Play" for line in calls(server)) == 2)
        (refused,) = (line for line in calls(server) if line["method"] == "Play" and line["code"] != "OK")
        assert refused["code"] == "NOT_FOUND"
        assert "no policy 'nobody'" in refused["reason"]
        counted = {
            dict(labels)["code"]: value
            for (name, *labels), value in samples(page).items()
            if name == "pgkeras_requests_total" and ("method", "Play") in labels
        }
        assert counted == {"OK": 1, "NOT_FOUND": 1}


def test_repeated_errors_are_rate_limited_and_kept_to_one_line(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    limit, passed = logs._RateLimitFilter(3), []

    def say(second):
        now[0] = second
        error = ValueError("two\nlines")
        record = logging.LogRecord("grpc", logging.ERROR, "", 0, "a peer\nleft", (), (ValueError, error, None))
        if limit.filter(record):
            passed.append((second, record.getMessage()))
            assert record.exc_info is None

    for second in (0, 1, 2, 3, 59, 61, 62, 63, 64):
        say(second)
    assert [second for second, _ in passed] == [0, 1, 2, 61, 62, 63], "three per minute"
    assert all("\n" not in message and "ValueError" in message for _, message in passed)
    assert "(2 similar lines were omitted)" in passed[3][1]
    assert "omitted" not in passed[4][1]
