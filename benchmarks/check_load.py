"""Compares ``pgkeras bench`` with ghz, an independent load tool: the same server, the same load, in alternation.

Unless ghz is on the PATH, ``go install`` installs it into the user's cache directory. Both tools keep the same number
of calls in flight on one connection, in many short, alternating rounds. Other load on the machine only slows a round
down, so each figure is compared by the best rounds of both tools.

    python -m benchmarks.check_load [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import machine, spread, table, write_json
from benchmarks.serving import act_request, started
from benchmarks.soak.server import SHIPPED

_GHZ = "github.com/bojand/ghz/cmd/ghz@v0.121.0"
_PROTOS = Path(__file__).parent.parent / "protos"
_FIGURES = ("calls/s", "p50 ms", "p99 ms")
# Tolerance between the best rounds. The client is part of a closed loop, and ghz is written in another language.
_TOLERANCES = {"calls/s": 0.30, "p50 ms": 0.30, "p99 ms": 0.60}


def ghz() -> str:
    """Returns the path of ghz, and installs it if it is missing.

    Raises:
        SystemExit: Neither ghz nor Go is installed.
    """
    if found := shutil.which("ghz"):
        return found
    directory = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pgkeras" / "bin"
    if not (directory / "ghz").exists():
        if shutil.which("go") is None:
            raise SystemExit("This benchmark needs ghz, or Go to install it: see https://ghz.sh")
        print(f"Installing ghz into {directory}.", file=sys.stderr)
        subprocess.run(["go", "install", _GHZ], check=True, env={**os.environ, "GOBIN": str(directory)})
    return str(directory / "ghz")


def by_ghz(program: str, target: str, payload: Path, in_flight: int, seconds: float) -> dict[str, float]:
    """Returns the measurements of ghz."""
    command = [program, "--insecure", "--proto", "pgkeras/v1/service.proto", "--import-paths", str(_PROTOS)]
    command += ["--call", "pgkeras.v1.PolicyService.Act", "--binary-file", str(payload)]
    command += ["-c", str(in_flight), "--connections", "1", "-z", f"{seconds}s", "--duration-stop", "wait"]
    command += ["--format", "json", target]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if set(found["statusCodeDistribution"]) != {"OK"}:
        raise RuntimeError(f"ghz saw failures: {found['statusCodeDistribution']}")
    latencies = {row["percentage"]: row["latency"] / 1e6 for row in found["latencyDistribution"]}
    return {"calls/s": found["rps"], "p50 ms": latencies[50], "p99 ms": latencies[99]}


def by_bench(target: str, in_flight: int, seconds: float) -> dict[str, float]:
    """Returns the measurements of ``pgkeras bench``."""
    command = [sys.executable, "-m", "pgkeras", "bench", "--target", target, "--concurrency", str(in_flight)]
    command += ["--duration", str(seconds), "--warmup", "0.2", "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if set(found["codes"]) != {"OK"}:
        raise RuntimeError(f"pgkeras bench saw failures: {found['codes']}")
    latencies = found["latency_ms"]
    return {"calls/s": found["answered_per_second"], "p50 ms": latencies["p50"], "p99 ms": latencies["p99"]}


def measure(rounds: int, seconds: float) -> list[dict[str, Any]]:
    program = ghz()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        payload = scratch / "payload"
        payload.write_bytes(act_request(None))
        server = stack.enter_context(started("pgkeras", "serve", str(SHIPPED), "--port", "0"))
        target = server.line().rsplit(" ", 1)[1]
        results = []
        for in_flight in (1, 8, 64):
            found: dict[str, list[dict[str, float]]] = {"bench": [], "ghz": []}
            for turn in range(rounds):
                for name in sorted(found, reverse=bool(turn % 2)):
                    one = (
                        by_bench(target, in_flight, seconds)
                        if name == "bench"
                        else by_ghz(program, target, payload, in_flight, seconds)
                    )
                    found[name].append(one)
            results.append({"in_flight": in_flight, **found})
    return results


def summarize(results: list[dict[str, Any]]) -> tuple[str, bool]:
    """Returns the results as a table, and whether every figure is within its tolerance."""
    rows, agree = [], True
    for result in results:
        for figure in _FIGURES:
            ours, theirs = ([one[figure] for one in result[name]] for name in ("bench", "ghz"))
            best = max if figure == "calls/s" else min
            ratio = best(ours) / best(theirs)
            tolerance = _TOLERANCES[figure]
            within = 1 / (1 + tolerance) <= ratio <= 1 + tolerance
            agree &= within
            rows.append(
                {
                    "in flight": result["in_flight"],
                    "figure": figure,
                    "pgkeras bench, median (range)": spread(ours),
                    "ghz, median (range)": spread(theirs),
                    "ratio of the best": f"{ratio:.2f}",
                    "tolerance": f"{1 / (1 + tolerance):.2f} to {1 + tolerance:.2f}" + ("" if within else ": MISSED"),
                }
            )
    return table(rows), agree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each tool (default 10)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round, in seconds (default 1)")
    options = parser.parse_args()
    results = measure(options.rounds, options.seconds)
    text, agree = summarize(results)
    print(text)
    print(", ".join(f"{key} {value}" for key, value in machine().items()), "load", os.getloadavg())
    write_json(options.json, " ".join(["python -m benchmarks.check_load", *sys.argv[1:]]), results)
    sys.exit(0 if agree else "pgkeras bench and ghz disagree")


if __name__ == "__main__":
    main()
