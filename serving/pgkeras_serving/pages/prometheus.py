"""Exports the counters in Prometheus' text format. They are collected per request, so counting needs no locks."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pgkeras import __version__
from pgkeras.errors import MissingExtraError
from pgkeras_serving.telemetry.metrics import Histogram
from pgkeras_serving.telemetry.snapshot import Snapshot

try:
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
        SummaryMetricFamily,
    )
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve", "export metrics") from error

__all__ = ["Exposition"]

_BY_VERSION = ("policy", "version")
_NANOSECONDS = 1e9
_STARTED = "process_start_time_seconds"
# Exponents of the powers of two that bound the buckets: 1 microsecond to 8.6 seconds, and 1 to 65,536 rows.
_TIMES = range(10, 34)
_ROWS = range(17)


class Exposition:
    """All metrics, for a Prometheus server.

    Args:
        snapshot: Returns the current state.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    kind = CONTENT_TYPE_LATEST
    """The Content-Type of :meth:`text`."""

    async def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format.

        For hundreds of policies, this takes a second. It therefore yields to the event loop between policies and
        formats the text in a thread.
        """
        now = self._snapshot()
        families = [*_of_server(now), *await _by_version(now), *_of_processes(now.processes)]
        return await asyncio.to_thread(generate_latest, _Collected(families))


def _of_server(now: Snapshot) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "pgkeras_requests",
        "Calls that ended, and messages of sessions that failed.",
        labels=("method", "code"),
    )
    for (method, code), count in sorted(now.requests.items()):
        requests.add_metric((method, code), count)
    yield requests
    yield GaugeMetricFamily("pgkeras_sessions", "Open sessions.", now.sessions)
    failures = len(now.failures)
    yield GaugeMetricFamily("pgkeras_versions_failed", "Versions on disk that could not be loaded.", failures)
    yield GaugeMetricFamily("pgkeras_workers", "Processes that answer calls.", len(now.processes))
    yield CounterMetricFamily("pgkeras_worker_restarts", "Restarts of processes that answer calls.", now.restarts)
    build = GaugeMetricFamily("pgkeras_build_info", "1 for the running release.", labels=("version", "python"))
    build.add_metric((__version__, platform.python_version()), 1)
    yield build
    yield _label_versions(now)


def _label_versions(now: Snapshot) -> Metric:
    family = GaugeMetricFamily("pgkeras_label_version", "Version that a label names.", labels=("policy", "label"))
    for name, labels in now.labels.items():
        for label, version in labels.items():
            family.add_metric((name, label), version)
    return family


async def _by_version(now: Snapshot) -> list[Metric]:
    info = GaugeMetricFamily(
        "pgkeras_policy_info", "1 for every loaded version.", labels=(*_BY_VERSION, "engine", "spec_hash")
    )
    loaded = GaugeMetricFamily(
        "pgkeras_policy_load_time_seconds", "Unix time when a version was loaded.", labels=_BY_VERSION
    )
    observations = CounterMetricFamily("pgkeras_observations", "Observations answered.", labels=_BY_VERSION)
    timed = {
        "seconds": _histogram("answer_seconds", "Time from a request's arrival to its response, without transport."),
        "queue": _histogram("queue_seconds", "Time that requests wait for a batch."),
        "inference": _histogram("inference_seconds", "Duration of the engine's runs."),
        "encoding": _histogram("encoding_seconds", "Encoding time of responses."),
    }
    queued = GaugeMetricFamily("pgkeras_queued_observations", "Observations in the queue.", labels=_BY_VERSION)
    playing = GaugeMetricFamily("pgkeras_policy_sessions", "Open sessions of a version.", labels=_BY_VERSION)
    rows = _histogram("batch_size", "Observations per run of the engine.")
    entropy = _summary("action_entropy_nats", "Entropy of action distributions, from a sample of the responses.")
    returns = _summary("episode_return", "Undiscounted returns of episodes played in sessions.")
    lengths = _summary("episode_length", "Lengths of episodes played in sessions, in actions.")
    for policy in now.versions:
        await asyncio.sleep(0)
        meter, about = policy.meter, policy.description
        meter.settle()
        labels = (about.name, str(about.version))
        info.add_metric((*labels, about.engine, about.spec_hash), 1)
        loaded.add_metric(labels, about.load_time.ToNanoseconds() / _NANOSECONDS)
        observations.add_metric(labels, meter.observations)
        queued.add_metric(labels, policy.queued)
        playing.add_metric(labels, meter.sessions)
        for name, family in timed.items():
            _add(family, labels, getattr(meter, name), _TIMES, _NANOSECONDS)
        _add(rows, labels, meter.rows, _ROWS, 1)
        entropy.add_metric(labels, meter.sampled, meter.entropy)
        sums = policy.episodes.sums
        returns.add_metric(labels, sums.count, sums.returns)
        lengths.add_metric(labels, sums.count, sums.lengths)
    return [info, loaded, observations, queued, playing, *timed.values(), rows, entropy, returns, lengths]


def _of_processes(numbers: Sequence[int]) -> Iterator[Metric]:
    """Yields the standard process metrics: sums over the processes, and the earliest start time."""
    collected = [_process(number) for number in numbers]
    families: dict[str, list[Metric]] = {}
    for family in (family for process in collected for family in process):
        families.setdefault(family.name, []).append(family)
    for name, of_name in families.items():
        values = [sample.value for family in of_name for sample in family.samples]
        first = of_name[0]
        sample = first.samples[0]
        total = min(values) if name == _STARTED else sum(values)
        first.samples = [sample._replace(value=total)]
        yield first


def _process(number: int) -> list[Metric]:
    return list(ProcessCollector(pid=lambda: number, registry=CollectorRegistry()).collect())


class _Collected(Collector):
    """A collector that returns metrics collected before."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Returns the metrics."""
        return self._families


def _histogram(name: str, about: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"pgkeras_{name}", about, labels=_BY_VERSION)


def _summary(name: str, about: str) -> SummaryMetricFamily:
    return SummaryMetricFamily(f"pgkeras_{name}", about, labels=_BY_VERSION)


def _add(
    family: HistogramMetricFamily, labels: tuple[str, str], histogram: Histogram, powers: range, unit: float
) -> None:
    """Adds a histogram with the given powers of two as bucket bounds."""
    below = np.cumsum(histogram.counts)
    # Bucket i ends at 2**i - 1. For nanoseconds, the difference from 2**i is negligible; for rows it is not.
    bounds = [(2**i if unit > 1 else 2**i - 1) / unit for i in powers]
    buckets = [(repr(float(bound)), float(below[i])) for i, bound in zip(powers, bounds, strict=True)]
    family.add_metric(labels, [*buckets, ("+Inf", float(below[-1]))], histogram.total / unit)
