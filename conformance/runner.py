"""Runs a conformance program against policy servers, and parses its output."""

from __future__ import annotations

import contextlib
import functools
import json
import queue
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import trustme
from pgkeras_serving.transport.tokens import create_token, hashed_line

from conformance.clients import playing_environment
from conformance.proxy import delayed
from conformance.servers import Server, serve

__all__ = ["Outcome", "Stage", "play_cartpole", "run_program", "scenarios", "stage"]

HERE = Path(__file__).parent
LATENESS_SECONDS = 1.0
_PROGRAM_SECONDS = 240.0
_LINE = re.compile(r"(PASS|FAIL|SKIP) ([a-z_]+)(?:: (.*))?")


@dataclass(frozen=True)
class Outcome:
    """The result of one scenario.

    Args:
        scenario: Name of the scenario.
        status: PASS, FAIL or SKIP.
        reason: Why the scenario failed or was skipped.
    """

    scenario: str
    status: str
    reason: str = ""


@dataclass
class Stage:
    """The servers of the scenarios.

    Args:
        target: HOST:PORT of the server of all fixtures.
        flags: Flags of the conformance program.
        restart: Stops that server, calls its argument, and starts the server again at the same address.
    """

    target: str
    flags: list[str]
    restart: Callable[[Callable[[], None]], None]


@contextlib.contextmanager
def stage(policies: Path, scratch: Path) -> Iterator[Stage]:
    """Starts all servers.

    Args:
        policies: The directory that :func:`conformance.fixtures.export` has written.
        scratch: A directory for the servers' logs.
    """
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(serve(policies, scratch / "busy", "--max-sessions", "1"))
        dead = stack.enter_context(_dead())
        running = stack.enter_context(contextlib.ExitStack())
        server = running.enter_context(serve(policies, scratch / "main"))
        slow = stack.enter_context(delayed(server.target, LATENESS_SECONDS))
        current: list[Server] = [server]

        def restart(meanwhile: Callable[[], None]) -> None:
            current[0].stop()
            meanwhile()
            port = server.target.rpartition(":")[2]
            current[0] = running.enter_context(serve(policies, scratch / "main", "--port", port))

        flags = [
            *_secured(stack, policies, scratch / "tls"),
            "--target",
            server.target,
            "--slow-target",
            slow,
            "--dead-target",
            dead,
            "--busy-target",
            busy.target,
        ]
        yield Stage(server.target, [*flags, "--vectors", str(HERE / "vectors.json")], restart)


def _secured(stack: contextlib.ExitStack, policies: Path, scratch: Path) -> list[str]:
    """Starts a server with a certificate and a token. Returns the flags of its address, certificate and token."""
    scratch.mkdir()
    ca, tokens, token = scratch / "ca.pem", scratch / "tokens", create_token()
    certificate, key = scratch / "server.crt", scratch / "server.key"
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(ca)
    leaf.private_key_pem.write_to_path(key)
    certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    tokens.write_text(hashed_line("conformance", token) + "\n")
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(tokens))
    server = stack.enter_context(serve(policies, scratch, *options))
    return ["--tls-target", server.target, "--ca", str(ca), "--token", token]


@contextlib.contextmanager
def _dead() -> Iterator[str]:
    with socket.socket() as bound:  # but not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def scenarios() -> list[str]:
    """Returns the names of all scenarios, in order."""
    return [scenario["name"] for scenario in json.loads((HERE / "scenarios.json").read_text())]


def run_program(command: Sequence[str], stage: Stage, directory: Path) -> list[Outcome]:
    """Runs a conformance program to its end.

    Returns:
        One outcome per scenario, in order. A scenario that the program did not report has failed. An additional outcome
        "program" has failed if the program did not end, or if its exit status does not match its lines.
    """
    process = subprocess.Popen(
        [*command, *stage.flags],
        cwd=directory,
        env=playing_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Outcome] = {}
    try:
        trouble = _follow(process, stage, found)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
    outcomes = [found.get(name, Outcome(name, "FAIL", "the program did not report it")) for name in scenarios()]
    expected = int(any(outcome.status == "FAIL" for outcome in found.values()))
    if trouble is None and process.returncode != expected:
        trouble = f"the program ended with {process.returncode}, but its lines require {expected}"
    if trouble is not None:
        outcomes.append(Outcome("program", "FAIL", trouble))
    return outcomes


def _follow(process: subprocess.Popen[str], stage: Stage, found: dict[str, Outcome]) -> str | None:
    """Parses the program's lines into ``found`` until it ends. Returns what it did wrong, if anything."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    deadline = time.monotonic() + _PROGRAM_SECONDS
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return f"the program did not end within {_PROGRAM_SECONDS:g} s"
        if line is None:
            process.wait(30)
            return None
        if line.strip() == "WAIT restart":
            stage.restart(functools.partial(print, "going", file=process.stdin, flush=True))
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match[2] in found:
            return f"the program printed {line!r}, expected a new PASS, FAIL or SKIP line"
        found[match[2]] = Outcome(match[2], match[1], match[3] or "")


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # the process was killed and its pipe closed
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def play_cartpole(command: Sequence[str], target: str, directory: Path, *options: str) -> dict[str, float]:
    """Runs a simulator to its end and returns its report.

    Raises:
        subprocess.SubprocessError: The simulator failed, or did not end.
    """
    result = subprocess.run(
        [*command, "--target", target, *options],
        cwd=directory,
        env=playing_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_PROGRAM_SECONDS,
    )
    report: dict[str, float] = json.loads(result.stdout)
    return report
