"""The metrics: their values after known calls, and their exposition for Prometheus."""

from __future__ import annotations

import asyncio
import math
import re
import time
import urllib.request

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgkeras_serving.telemetry.last_minute import Live
from pgkeras_serving.telemetry.metrics import Histogram, LastMinute, Meter
from prometheus_client.parser import text_string_to_metric_families

from pgkeras.client import PolicyClient
from pgkeras.errors import InvalidRequestError, PolicyNotFoundError
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from tests.serving.conftest import running, wait_until

ONE = np.zeros(4, np.float32)
OBSERVATIONS = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float32))
DISCRETE = PolicySpec(OBSERVATIONS, Discrete(3, start=5), DistributionKind.CATEGORICAL)
BOX = Box(np.full((2, 1), -9.0), np.full((2, 1), 9.0), np.dtype(np.float32))
GAUSSIAN = PolicySpec(OBSERVATIONS, BOX, DistributionKind.DIAGONAL_GAUSSIAN)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def answer(actions, entropy=0.5):
    array = np.array(actions)
    return {"action": array, "greedy_action": array, "entropy": np.full(len(array), entropy, np.float32)}


@pytest.fixture(scope="module")
def measured(policies, tmp_path_factory):
    """A server with pages, and their address."""
    scratch = tmp_path_factory.mktemp("measured")
    with running(policies, scratch, "--http-port", "0") as server:
        yield server, page_of(server)


def page_of(server):
    wait_until(lambda: "the status page is at" in server.log.read_text())
    (page,) = re.findall(r"the status page is at (https?://[\w.:]+)", server.log.read_text())
    return page


def samples(page):
    with urllib.request.urlopen(f"{page}/metrics", timeout=10) as response:
        text = response.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.items())] = sample.value
    return found


def of(found, name, version="2", policy="discrete", **labels):
    return found[f"pgkeras_{name}", *sorted({"policy": policy, "version": version, **labels}.items())]


@given(st.lists(st.integers(0, 2**50), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_in_the_bucket_of_the_exact_one(values, share):
    histogram = Histogram()
    histogram.add(np.array(values, np.int64))
    exact = int(np.quantile(values, share, method="inverted_cdf"))
    bits = exact.bit_length()
    low, high = (2 ** (bits - 1) if bits else 0), 2**bits
    assert low <= histogram.quantile(share) <= high
    assert histogram.counts.sum() == len(values)
    assert histogram.total == sum(values)


def test_a_quantile_is_interpolated_within_its_bucket():
    histogram = Histogram()
    histogram.add(np.full(4, 700))  # the bucket from 512 to 1023
    assert [histogram.quantile(share) for share in (0.25, 0.5, 1.0)] == [640.0, 768.0, 1024.0]


def test_a_quantile_of_no_values_is_nan():
    histogram = Histogram()
    assert math.isnan(histogram.quantile(0.5))
    histogram.add(np.array([7]))
    assert math.isnan(histogram.quantile(0.5, histogram.counts.copy()))


def test_the_last_minute_excludes_older_values():
    clock = Clock()
    minute = LastMinute(2, clock)
    expected = []
    for step in range(200):
        clock.now = 1000.0 + step
        minute.slot()[0] += 1
        expected.append(clock.now)
        # Values expire in slots of 5 s.
        recent = [moment for moment in expected if moment // 5 > clock.now // 5 - 12]
        assert minute.total().tolist() == [len(recent), 0]
    clock.now += 100
    assert minute.total().tolist() == [0, 0]


def test_discrete_actions_are_counted_and_others_are_averaged():
    meter = Meter(DISCRETE)
    meter.answered(answer([5, 7, 7]), False, 0, 10**9, 10**9 + 5)
    assert meter.actions.total().tolist() == [1, 0, 2]
    assert (meter.sampled, meter.entropy, meter.observations) == (3, 1.5, 3)
    meter.answered(answer([6]), False, 0, 10**9, 10**9 + 6)  # too soon to be sampled, but counted
    meter.settle()
    assert meter.actions.total().tolist() == [1, 0, 2]
    assert meter.observations == 4
    assert meter.seconds.total == 2 * 10**9 + 11
    assert meter.encoding.total == 11
    other = Meter(GAUSSIAN)
    actions = np.random.default_rng(0).normal(3.0, 2.0, (50, 2, 1))
    other.answered(answer(actions), True, 0, 1, 10**9)
    mean, deviation = other.spread()
    assert mean == pytest.approx(actions.reshape(50, 2).mean(0))
    assert deviation == pytest.approx(actions.reshape(50, 2).std(0))


def test_live_rates_and_latencies_are_those_of_the_last_minute():
    clock, meter = Clock(), Meter(DISCRETE)
    live = Live(meter, clock)
    for second in range(1, 91):
        clock.now = 1000.0 + second
        for _ in range(10 if second > 30 else 1000):
            meter.answered(answer([5, 6]), False, 0, 0, 3_000_000 if second > 30 else 900_000_000)
        live.sample()
    recent = live.recent()
    assert recent.answers_per_second == pytest.approx(10)
    assert recent.observations_per_second == pytest.approx(20)
    assert 2.0 <= recent.p50 <= recent.p99 <= 4.2  # without the slow ones before
    assert recent.history == pytest.approx([20.0] * 60)


def test_metrics_match_the_calls_of_a_client(measured):
    server, page = measured
    before = samples(page)
    with PolicyClient(server.target, "discrete") as client:
        for _ in range(7):
            client.act(np.zeros((3, 4), np.float32))
        client.act(ONE)
        with pytest.raises(InvalidRequestError):
            client.act(ONE[:2])
        with PolicyClient(server.target, "nobody") as lost, pytest.raises(PolicyNotFoundError):
            lost.describe()
        with client.play() as session:
            session.step(ONE)
            for reward in (1.0, 2.0, 4.0):
                session.step(ONE, reward, reward == 4.0, False)
            with pytest.raises(InvalidRequestError):
                session.step(ONE, float("nan"), False, False)
            assert samples(page)["pgkeras_sessions",] == before["pgkeras_sessions",] + 1
        wait_until(lambda: samples(page)["pgkeras_sessions",] == before["pgkeras_sessions",])
    after = samples(page)

    def grown(name, **labels):
        key = (f"pgkeras_{name}", *sorted(labels.items()))
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert grown("requests_total", method="Act", code="OK") == 8
    assert grown("requests_total", method="Act", code="INVALID_ARGUMENT") == 1
    assert grown("requests_total", method="GetPolicy", code="NOT_FOUND") == 1
    assert grown("requests_total", method="PlayMessage", code="INVALID_ARGUMENT") == 1
    version = {"policy": "discrete", "version": "2"}
    assert grown("observations_total", **version) == 7 * 3 + 1 + 4
    assert grown("answer_seconds_count", **version) == 12
    assert grown("encoding_seconds_count", **version) == 12
    assert grown("inference_seconds_count", **version) == 12
    assert grown("batch_size_sum", **version) == 26
    assert grown("batch_size_bucket", **version, le="1.0") == 5
    assert grown("batch_size_bucket", **version, le="3.0") == 12
    assert grown("episode_return_count", **version) == 1
    assert grown("episode_return_sum", **version) == 7.0
    assert grown("episode_length_sum", **version) == 3
    looked = of(after, "action_entropy_nats_count")
    assert 0 < looked <= of(after, "observations_total")
    assert 0 < of(after, "action_entropy_nats_sum") / looked <= math.log(3) + 1e-6
    assert of(after, "policy_info", engine="litert", spec_hash=client._info.spec_hash) == 1
    assert after["process_resident_memory_bytes",] > 10e6


def test_histograms_are_cumulative_and_end_with_their_count(measured):
    server, page = measured
    with PolicyClient(server.target, "gaussian") as client:
        client.act(np.zeros((100, 4), np.float32))
    found = samples(page)
    names = {key[0] for key in found if key[0].endswith("_bucket")}
    assert len(names) == 5
    for name in names:
        bounds = {}
        for key, value in found.items():
            if key[0] == name and ("policy", "gaussian") in key:
                bounds[float(dict(key[1:])["le"])] = value
        counts = [bounds[bound] for bound in sorted(bounds)]
        assert counts == sorted(counts)
        assert counts[-1] == of(found, name.removeprefix("pgkeras_").replace("_bucket", "_count"), "1", "gaussian")


def test_queue_time_of_a_slow_policy_is_measured(slow_policy, tmp_path):
    options = ("--http-port", "0", "--max-engines", "1")  # one batch at a time
    with running(slow_policy, tmp_path, *options) as server, PolicyClient(server.target) as client:
        client.describe()

        async def main():
            calls = [asyncio.to_thread(client.act, np.zeros((4096, 4), np.float32), timeout=60) for _ in range(3)]
            await asyncio.gather(*calls)

        asyncio.run(main())
        found = samples(page_of(server))
        slow = {"version": "1", "policy": "slow"}
        assert of(found, "queue_seconds_count", **slow) == 3
        assert of(found, "queue_seconds_sum", **slow) > of(found, "inference_seconds_sum", **slow) / 3
        assert of(found, "batch_size_sum", **slow) == 3 * 4096


def test_metrics_are_in_seconds(policies, tmp_path):
    with running(policies, tmp_path, "--http-port", "0") as server, PolicyClient(server.target, "discrete") as client:
        began = time.perf_counter()
        for _ in range(200):
            client.act(np.zeros((256, 4), np.float32))
        elapsed = time.perf_counter() - began
        found = samples(page_of(server))
        # Part of the elapsed time, but more than a thousandth of it.
        assert elapsed / 1000 < of(found, "inference_seconds_sum") <= of(found, "answer_seconds_sum") <= elapsed
        assert abs(of(found, "policy_load_time_seconds") - time.time()) < 3600


def test_meters_add_up():
    def one():
        meter = Meter(DISCRETE)
        meter.ran(2, 10)
        meter.waited(5)
        meter.answered(answer([5, 7]), False, 0, 10**9, 10**9 + 5)
        meter.settle()
        return meter

    meters = [one(), one(), one()]
    for _ in range(2):  # merging does not change its inputs
        total = Meter.merged(DISCRETE, meters)
        assert total.actions.total().tolist() == [3, 0, 3]
        for name in ("seconds", "queue", "inference", "encoding", "rows"):
            histogram = getattr(total, name)
            assert (histogram.counts.sum(), histogram.total) == (3, 3 * getattr(meters[0], name).total), name


def test_rates_are_not_negative_after_a_counter_reset():
    clock, live = Clock(), None
    for count in (1000, 10):
        meter = Meter(DISCRETE)
        for _ in range(count):
            meter.answered(answer([5]), False, 0, 0, 1000)
        live = live or Live(meter, clock)
        live.meter = meter
        for _ in range(3):
            clock.now += 1
            live.sample()
    recent = live.recent()
    assert recent.observations_per_second >= 0
    assert min(recent.history) >= 0
