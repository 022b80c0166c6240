"""Report: the results of a load test."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.bench.load import Load
from pgkeras.bench.loops import Record
from pgkeras.client.client import PolicyInfo

__all__ = ["QUANTILES", "Report", "quantiles"]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}

# Above this share of a core, a closed loop measures the load generator, which is a single Python thread.
_BUSY = 0.9
# An open loop keeps up while the 99th percentile of its delays is below this, or below this share of the latency.
_LAG_SECONDS = 0.001
_LAG_SHARE = 0.1


def quantiles(seconds: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """Returns the quantiles of :data:`QUANTILES`: measured values, without interpolation. Empty without values."""
    if not len(seconds):
        return {}
    found = np.quantile(seconds, list(QUANTILES.values()), method="inverted_cdf")
    return dict(zip(QUANTILES, map(float, found), strict=True))


@dataclass(frozen=True)
class Report:
    """The results of a load test.

    Args:
        load: The settings of the load test.
        policy: Name of the policy.
        version: Version of the policy at the start.
        engine: The engine that computes it.
        seconds: Time from the first measured call to the last response.
        latencies: Latency of every successful call in seconds, ascending. It counts from sending in a closed loop, and
            from the due time in an open loop.
        codes: Number of calls by the name of their status code.
        reasons: The server's first message for each code except OK.
        lags: Quantiles of the load generator's delays, in seconds.
        busy: Share of a core used by the load generator's thread.
    """

    load: Load
    policy: str
    version: int
    engine: str
    seconds: float
    latencies: NDArray[np.float64]
    codes: dict[str, int]
    reasons: dict[str, str]
    lags: dict[str, float]
    busy: float

    @classmethod
    def of(cls, load: Load, info: PolicyInfo, record: Record, seconds: float, busy: float) -> Report:
        """Creates a report from a record."""
        return cls(
            load=load,
            policy=info.name,
            version=info.version,
            engine=info.engine,
            seconds=seconds,
            latencies=np.sort(_array(record.latencies["OK"])),
            codes={code: len(values) for code, values in record.latencies.items()},
            reasons=record.reasons,
            lags=quantiles(_array(record.lags)),
            busy=busy,
        )

    @property
    def calls(self) -> int:
        """The number of all calls."""
        return sum(self.codes.values())

    @property
    def answered_per_second(self) -> float:
        """Successful calls per second."""
        return len(self.latencies) / self.seconds

    @property
    def kept_up(self) -> bool:
        """Whether the load generator was fast enough for the figures to describe the server."""
        if not self.load.is_open:
            return self.busy < _BUSY
        latency = quantiles(self.latencies).get("p99", 0.0)
        return self.lags.get("p99", 0.0) <= max(_LAG_SECONDS, _LAG_SHARE * latency)

    def to_json(self) -> dict[str, Any]:
        """Returns everything except the individual latencies as JSON values, with times in milliseconds."""
        load = self.load
        return {
            "target": load.target,
            "policy": self.policy,
            "version": self.version,
            "engine": self.engine,
            "rpc": load.rpc,
            "loop": "open" if load.is_open else "closed",
            "rate": load.rate,
            "arrivals": load.arrivals if load.is_open else None,
            "concurrency": None if load.is_open and load.rpc == "act" else load.in_flight,
            "connections": load.connections,
            "batch": load.batch,
            "seconds": self.seconds,
            "calls": self.calls,
            "codes": self.codes,
            "reasons": self.reasons,
            "answered_per_second": self.answered_per_second,
            "observations_per_second": self.answered_per_second * max(1, load.batch),
            "latency_from": "the moment when the call was due" if load.is_open else "sending",
            "latency_ms": {name: value * 1e3 for name, value in quantiles(self.latencies).items()},
            "generator": {
                "kept_up": self.kept_up,
                "busy": self.busy,
                "lag_ms": {name: value * 1e3 for name, value in self.lags.items()},
            },
        }

    def __str__(self) -> str:
        load = self.load
        what = f"{load.rpc}, {load.batch} observations per call" if load.batch else f"{load.rpc}, single observations"
        if load.is_open:
            how = f"open loop, {load.rate:,g} per second, {load.arrivals} arrivals"
            how += f", {load.in_flight} sessions" if load.rpc == "play" else ""
        else:
            how = f"closed loop, {load.in_flight} {'sessions' if load.rpc == 'play' else 'in flight'}"
        connections = f"{load.connections} connection{'s' if load.connections > 1 else ''}"
        codes = ", ".join(f"{count:,} {code}" for code, count in self.codes.items() if count) or "none"
        rate = self.answered_per_second
        latency = "  ".join(f"{name} {value * 1e3:,.2f}" for name, value in quantiles(self.latencies).items())
        since = "from due time" if load.is_open else "from sending"
        lines = [
            f"{self.policy} version {self.version} ({self.engine}) at {load.target}",
            f"  load      {what}; {how}; {connections}",
            f"  calls     {codes} in {self.seconds:,.1f} s",
            f"  answered  {rate:,.1f} calls/s, {rate * max(1, load.batch):,.1f} observations/s",
            f"  latency   {latency or 'none'}  ms, {since}",
        ]
        lines += [f"  {code}: {reason}" for code, reason in self.reasons.items() if reason]
        if not self.kept_up:
            lines.append(f"  note      {self._complaint()}")
        return "\n".join(lines)

    def _complaint(self) -> str:
        if not self.load.is_open:
            return (
                f"the load generator was busy for {self.busy:.0%} of the time, so the server may be faster; "
                "run several of these commands at the same time"
            )
        return (
            f"the load generator could not keep up: 1 % of the calls were {self.lags['p99'] * 1e3:,.1f} ms late or "
            "more, which the latencies include; use a lower rate, or run several of these commands at the same time"
        )


def _array(values: array[float]) -> NDArray[np.float64]:
    return np.frombuffer(values, np.float64) if values else np.empty(0)
