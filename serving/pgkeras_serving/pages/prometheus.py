"""Exports the counters in Prometheus' text format. They are collected on request, so counting needs no locks."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator

import numpy as np

from pgkeras import __version__
from pgkeras.errors import MissingExtraError
from pgkeras_serving.sessions.policies import Policies
from pgkeras_serving.sessions.sessions import Sessions
from pgkeras_serving.telemetry.metrics import Histogram, Requests

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
# Buckets of which powers of two are shown: 1 microsecond to 8.6 seconds, and 1 to 65,536 rows.
_TIMES = range(10, 34)
_ROWS = range(17)


class Exposition:
    """Everything that is counted, for a Prometheus server.

    Args:
        store: The policies.
        sessions: The open sessions.
        requests: The calls.
    """

    def __init__(self, store: Policies, sessions: Sessions, requests: Requests) -> None:
        self._store = store
        self._sessions = sessions
        self._requests = requests
        self._process = ProcessCollector(registry=CollectorRegistry())

    kind = CONTENT_TYPE_LATEST
    """The Content-Type of :meth:`text`."""

    async def text(self) -> bytes:
        """All metrics in Prometheus' text format.

        The event loop is left to others between two policies, and the text is written in a thread: of hundreds of
        policies it takes a second.
        """
        families = [*self._of_server(), *await self._by_version(), *self._process.collect()]
        return await asyncio.to_thread(generate_latest, _Snapshot(families))

    def _of_server(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "pgkeras_requests",
            "Calls that ended, and messages of sessions that failed.",
            labels=("method", "code"),
        )
        for (method, code), count in sorted(self._requests.counts.items()):
            requests.add_metric((method, code), count)
        yield requests
        yield GaugeMetricFamily("pgkeras_sessions", "Sessions that are open.", len(self._sessions))
        failures = len(self._store.failures())
        yield GaugeMetricFamily("pgkeras_versions_failed", "Versions on disk that could not be loaded.", failures)
        build = GaugeMetricFamily("pgkeras_build_info", "1 for the release that runs.", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1)
        yield build
        yield self._label_versions()

    def _label_versions(self) -> Metric:
        family = GaugeMetricFamily("pgkeras_label_version", "The version that has a label.", labels=("policy", "label"))
        for name, labels in self._store.labels().items():
            for label, version in labels.items():
                family.add_metric((name, label), version)
        return family

    async def _by_version(self) -> list[Metric]:
        info = GaugeMetricFamily(
            "pgkeras_policy_info", "1 for every version that is ready.", labels=(*_BY_VERSION, "engine", "spec_hash")
        )
        loaded = GaugeMetricFamily(
            "pgkeras_policy_load_time_seconds", "When a version became ready, since the epoch.", labels=_BY_VERSION
        )
        observations = CounterMetricFamily("pgkeras_observations", "Observations answered.", labels=_BY_VERSION)
        timed = {
            "seconds": _histogram("answer_seconds", "From a request's arrival to its answer, without the transport."),
            "queue": _histogram("queue_seconds", "Wait for a batch."),
            "inference": _histogram("inference_seconds", "Time of the engine's runs."),
            "encoding": _histogram("encoding_seconds", "Time that answers took to encode."),
        }
        queued = GaugeMetricFamily("pgkeras_queued_observations", "Observations that wait.", labels=_BY_VERSION)
        playing = GaugeMetricFamily("pgkeras_policy_sessions", "Sessions with a version.", labels=_BY_VERSION)
        rows = _histogram("batch_size", "Observations in the engine's runs.")
        entropy = _summary("action_entropy_nats", "Entropy of action distributions; of a sample of the answers.")
        returns = _summary("episode_return", "Undiscounted returns of episodes played in sessions.")
        lengths = _summary("episode_length", "Their lengths, in actions.")
        for policy in self._store.policies():
            await asyncio.sleep(0)
            meter, about = policy.meter, policy.description
            meter.settle()
            labels = (about.name, str(about.version))
            info.add_metric((*labels, about.engine, about.spec_hash), 1)
            loaded.add_metric(labels, about.load_time.ToNanoseconds() / _NANOSECONDS)
            observations.add_metric(labels, meter.observations)
            queued.add_metric(labels, policy.batcher.queued_rows)
            playing.add_metric(labels, meter.sessions)
            for name, family in timed.items():
                _add(family, labels, getattr(meter, name), _TIMES, _NANOSECONDS)
            _add(rows, labels, meter.rows, _ROWS, 1)
            entropy.add_metric(labels, meter.looked, meter.entropy)
            sums = policy.episodes.sums
            returns.add_metric(labels, sums.count, sums.returns)
            lengths.add_metric(labels, sums.count, sums.lengths)
        return [info, loaded, observations, queued, playing, *timed.values(), rows, entropy, returns, lengths]


class _Snapshot(Collector):
    """Metrics that have been collected."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """The metrics."""
        return self._families


def _histogram(name: str, about: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"pgkeras_{name}", about, labels=_BY_VERSION)


def _summary(name: str, about: str) -> SummaryMetricFamily:
    return SummaryMetricFamily(f"pgkeras_{name}", about, labels=_BY_VERSION)


def _add(
    family: HistogramMetricFamily, labels: tuple[str, str], histogram: Histogram, powers: range, unit: float
) -> None:
    """Adds a histogram, whose bucket i ends at 2**i - 1, with the bounds of some of its buckets."""
    below = np.cumsum(histogram.counts)
    # An integer below 2**i is at most 2**i - 1; of nanoseconds that is 2**i, of rows it is not.
    bounds = [(2**i if unit > 1 else 2**i - 1) / unit for i in powers]
    buckets = [(repr(float(bound)), float(below[i])) for i, bound in zip(powers, bounds, strict=True)]
    family.add_metric(labels, [*buckets, ("+Inf", float(below[-1]))], histogram.total / unit)
