"""Compares the gradient step on a GPU and on the CPU, for an MLP, a CNN and a GRU, over batch sizes.

``python -m benchmarks.gpu`` measures each device in a separate process. A time is the median of repeated steps on a
batch that is already on the device, followed by the time including the transfer from the host.

Shares refer to the maximum of the same device in the same process: a product of large matrices for floating-point
operations (TF32 on GPUs that have it, as in the step), and a sum of large arrays for bandwidth. Operations are counted
from the layers: two per weight and row in the forward pass, and twice that in the backward pass. Bytes are the minimum:
observations and each layer's output are written once and read once, and the same for their gradients. Small networks
are bound by neither, but by kernel launches.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import machine, table, write_json

_LENGTH = 128  # steps of an episode


class Case(NamedTuple):
    """A network and its observations."""

    shape: tuple[int, ...]
    dtype: str
    settings: dict[str, Any]


CASES = {
    "mlp": Case((17,), "float32", {"hidden": (64, 64)}),
    "wide-mlp": Case((376,), "float32", {"hidden": (256, 256)}),
    "cnn": Case((10, 10, 4), "uint8", {"network": "small_cnn"}),
    "nature-cnn": Case((84, 84, 4), "uint8", {"network": "nature_cnn"}),
    "gru": Case((17,), "float32", {"hidden": (64,), "memory": "gru", "memory_units": 64}),
}
SIZES = (4_096, 16_384, 65_536, 262_144)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=CASES, default=list(CASES), help="measure only these networks")
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES), help="steps per batch")
    parser.add_argument("--devices", nargs="*", choices=["CPU", "GPU"], default=["CPU", "GPU"], help="only these")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each size (at least 3 repetitions)")
    width = "width of the large matrices; the default depends on the device"
    parser.add_argument("--matrix", type=int, default=0, help=width)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--one", choices=["CPU", "GPU"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        for line in measure(options.one, options.networks, options.sizes, options.seconds, options.matrix):
            print(json.dumps(line), flush=True)
        return
    results = []
    for device in options.devices:
        command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:], "--one", device]
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
        ):
            assert process.stdout is not None
            for text in process.stdout:
                results.append(json.loads(text))
                print(results[-1], flush=True)
            if process.wait():
                errors.seek(0)
                raise SystemExit(f"{device}: the measurement failed:\n{errors.read()[-4000:]}")
    print(f"\n{machine()}\n")
    print(report(results))
    write_json(options.json, "python -m benchmarks.gpu " + " ".join(sys.argv[1:]), results)


def measure(
    device: str, networks: list[str], sizes: list[int], seconds: float, matrix: int
) -> Iterator[dict[str, Any]]:
    """Yields one line per network and size, measured in this process on one kind of device."""
    from pgkeras.backend import tf

    gpus = tf.config.list_physical_devices("GPU")
    if device == "CPU":
        tf.config.set_visible_devices([], "GPU")
        name = f"CPU: {machine()['processor']}"
    elif not gpus:
        yield {"device": "GPU", "note": "TensorFlow sees none"}
        return
    else:
        details = tf.config.experimental.get_device_details(gpus[0])
        name = f"GPU: {details.get('device_name', gpus[0].name)}"
    rates = reached(matrix or (8192 if device == "GPU" else 2048), seconds)
    yield {"device": name, **rates}
    for network in networks:
        for size in sizes:
            line = {"device": name, "network": network, "steps": size}
            try:
                yield line | timed(network, size, seconds, rates)
            except tf.errors.ResourceExhaustedError:
                yield line | {"note": "out of memory"}


def reached(matrix: int, seconds: float) -> dict[str, float]:
    """Returns the floating-point operations and the bytes per second that the device reaches."""
    from pgkeras.backend import tf

    a = tf.random.stateless_normal([matrix, matrix], [0, 1])
    # Reads one number back, which waits until the product is complete.
    product = tf.function(lambda: tf.linalg.matmul(a, a)[0, 0])
    array = tf.zeros([matrix * matrix * 4])
    addition = tf.function(lambda: (array + 1.0)[0])
    return {
        "flops_per_second": 2 * matrix**3 / min(_seconds(lambda: product().numpy(), seconds)),
        "bytes_per_second": 2 * 4 * matrix**2 * 4 / min(_seconds(lambda: addition().numpy(), seconds)),
    }


def timed(network: str, size: int, seconds: float, rates: dict[str, float]) -> dict[str, Any]:
    """Returns the time of one gradient step, and its share of the device's maximum."""
    from pgkeras.backend import keras
    from pgkeras.policy.policy import Policy
    from pgkeras.reinforce.train_step import TrainStep
    from pgkeras.settings.groups import NetworkSettings
    from pgkeras.spaces import Discrete

    case = CASES[network]
    policy = Policy(space(case), Discrete(6), settings=NetworkSettings(**case.settings))
    step = TrainStep(policy, keras.optimizers.Adam(1e-5), clip_norm=0.5)
    trajectory, advantage = _episodes(case, size)
    batch = step.batch(trajectory, advantage)
    rows = trajectory.steps
    on_device = statistics.median(_seconds(lambda: step.apply(batch), seconds))
    whole = statistics.median(_seconds(lambda: step(trajectory, advantage), seconds))
    operations, outputs = counts(policy)
    moved = rows * (np.prod(case.shape) * np.dtype(case.dtype).itemsize + 4 * 4 * outputs)
    return {
        "milliseconds": on_device * 1e3,
        "with_transfer_milliseconds": whole * 1e3,
        "steps_per_second": rows / on_device,
        "flops_share": 3 * operations * rows / on_device / rates["flops_per_second"],
        "bytes_share": float(moved / on_device / rates["bytes_per_second"]),
    }


def space(case: Case) -> Any:
    """Returns the observation space of a case."""
    from pgkeras.spaces import Box

    low, high = (0, 255) if case.dtype == "uint8" else (-np.inf, np.inf)
    return Box(np.full(case.shape, low), np.full(case.shape, high), np.dtype(case.dtype))


def counts(policy: Any) -> tuple[int, int]:
    """Returns the floating-point operations of one forward step, and the number of outputs of its layers."""
    from pgkeras.backend import keras
    from pgkeras.reinforce.frozen_policy import layers

    operations = outputs = 0
    for layer in layers(policy.model):
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            positions = math.prod(layer.output.shape[1:-1])
            operations += 2 * positions * math.prod(layer.kernel.shape)
            outputs += positions * layer.kernel.shape[-1]
    weights = dict(zip(policy.names, policy.variables, strict=True))
    recurrent = [v for name, v in weights.items() if "_cell/" in name and name.endswith("kernel")]
    operations += 2 * sum(math.prod(kernel.shape) for kernel in recurrent)
    outputs += policy.spec.state_size
    return operations, outputs


def _episodes(case: Case, size: int) -> tuple[Any, np.ndarray]:
    """Returns episodes of random steps, all of the same length."""
    from pgkeras.environments.trajectory import Trajectory

    generator = np.random.default_rng(0)
    shape = (min(size, _LENGTH), max(1, size // _LENGTH))
    if case.dtype == "uint8":
        observations = generator.integers(0, 256, (*shape, *case.shape), np.uint8)
    else:
        observations = generator.standard_normal((*shape, *case.shape), np.float32)
    trajectory = Trajectory(
        observations=observations,
        samples=generator.integers(0, 6, shape),
        rewards=np.zeros(shape),
        lengths=np.full(shape[1], shape[0]),
        terminated=np.ones(shape[1], np.bool_),
        final_observations=observations[-1],
    )
    return trajectory, generator.standard_normal(shape)


def _seconds(call: Callable[[], Any], seconds: float) -> list[float]:
    """Returns the seconds of each of several calls, after a warm-up call."""
    call()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def report(results: list[dict[str, Any]]) -> str:
    """Formats the results as a table, with the speedup over the CPU if both were measured."""
    of_cpu = {(r["network"], r["steps"]): r for r in results if "network" in r and r["device"].startswith("CPU")}
    rows = []
    for result in results:
        row = {"device": result["device"], "network": result.get("network", "reached by large arrays")}
        row |= {"steps": f"{result['steps']:,}" if "steps" in result else ""}
        if "note" in result:
            row |= {"ms": result["note"]}
        elif "network" not in result:
            tera, giga = result["flops_per_second"] / 1e12, result["bytes_per_second"] / 1e9
            row |= {"of FLOP/s": f"{tera:.2f} TFLOP/s", "of bandwidth": f"{giga:.0f} GB/s"}
        else:
            beside = of_cpu.get((result["network"], result["steps"]), {})
            faster = math.nan if result is beside else beside.get("milliseconds", math.nan) / result["milliseconds"]
            row |= {
                "ms": f"{result['milliseconds']:.2f}",
                "with transfer": f"{result['with_transfer_milliseconds']:.2f}",
                "steps/s": f"{result['steps_per_second']:,.0f}",
                "of FLOP/s": f"{result['flops_share']:.1%}",
                "of bandwidth": f"{result['bytes_share']:.1%}",
                "times the CPU": "" if math.isnan(faster) else f"{faster:.1f}",
            }
        rows.append(row)
    head = [
        "device",
        "network",
        "steps",
        "ms",
        "with transfer",
        "steps/s",
        "of FLOP/s",
        "of bandwidth",
        "times the CPU",
    ]
    return table([{key: row.get(key, "") for key in head} for row in rows])


if __name__ == "__main__":
    main()
