"""Compares serving with its upper bound, a bare ``grpc.aio`` echo server in the same run.

The two servers alternate in many short rounds, which cancels drift of the machine. A ratio is the median over rounds of
(ours / echo). The client is gRPC's C core in a separate process, which sends serialized requests.

    python -m benchmarks.serving [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pgkeras_serving.messages.act import PolicyCodec
from pgkeras_serving.policies.store import Store
from pgkeras_serving.settings.config import ServerConfig

from pgkeras import engines
from pgkeras.bundle import bundle
from pgkeras.engines import noise
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import service_pb2, tensors_pb2

_EXPORT = """
import sys
from pathlib import Path
import numpy as np
from pgkeras.export import export_policy
from pgkeras.policy import Policy
from pgkeras.spaces import Box, Discrete
observations = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float32))
export_policy(Policy(observations, Discrete(2)), Path(sys.argv[1]), "mlp", {})
"""

EXPORT_CNN = """
import sys
from pathlib import Path
import numpy as np
from pgkeras.export import export_policy
from pgkeras.policy import Policy
from pgkeras.spaces import Box, Discrete
images = Box(np.zeros((84, 84, 4)), np.full((84, 84, 4), 255.0), np.dtype(np.uint8))
export_policy(Policy(images, Discrete(6)), Path(sys.argv[1]), "cnn", {})
"""
_IMAGES = ((32, 3), (128, 1))  # images per call, and calls in flight

PACKAGES = ("pgkeras", "grpcio", "protobuf", "numpy", "ai-edge-litert")
"""The packages whose versions are saved with the results."""
_TARGETS = {"Act": 0.85, "Play": 0.75, "observations/s": 150_000, "ready s": 1.0, "RSS MB": 120, "act us": 25}


class Process:
    """A server or load generator process, and its resource usage."""

    def __init__(self, *command: str) -> None:
        arguments = [sys.executable, "-m", *command]
        self.popen = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def line(self) -> str:
        """Returns the next line that the process prints."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Sends a command and waits for its result."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(command) + "\n")
        self.popen.stdin.flush()
        answer: dict[str, Any] = json.loads(self.line())
        return answer

    def cpu_seconds(self) -> float:
        """Returns the user and system time of all threads so far."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def rss_mb(self) -> float:
        """Returns the resident memory in MiB."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextlib.contextmanager
def started(*command: str) -> Iterator[Process]:
    process = Process(*command)
    try:
        yield process
    finally:
        process.popen.kill()
        process.popen.communicate()


def act_request(rows: int | None) -> bytes:
    shape = (4,) if rows is None else (rows, 4)
    observation = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return service_pb2.ActRequest(observation=tensors_pb2.Value(tensor=encode_tensor(observation))).SerializeToString()


def play_requests() -> dict[str, str]:
    """Returns the first message of a session of one environment, and the message that it then repeats."""
    observation = tensors_pb2.Value(tensor=encode_tensor(np.zeros((1, 4), np.float32)))
    going_on = encode_tensor(np.zeros(1, np.bool_))
    first = service_pb2.PlayRequest(id=1, observation=observation)
    later = service_pb2.PlayRequest(
        id=1,
        observation=observation,
        reward=encode_tensor(np.ones(1, np.float32)),
        terminated=going_on,
        truncated=going_on,
    )
    return {"first": first.SerializeToString().hex(), "payload": later.SerializeToString().hex()}


def seconds_until_ready(root: Path) -> float:
    """Returns the seconds from the start of the process until its health is SERVING."""
    with tempfile.TemporaryDirectory() as scratch:
        port_file = Path(scratch) / "port"
        start = time.perf_counter()
        with started("pgkeras", "serve", str(root), "--port", "0", "--port-file", str(port_file)):
            while not port_file.exists():
                time.sleep(0.002)
            with grpc.insecure_channel(f"127.0.0.1:{int(port_file.read_text())}") as channel:
                check = health_pb2_grpc.HealthStub(channel).Check
                while check(health_pb2.HealthCheckRequest()).status != health_pb2.HealthCheckResponse.SERVING:
                    time.sleep(0.002)
            return time.perf_counter() - start


def compare(load: Process, servers: dict[str, tuple[Process, str]], messages: dict[str, str], in_flight: int,
            rounds: int, seconds: float) -> dict[str, Any]:  # fmt: skip
    """Measures calls per second of both servers in alternation."""
    rates: dict[str, list[float]] = {name: [] for name in servers}
    calls = dict.fromkeys(servers, 0)
    cpu = dict.fromkeys(servers, 0.0)
    p50: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(rounds):
        for name in sorted(servers, reverse=bool(turn % 2)):
            server, target = servers[name]
            before = server.cpu_seconds()
            answer = load.ask({"target": target, "in_flight": in_flight, "seconds": seconds} | messages)
            cpu[name] += server.cpu_seconds() - before
            calls[name] += answer["calls"]
            rates[name].append(answer["calls"] / answer["seconds"])
            p50[name].append(answer["p50"])
    ratios = [ours / echo for ours, echo in zip(rates["pgkeras"], rates["echo"], strict=True)]
    return {
        "in_flight": in_flight,
        "ratio": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
        **{f"{name}_calls_per_second": statistics.median(rates[name]) for name in servers},
        **{f"{name}_best_calls_per_second": max(rates[name]) for name in servers},
        **{f"{name}_cpu_us_per_call": cpu[name] / calls[name] * 1e6 for name in servers},
        **{f"{name}_p50_ms": statistics.median(p50[name]) * 1e3 for name in servers},
    }


def in_process(root: Path) -> dict[str, float]:
    """Returns microseconds per observation: of the engine, and from request bytes to response bytes."""
    found = bundle.open_bundle(bundle.find(root))
    engine = engines.load(found)
    generator = noise.seeded(0)
    inputs = {"observation": np.zeros((1, 4), np.float32), "noise": noise.draw(generator, found.spec, 1)}
    store = Store(ServerConfig(root))
    store.load()
    codec = PolicyCodec(found.spec, store.policies()[0].version, 4096)
    payload = act_request(None)
    request = service_pb2.ActRequest.FromString(payload)
    codec.decode(request, payload)

    def whole() -> bytes:
        query = codec.recall(payload)
        assert query is not None
        return codec.encode(query, engine.act(query.inputs, query.needs))

    best = {
        "engine": min(timeit.repeat(lambda: engine.act(inputs), number=1000, repeat=20)) * 1e3,
        "decode_act_encode": min(timeit.repeat(whole, number=1000, repeat=20)) * 1e3,
    }
    store.close()
    return best


def images(rounds: int, seconds: float) -> list[dict[str, float]]:
    """Returns milliseconds per image of the server and of the engine, measured in alternation."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subprocess.run([sys.executable, "-c", EXPORT_CNN, str(root)], check=True, stderr=subprocess.DEVNULL)
        server = stack.enter_context(started("pgkeras", "serve", str(root), "--port", "0"))
        target = server.line().rsplit(" ", 1)[1]
        load = stack.enter_context(started("benchmarks.load"))
        found = bundle.open_bundle(bundle.find(root))
        engine = engines.load(found)
        cases = []
        for count, in_flight in _IMAGES:
            pixels = np.random.default_rng(0).integers(0, 256, (count, 84, 84, 4), np.uint8)
            value = tensors_pb2.Value(tensor=encode_tensor(pixels))
            payload = service_pb2.ActRequest(observation=value).SerializeToString().hex()
            command = {"target": target, "in_flight": in_flight, "seconds": seconds, "payload": payload}
            inputs = {"observation": pixels, "noise": noise.draw(noise.seeded(0), found.spec, count)}
            served, bare = [], []
            for _ in range(rounds):
                answer = load.ask(command)
                served.append(answer["seconds"] / answer["calls"] / count)
                calls, began = 0, time.perf_counter()
                while (spent := time.perf_counter() - began) < seconds:
                    engine.act(inputs)
                    calls += 1
                bare.append(spent / calls / count)
            cases.append(
                {
                    "images": count,
                    "in_flight": in_flight,
                    "served_ms": statistics.median(served) * 1e3,
                    "engine_ms": statistics.median(bare) * 1e3,
                    "ratio": statistics.median([a / b for a, b in zip(served, bare, strict=True)]),
                }
            )
    return cases


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subprocess.run([sys.executable, "-c", _EXPORT, str(root)], check=True, stderr=subprocess.DEVNULL)
        ready = [seconds_until_ready(root) for _ in range(5)]
        ours = stack.enter_context(started("pgkeras", "serve", str(root), "--port", "0"))
        target = ours.line().rsplit(" ", 1)[1]
        rss_idle = ours.rss_mb()
        servers = {}
        for rows in (None, 64):
            with grpc.insecure_channel(target) as channel:
                response = channel.unary_unary("/pgkeras.v1.PolicyService/Act")(act_request(rows))
            echo = stack.enter_context(started("benchmarks.echo", response.hex()))
            servers[rows] = {"pgkeras": (ours, target), "echo": (echo, f"127.0.0.1:{echo.line()}")}
        load = stack.enter_context(started("benchmarks.load"))
        cases = [(None, 1), (None, 8), (None, 64), (64, 8)]
        unary = [
            {"rows": rows or 1} | compare(load, servers[rows], {"payload": act_request(rows).hex()}, n, rounds, seconds)
            for rows, n in cases
        ]
        one_action = {"pgkeras": (ours, target), "echo": _play_echo(stack, target)}
        return {
            "unary": unary[:3],
            "play": [{"rows": 1} | compare(load, one_action, play_requests(), n, rounds, seconds) for n in (1, 8, 64)],
            "batch_64": unary[3] | {"observations_per_second": unary[3]["pgkeras_calls_per_second"] * 64},
            "ready_seconds": statistics.median(ready),
            "rss_mb_idle": rss_idle,
            "rss_mb_loaded": ours.rss_mb(),
            "in_process_us": in_process(root),
            "cnn": images(rounds, seconds),
            "load_average": Path("/proc/loadavg").read_text().split()[:3],
            "machine": f"{platform.machine()}, {len(_cpus())} CPUs",
            "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        }


def _play_echo(stack: contextlib.ExitStack, target: str) -> tuple[Process, str]:
    with grpc.insecure_channel(target) as channel:
        play = channel.stream_stream("/pgkeras.v1.PolicyService/Play")
        (answer,) = play(iter([bytes.fromhex(play_requests()["first"])]))
    response = service_pb2.PlayResponse.FromString(answer).act.SerializeToString()
    echo = stack.enter_context(started("benchmarks.echo", response.hex()))
    return echo, f"127.0.0.1:{echo.line()}"


def _cpus() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {line for line in lines if line.startswith("processor")}


def report(result: dict[str, Any]) -> str:
    lines = [
        "method  in flight  rows   ours calls/s   echo calls/s   ratio (quartiles)     CPU us ours, echo   p50 ms ours"
    ]
    cases = [("Act", case) for case in [*result["unary"], result["batch_64"]]]
    for method, case in cases + [("Play", case) for case in result["play"]]:
        low, high = case["ratio_quartiles"]
        lines.append(
            f"{method:6}  {case['in_flight']:>9}  {case['rows']:>4}  {case['pgkeras_calls_per_second']:>13,.0f}  "
            f"{case['echo_calls_per_second']:>13,.0f}   {case['ratio']:.2f} ({low:.2f} to {high:.2f})   "
            f"{case['pgkeras_cpu_us_per_call']:>7.0f}, {case['echo_cpu_us_per_call']:.0f}"
            f"   {case['pgkeras_p50_ms']:>16.2f}"
        )
    act = result["in_process_us"]
    batch, limit = result["batch_64"]["observations_per_second"], _TARGETS
    memory = f"{result['rss_mb_idle']:.0f} MB idle, {result['rss_mb_loaded']:.0f} MB after load"
    times = f"engine {act['engine']:.1f} us, decode + act + encode {act['decode_act_encode']:.1f} us"
    lines.append(f"batch 64 at 8 in flight: {batch:,.0f} observations/s (target {limit['observations/s']:,})")
    lines.append(f"ready in {result['ready_seconds']:.2f} s (target {limit['ready s']}), {memory} ({limit['RSS MB']})")
    lines.append(f"in process, one observation: {times} (target {limit['act us']})")
    lines.extend(
        f"Nature CNN, {cnn['images']} images a call, {cnn['in_flight']} in flight: {cnn['served_ms']:.2f} ms an image, "
        f"engine alone {cnn['engine_ms']:.2f} ms, ratio {cnn['ratio']:.2f} (target 1.2)"
        for cnn in result["cnn"]
    )
    load = " ".join(result["load_average"])
    lines.append(f"ratio targets: Act {limit['Act']}, Play {limit['Play']}; load average {load}; {result['machine']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each server (default 20)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a round in seconds (default 0.5)")
    options = parser.parse_args()
    result = measure(options.rounds, options.seconds)
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
