"""Overload: more load than a server can handle."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.soak.server import serving
from pgkeras import bench
from pgkeras.bench.report import quantiles

__all__ = ["overload"]


def overload(
    root: Path,
    scratch: Path,
    *options: str,
    factor: float = 3.0,
    batch: int = 512,
    rounds: int = 3,
    seconds: float = 4.0,
) -> dict[str, Any]:
    """Alternates between a closed loop, which measures the peak throughput, and ``factor`` times that load.

    Args:
        root: The served policy: a slow one, because its engine must be the bottleneck, not the load generator.
        scratch: A directory.
        options: Arguments of the server.
        factor: Offered load as a multiple of the peak.
        batch: Observations per call.
        rounds: Number of rounds.
        seconds: Length of a round.
    """
    peaks, goodputs, shares = [], [], []
    codes: dict[str, int] = {}
    accepted, kept_up = [], True
    with serving(root, scratch, *options) as server:
        load = bench.Load(server.target, batch=batch, duration=seconds, timeout=30.0)
        for turn in range(rounds):
            peak = _peak(dataclasses.replace(load, concurrency=16, seed=turn))
            over = bench.run(dataclasses.replace(load, rate=factor * peak, seed=turn))
            peaks.append(peak)
            goodputs.append(over.answered_per_second)
            shares.append(over.answered_per_second / peak)
            accepted.append(over.latencies)
            kept_up &= over.kept_up
            for code, number in over.codes.items():
                codes[code] = codes.get(code, 0) + number
        again = bench.run(dataclasses.replace(load, concurrency=16))
        clean = "Traceback" not in server.log.read_text()
        rss = server.rss_mb()
        status = server.stop()
    return {
        "peak_calls_per_second": statistics.median(peaks),
        "goodput_calls_per_second": statistics.median(goodputs),
        "goodput_share": statistics.median(shares),
        "goodput_shares": shares,
        "codes": codes,
        "accepted_ms": {name: value * 1e3 for name, value in quantiles(np.concatenate(accepted)).items()},
        "generator_kept_up": kept_up,
        "afterwards": again.codes,
        "rss_mb": rss,
        "clean_log": clean,
        "exit_status": status,
    }


def _peak(load: bench.Load) -> float:
    """Returns completed calls per second. Doubles the duration until a call completes, for busy machines."""
    for _ in range(6):
        if answered := bench.run(load).answered_per_second:
            return answered
        load = dataclasses.replace(load, duration=2 * load.duration)
    raise RuntimeError(f"{load.target} completed no call within {load.duration / 2:g} s")
