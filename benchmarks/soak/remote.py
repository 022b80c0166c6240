"""Checks that the memory of a run does not grow while simulators connect and disconnect."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from conformance.teaching import training
from pgkeras.client import PolicyClient
from pgkeras.errors import PolicyServiceError
from pgkeras.spaces import Box, Discrete

__all__ = ["remote"]

_SPACES = {
    "observation_space": Box(np.full(3, -1.0), np.full(3, 1.0), np.dtype(np.float32)),
    "action_space": Discrete(2),
}
_SETTLED = 0.1  # share of the epochs after which memory should be constant


def remote(scratch: Path, epochs: int = 1000, simulators: int = 4) -> dict[str, Any]:
    """Trains for some epochs of short episodes. Simulators connect, play up to 400 messages and disconnect.

    Args:
        scratch: A directory.
        epochs: Number of epochs.
        simulators: Number of concurrent simulators.
    """
    over = threading.Event()
    came = [0] * simulators
    settings = ("hidden=8", "stop_return=1e9", "steps=1000000000", "loggers=none", "episodes=8")
    options = [part for setting in settings for part in ("--set", setting)]
    with training(scratch, "--no-export", *options) as run:
        players = [
            threading.Thread(target=_come_and_go, args=(run.target, i, came, over), daemon=True)
            for i in range(simulators)
        ]
        for player in players:
            player.start()
        _wait_for(scratch, run.process, int(epochs * _SETTLED))
        early = _rss_mb(run.process.pid)
        _wait_for(scratch, run.process, epochs)
        late = _rss_mb(run.process.pid)
        over.set()
        run.process.send_signal(signal.SIGINT)
        status = run.process.wait(60)
    for player in players:
        player.join(20)
    return {
        "epochs": epochs,
        "sessions": sum(came),
        "memory_mb": {"settled": round(early, 1), "at the end": round(late, 1)},
        "exit_status": 0 if status == 128 + signal.SIGINT else status,
    }


def _come_and_go(target: str, seed: int, came: list[int], over: threading.Event) -> None:
    generator = np.random.default_rng(seed)
    with PolicyClient(target, timeout=30.0) as client:
        while not over.is_set():
            with contextlib.suppress(PolicyServiceError), client.play(**_SPACES) as session:
                came[seed] += 1
                _play(session, generator, int(generator.integers(20, 400)), over)


def _play(session: Any, generator: np.random.Generator, messages: int, over: threading.Event) -> None:
    """Plays episodes of a few steps. The last one may be left unfinished."""
    session.step(generator.uniform(-1, 1, 3))
    for _ in range(messages):
        if over.is_set():
            return
        ended = bool(generator.random() < 0.2)
        action = session.step(generator.uniform(-1, 1, 3), float(generator.random()), ended, False)
        assert action in (0, 1)
        if ended:
            session.step(generator.uniform(-1, 1, 3), 0.0, False, False)


def _wait_for(scratch: Path, process: Any, epochs: int) -> None:
    metrics = scratch / "run" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < epochs:
        if process.poll() is not None:
            raise RuntimeError(f"the run has ended: {process.communicate()[1]}")
        time.sleep(0.2)


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
