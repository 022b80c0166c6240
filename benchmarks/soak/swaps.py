"""Version swaps under load, in alternation with load without swaps."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.soak.server import publish, serving
from pgkeras import bench
from pgkeras.bench.report import quantiles
from pgkeras.client import PolicyClient

__all__ = ["swaps"]

_KEPT = 2
_PAUSE_SECONDS = 0.2


def swaps(scratch: Path, count: int = 100, rate: float = 200.0, seconds: float = 3.0) -> dict[str, Any]:
    """Publishes ``count`` versions in sequence and deletes old ones, during calls and sessions.

    Rounds with and without swaps alternate, which cancels drift of the machine.

    Args:
        scratch: A directory.
        count: Number of swaps.
        rate: Calls per second. Half as many messages per second go through sessions at the same time.
        seconds: Length of a round.
    """
    policy = scratch / "policies" / "p"
    policy.mkdir(parents=True)
    publish(policy, 1)
    done, memory = 0, []
    latencies: dict[str, list[Any]] = {"undisturbed": [], "swapping": []}
    failures: dict[str, int] = {}
    calls = 0
    with (
        serving(scratch / "policies", scratch, "--poll-seconds", "0.02") as server,
        # In a separate process, because it would delay the calls of this one, which would look slow.
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as swapper,
        ThreadPoolExecutor(1) as player,
    ):
        while done < count:
            for spell, found in latencies.items():
                act = bench.Load(server.target, rate=rate, duration=seconds, warmup=0.3, seed=done)
                play = ["--rpc", "play", "--rate", str(rate / 2), "--duration", str(seconds), "--warmup", "0.3"]
                playing = player.submit(_bench, server.target, play)
                most = count - done if spell == "swapping" else 0
                swapping = swapper.submit(_swap, policy, server.target, done, most, seconds)
                acted = bench.run(act)
                played = playing.result()
                done += swapping.result()
                found.append(acted.latencies)
                for codes in (acted.codes, played):
                    calls += sum(codes.values())
                    for code, number in codes.items():
                        failures[code] = failures.get(code, 0) + number * (code != "OK")
            memory.append((done, server.rss_mb()))
        clean = "Traceback" not in server.log.read_text()
        status = server.stop()
    tails = {spell: quantiles(np.concatenate(found)) for spell, found in latencies.items()}
    # The first rounds fill caches. After that, memory should be constant.
    settled = np.array(memory[len(memory) // 3 :]).T
    return {
        "swaps": done,
        "calls": calls,
        "failed": {code: number for code, number in failures.items() if number},
        "p50_ms": {spell: tail["p50"] * 1e3 for spell, tail in tails.items()},
        "p99_ms": {spell: tail["p99"] * 1e3 for spell, tail in tails.items()},
        "p99_ratio": tails["swapping"]["p99"] / tails["undisturbed"]["p99"],
        "rss_mb": [round(mb, 1) for _, mb in memory],
        "rss_kb_per_swap": float(np.polyfit(*settled, 1)[0] * 1024) if settled.shape[1] > 2 else None,
        "clean_log": clean,
        "exit_status": status,
    }


def _bench(target: str, options: list[str]) -> dict[str, int]:
    """Runs a load in a separate process, because grpc.aio works best with one event loop per process."""
    command = [sys.executable, "-m", "pgkeras", "bench", "--target", target, "--json", *options]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {code: int(number) for code, number in found["codes"].items()}


def _swap(policy: Path, target: str, done: int, most: int, seconds: float) -> int:
    """Publishes versions for some seconds, and waits until each is served. Returns their number."""
    swapped, end = 0, time.monotonic() + seconds
    with PolicyClient(target) as client:
        while swapped < most and time.monotonic() < end:
            swapped += 1
            version = 1 + done + swapped
            publish(policy, version)
            deadline = time.monotonic() + 60
            while client.describe().version != version:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"version {version} is not served")
                time.sleep(0.005)
            shutil.rmtree(policy / str(version - _KEPT), ignore_errors=True)
            time.sleep(_PAUSE_SECONDS)
    return swapped
