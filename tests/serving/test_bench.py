"""The load generator: the messages it sends and what it measures."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import repeat

import grpc
import numpy as np
import pytest

from pgkeras import bench
from pgkeras.bench import loops
from pgkeras.bench.messages import random_values
from pgkeras.bench.report import QUANTILES, quantiles
from pgkeras.client import PolicyClient, Tls
from pgkeras.errors import ConfigError, PolicyNotFoundError, ServerUnavailableError, UnauthenticatedError
from pgkeras.protocol.wire import encode_tensor
from pgkeras.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from pgkeras.v1 import policy_pb2, service_pb2, tensors_pb2
from tests.serving.conftest import run_cli, running, wait_until
from tests.serving.transport.certificates import Authority

SPACES = [
    Box(np.array([-1.0, 2.0]), np.array([1.0, 2.0]), np.dtype(np.float32)),
    Box(np.array([-np.inf, 0.0, -np.inf]), np.array([np.inf, np.inf, -3.0]), np.dtype(np.float64)),
    Box(np.full((2, 2), -1.7e308), np.full((2, 2), 1.7e308), np.dtype(np.float64)),
    Box(np.zeros((8, 8, 3)), np.full((8, 8, 3), 255.0), np.dtype(np.uint8)),
    Box(np.full(3, -5.0), np.full(3, 5.0), np.dtype(np.int16)),
    Box(np.zeros((4, 4)), np.ones((4, 4)), np.dtype(np.bool_)),
    Box(np.full(2, float(-(2**63))), np.full(2, float(2**63)), np.dtype(np.int64)),
    Discrete(4, start=-2),
    MultiDiscrete(np.array([2, 5]), np.array([0, -1]), np.dtype(np.int64)),
    MultiBinary((2, 3)),
]


STRUCTURES = [
    Text(3, 12, "abc", ("a", "b", "c"), 2),
    Text(2, 40, vocabulary=("go", "to"), max_tokens=4),
    Dict({"image": SPACES[3], "more": Tuple((SPACES[0], Text(vocabulary=("go",), max_tokens=1), Discrete(3)))}),
]


@pytest.mark.parametrize("space", STRUCTURES, ids=str)
def test_random_observations_may_have_structure(space):
    batch, has_batch_axis = space.batched(random_values(space, 50, np.random.default_rng(0)))
    assert has_batch_axis
    assert len(str(batch)) > 100


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_random_observations_are_in_the_space_and_reach_its_bounds(space):
    values = random_values(space, 2000, np.random.default_rng(0))
    batch, _ = space.batched(values)
    assert batch.shape == (2000, *space.shape)
    if not isinstance(space, Box):
        bounds = {"Discrete": (-2, 1), "MultiDiscrete": ([0, -1], [1, 3]), "MultiBinary": (False, True)}
        low, high = bounds[type(space).__name__]
        assert (values.min(axis=0) == low).all()
        assert (values.max(axis=0) == high).all()
        return
    assert (values >= space.low).all()
    assert (values <= space.high).all()
    if space.dtype.kind in "biu" and space.dtype.itemsize < 8:  # 2,000 samples of 2^64 values hardly include the bounds
        assert (values.min(), values.max()) == (space.low.min(), space.high.max())
    elif np.isfinite(space.low).all() and np.isfinite(space.high).all():
        middle, width = space.low / 2 + space.high / 2, space.high / 2 - space.low / 2
        uniform = np.divide(values - middle, width, where=width > 0, out=np.zeros_like(values, np.float64))
        wide = uniform.reshape(2000, -1)[:, (width > 0).ravel()]
        assert wide.var(axis=0) == pytest.approx(1 / 3, rel=0.1), "the variance of a uniform distribution on [-1, 1]"


@pytest.mark.parametrize("count", [1, 2, 9, 1000, 1001])
def test_quantiles_are_the_smallest_values_at_or_above_the_required_share(count):
    values = np.random.default_rng(count).exponential(size=count)
    for name, found in quantiles(values).items():
        enough = [v for v in values if np.sum(values <= v) >= QUANTILES[name] * count - 1e-9]
        assert found == min(enough)
    assert quantiles([]) == {}


@pytest.mark.parametrize("is_poisson", [True, False])
def test_a_schedule_has_the_expected_rate_and_gaps(is_poisson):
    window = loops.Window(100.0, 101.0, 140.0)
    due = np.array(list(loops.schedule(250.0, is_poisson, window, np.random.default_rng(3))))
    gaps = np.diff(due)
    assert 100.0 <= due[0] < due[-1] < 140.0
    assert len(due) == pytest.approx(10_000, abs=400 if is_poisson else 1)
    assert gaps.std() == pytest.approx(1 / 250 if is_poisson else 0.0, abs=2e-4)


# Every pair of values of two parameters occurs.
@pytest.mark.parametrize(
    ("policy", "rpc", "rate"),
    [
        ("discrete", "act", None),
        ("discrete", "play", 200.0),
        ("gaussian", "act", 200.0),
        ("gaussian", "play", None),
    ],
)
def test_every_call_succeeds_and_is_counted(server, policy, rpc, rate):
    load = bench.Load(
        server.target, policy, rpc=rpc, rate=rate, batch=3, connections=2, duration=0.5, warmup=0.1,
        concurrency=4 if rate is None or rpc == "play" else None,
    )  # fmt: skip
    report = bench.run(load)
    assert list(report.codes) == ["OK"]
    assert report.calls == len(report.latencies) > 10
    assert (np.diff(report.latencies) >= 0).all()
    assert report.policy == policy
    if rate is not None:
        assert report.calls == pytest.approx(100, abs=50), "Poisson with mean 100"
    as_json = report.to_json()
    assert as_json["loop"] == ("closed" if rate is None else "open")
    assert as_json["observations_per_second"] == pytest.approx(3 * report.calls / report.seconds)
    assert json.loads(json.dumps(as_json)) == as_json


def test_a_closed_session_frees_its_slot(policies, tmp_path):
    async def play(target: str) -> list[tuple[str, str]]:
        outcomes = []
        async with grpc.aio.insecure_channel(target) as channel:
            for _ in range(3):
                session = loops.SessionCaller(channel, message, deadline=20.0)
                outcomes += [await session.exchange(message), await session.exchange(message)]
                await session.aclose()
                await session.aclose()
        return outcomes

    observation = tensors_pb2.Value(tensor=encode_tensor(np.zeros((1, 4), np.float32)))
    start = encode_tensor(np.ones(1, np.bool_))
    message = service_pb2.PlayRequest(
        policy=policy_pb2.PolicyRef(name="discrete"), observation=observation, episode_start=start
    ).SerializeToString()
    with running(policies, tmp_path, "--max-sessions", "1") as server:
        assert asyncio.run(play(server.target)) == [("OK", "")] * 6


def test_an_open_loop_measures_a_stall_in_every_delayed_call(policies, tmp_path):
    shares = {}
    with running(policies, tmp_path) as server:
        for name, options in (
            ("closed", {"concurrency": 2}),
            ("open", {"rate": 200.0}),
            ("open play", {"rate": 200.0, "rpc": "play", "concurrency": 2}),
        ):
            load = bench.Load(server.target, "discrete", duration=1.5, warmup=0.1, **options)
            record = loops.Record()
            stall = threading.Thread(target=_stall, args=(server.process.pid, record))
            stall.start()
            report = bench.run(load, record=record)
            stall.join()
            assert list(report.codes) == ["OK"]
            shares[name] = np.mean(report.latencies > 0.3)
            assert report.latencies[-1] > 0.5, "the server stood still for 0.6 s"
    # The server stands still for 0.6 s of 1.5 s. Calls due in the first half of that wait for more than 0.3 s.
    assert shares["open"] > 0.1
    assert shares["open play"] > 0.1, "messages count from when they were due, although the session was blocked"
    assert shares["closed"] < min(shares["open"], shares["open play"]) / 3, (
        "a closed loop makes no calls while it waits"
    )


def _stall(pid, record):
    wait_until(lambda: len(record.latencies["OK"]) > 20)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.6)
    os.kill(pid, signal.SIGCONT)


def test_failures_are_counted_by_code_and_sessions_are_reopened(policies, tmp_path):
    with running(policies, tmp_path, "--max-sessions", "2") as server:
        report = bench.run(bench.Load(server.target, "discrete", rpc="play", concurrency=3, duration=0.5, warmup=0.0))
        assert {"OK", "RESOURCE_EXHAUSTED"} <= set(report.codes) <= {"OK", "RESOURCE_EXHAUSTED", "UNKNOWN"}
        assert len(report.latencies) == report.codes["OK"]
        record = loops.Record()
        kill = threading.Thread(target=_kill, args=(server.process, record))
        kill.start()
        report = bench.run(bench.Load(server.target, "discrete", duration=1.0, warmup=0.0), record=record)
        kill.join()
        assert report.codes["UNAVAILABLE"] > 0


def _kill(process, record):
    wait_until(lambda: len(record.latencies["OK"]) > 20)
    process.kill()


def test_messages_that_a_session_could_not_send_in_time_fail():
    async def main():
        async def ask(payload):
            sent.append(payload)
            await asyncio.sleep(0.05)
            return "OK", ""

        begin = time.perf_counter()
        window = loops.Window(begin, begin, begin + 1.0)
        due = list(loops.schedule(100.0, False, window, np.random.default_rng(0)))
        await loops.step_on_schedule(ask, repeat(b""), iter(due), 0.2, window, record)
        return len(due)

    sent, record = [], loops.Record()
    number = asyncio.run(main())
    answered, late = (len(record.latencies[code]) for code in ("OK", "DEADLINE_EXCEEDED"))
    assert answered + late == number
    assert answered == len(sent) < number / 2, "at 0.05 s per message it can send 20 of the 100"
    assert min(record.latencies["DEADLINE_EXCEEDED"]) > 0.2
    assert "not sent in time" in record.reasons["DEADLINE_EXCEEDED"]


def test_the_command_fails_with_the_reason_when_no_call_succeeds(policies, tmp_path):
    with running(policies, tmp_path, "--max-batch-size", "2") as server:
        options = ("--target", server.target, "--policy", "discrete", "--duration", "0.3", "--warmup", "0")
        options += ("--batch", "3")
        finished = run_cli("bench", *options)
        as_json = run_cli("bench", *options, "--rpc", "play", "--json")
    assert finished.returncode == as_json.returncode == 1
    assert "no call was answered with OK" in finished.stderr
    assert "INVALID_ARGUMENT: observation: expected at most 2 observations, got 3" in finished.stdout
    assert json.loads(as_json.stdout)["reasons"] == {
        "INVALID_ARGUMENT": "observation: expected at most 2 observations, got 3"
    }


def test_a_generator_that_cannot_keep_up_reports_its_lag(server):
    report = bench.run(bench.Load(server.target, "discrete", rate=50_000.0, duration=0.03, warmup=0.0, timeout=60.0))
    assert not report.kept_up
    assert "could not keep up" in str(report)
    assert report.to_json()["generator"]["lag_ms"]["p99"] > 1.0
    assert report.latencies[-1] > report.lags["p50"], "latencies count from when a call was due"


def test_the_command_prints_json_and_plots(server, tmp_path):
    plot = tmp_path / "latency.png"
    options = ("--target", server.target, "--policy", "discrete", "--duration", "0.3", "--warmup", "0")
    finished = run_cli("bench", *options, "--json", "--plot", str(plot))
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert list(report["latency_ms"]) == ["p50", "p90", "p99", "p99.9", "max"]
    assert sorted(report["latency_ms"].values()) == list(report["latency_ms"].values())
    assert plot.read_bytes().startswith(b"\x89PNG")
    text = run_cli("bench", *options, "--rpc", "play", "--rate", "50")
    assert text.returncode == 0, text.stderr
    assert "open loop, 50 per second, poisson arrivals, 8 sessions" in text.stdout


def test_invalid_loads_and_targets_are_refused(server):
    with PolicyClient(server.target) as client:
        target = client.target
    for options, message in (
        ({"rate": 0.0}, "rate: expected a finite number above 0"),
        ({"rate": float("nan")}, "rate: expected"),
        ({"concurrency": 0}, "concurrency: expected"),
        ({"duration": float("inf")}, "duration: expected"),
        ({"rate": 1.0, "concurrency": 2}, "rate and concurrency exclude each other"),
    ):
        with pytest.raises(ConfigError, match=message):
            bench.Load(target, **options)
    with pytest.raises(PolicyNotFoundError):
        bench.run(bench.Load(target, "nobody"))
    with pytest.raises(ServerUnavailableError):
        bench.run(bench.Load("127.0.0.1:1", timeout=5.0))
    finished = run_cli("bench", "--target", target, "--policy", "discrete", "--rate", "-1")
    assert finished.returncode == 1
    assert "Error: rate: expected a finite number above 0" in finished.stderr
    finished = run_cli("bench", "--target", target, "--policy", "discrete", "--plot", "nowhere/x.png")
    assert finished.returncode == 1
    assert "Error: --plot nowhere/x.png: directory nowhere does not exist; create it" in finished.stderr


def test_it_calls_a_server_that_requires_tls_and_a_token(policies, tmp_path):
    authority, tokens = Authority(tmp_path), tmp_path / "tokens"
    certificate, key = authority.issue("server")
    token = run_cli("token", "bench", "--file", str(tokens)).stdout.strip()
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(tokens))
    with running(policies, tmp_path, *options) as server:
        for rpc in ("act", "play"):
            load = bench.Load(server.target, "discrete", rpc=rpc, duration=0.3, warmup=0.0)
            report = bench.run(load, tls=Tls(ca=authority.file), token=token)
            assert list(report.codes) == ["OK"]
            assert report.calls > 0
        with pytest.raises(UnauthenticatedError):
            bench.run(load, tls=Tls(ca=authority.file))


def test_it_imports_nothing_heavy_and_names_the_missing_extra(server):
    block = "import sys\nfor name in ('tensorflow', 'keras', 'gymnasium', 'ai_edge_litert', 'matplotlib'): "
    block += "sys.modules[name] = None\n"
    arguments = ["pgkeras", "bench", "--target", server.target, "--policy", "discrete", "--duration", "0.2"]
    for options, status in ((["--warmup", "0"], 0), (["--plot", "x.png"], 1)):
        code = f"{block}sys.argv = {arguments + options!r}\nfrom pgkeras.cli import main\nmain()"
        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert finished.returncode == status, finished.stderr
    assert 'pip install "pgkeras[plot]"' in finished.stderr


def test_a_window_without_a_call_is_reported(server):
    done = run_cli("bench", "--target", server.target, "--policy", "discrete", "--duration", "1", "--rate", "0.01")
    assert "Traceback" not in done.stderr
    assert "calls     none in" in done.stdout


def test_calls_before_the_window_are_not_counted():
    async def main():
        asked = []

        async def ask(_):
            asked.append(time.perf_counter())
            await asyncio.sleep(0.005)
            return "OK", ""

        def window():
            begin = time.perf_counter()
            return loops.Window(begin, begin + 0.2, begin + 0.4)

        opened, closed = loops.Record(), loops.Record()
        of_schedule = window()
        due = list(loops.schedule(100.0, False, of_schedule, np.random.default_rng(0)))
        await loops.send_on_schedule(repeat(ask), repeat(b""), iter(due), of_schedule, opened)
        assert len(opened.latencies["OK"]) == sum(moment >= of_schedule.start for moment in due) < len(due)
        asked.clear()
        of_asking = window()
        await loops.keep_asking(ask, repeat(b""), of_asking, closed)
        inside = sum(moment >= of_asking.start for moment in asked)
        assert abs(len(closed.latencies["OK"]) - inside) <= 1 < len(asked) - inside

    asyncio.run(main())
