"""Kills servers while their directory is written to, and checks that clients continue."""

from __future__ import annotations

import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.soak.server import SHIPPED, Server, publish, serving
from pgkeras.client import PolicyClient
from pgkeras.errors import PolicyServiceError, ServerUnavailableError

__all__ = ["kills"]

_KEPT = 4
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 1.0


def kills(scratch: Path, count: int = 20, clients: int = 4, seed: int = 0, longest_life: float = 1.0) -> dict[str, Any]:
    """Kills a server with SIGKILL ``count`` times at random times, and starts it again at the same address.

    At the same time, versions are published to its directory, some by an atomic rename and some by a plain copy, so a
    starting server finds partially written files. Half of the clients make calls, half play sessions. After a failure
    they wait, with exponential backoff.

    Args:
        scratch: A directory.
        count: Number of kills.
        clients: Number of clients.
        seed: Seed of the random times.
        longest_life: Maximum seconds between ready and killed.
    """
    moments = random.Random(seed)
    policy = scratch / "policies" / "p"
    policy.mkdir(parents=True)
    publish(policy, 1)
    stop = threading.Event()
    tally = _Tally(clients)
    with serving(scratch / "policies", scratch, "--poll-seconds", "0.02") as server:
        threads = [threading.Thread(target=_publish, args=(policy, stop, tally))]
        threads += [
            threading.Thread(target=(_act, _play)[i % 2], args=(server.target, i, tally, stop)) for i in range(clients)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(count):
                time.sleep(moments.uniform(0.0, longest_life))
                server.kill()
                tally.kills += 1
                server.start()
            resumed = _all_go_on(tally)
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        newest = _newest_is_served(server, policy)
        log = server.log.read_text()
        status = server.stop()
    return {
        "kills": tally.kills,
        "versions_published": tally.published,
        "answers": sum(tally.answers),
        "failures_that_say_to_come_back": tally.unavailable,
        "other_failures": [repr(failure) for failure in tally.others],
        "longest_wait_of_a_client_s": tally.longest_gap,
        "all_clients_went_on": resumed,
        "newest_version_is_served": newest,
        "clean_log": "Traceback" not in log,
        "exit_status": status,
    }


class _Tally:
    def __init__(self, clients: int) -> None:
        self.answers = [0] * clients
        self.kills = 0
        self.published = 0
        self.unavailable = 0
        self.others: list[Exception] = []
        self.longest_gap = 0.0


def _publish(policy: Path, stop: threading.Event, tally: _Tally) -> None:
    version = 1
    while not stop.is_set():
        version += 1
        if version % 2:
            publish(policy, version)
        else:
            target = policy / str(version)
            for file in sorted(file for file in SHIPPED.rglob("*") if file.is_file()):  # file by file, not atomically
                (target / file.relative_to(SHIPPED)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target / file.relative_to(SHIPPED))
                stop.wait(0.01)
        tally.published += 1
        stop.wait(0.02)
        shutil.rmtree(policy / str(version - _KEPT), ignore_errors=True)


def _act(target: str, number: int, tally: _Tally, stop: threading.Event) -> None:
    with PolicyClient(target, timeout=30.0) as client:
        _go_on(lambda: client.act(np.zeros(4, np.float32)), number, tally, stop)


def _play(target: str, number: int, tally: _Tally, stop: threading.Event) -> None:
    def play() -> None:
        with client.play() as session:
            session.step(np.zeros(4, np.float32))
            tally.answers[number] += 1
            while not stop.is_set():
                session.step(np.zeros(4, np.float32), 1.0, False, False)
                tally.answers[number] += 1

    with PolicyClient(target, timeout=30.0) as client:
        _go_on(play, number, tally, stop)


def _go_on(ask: Any, number: int, tally: _Tally, stop: threading.Event) -> None:
    wait, last, jitter = _FIRST_WAIT, time.monotonic(), random.Random(number)
    while not stop.is_set():
        before = tally.answers[number]
        try:
            ask()
            tally.answers[number] += 1
        except ServerUnavailableError:
            tally.unavailable += 1
        except PolicyServiceError as error:
            tally.others.append(error)
        if tally.answers[number] > before:
            tally.longest_gap = max(tally.longest_gap, time.monotonic() - last)
            wait, last = _FIRST_WAIT, time.monotonic()
        else:
            stop.wait(wait * jitter.uniform(0.5, 1.0))
            wait = min(2 * wait, _LONGEST_WAIT)


def _all_go_on(tally: _Tally, seconds: float = 60.0) -> bool:
    before, deadline = list(tally.answers), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if all(now > then + 3 for now, then in zip(tally.answers, before, strict=True)):
            return True
        time.sleep(0.01)
    return False


def _newest_is_served(server: Server, policy: Path, seconds: float = 60.0) -> bool:
    newest = max(int(entry.name) for entry in policy.iterdir() if entry.name.isdigit())
    deadline = time.monotonic() + seconds
    with PolicyClient(server.target) as client:
        while time.monotonic() < deadline:
            if client.describe().version == newest:
                return True
            time.sleep(0.02)
    return False
