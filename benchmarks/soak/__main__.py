"""Runs all or some stress and fault tests of a policy server, and reports their results.

    python -m benchmarks.soak                                  # all tests once: about ten minutes
    python -m benchmarks.soak swaps kills --json soak.json
    python -m benchmarks.soak fuzz --inputs 1000000
    python -m benchmarks.soak --minutes 480                    # all tests, repeatedly

Exits with 1 if a check failed. Latencies are reported, but not checked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import machine
from benchmarks.soak.crowds import crowd
from benchmarks.soak.fuzz import fuzz
from benchmarks.soak.kills import kills
from benchmarks.soak.overload import overload
from benchmarks.soak.policies import export_slow
from benchmarks.soak.remote import remote
from benchmarks.soak.swaps import swaps


def _overload(scratch: Path) -> dict[str, Any]:
    export_slow(scratch / "policies")
    return overload(scratch / "policies", scratch, "--max-queue-seconds", "0.5")


def _faults(name: str, found: dict[str, Any]) -> list[str]:
    checks = {
        "swaps": lambda f: {"failed calls": not f["failed"]},
        "kills": lambda f: {
            "other failures": not f["other_failures"],
            "a client did not go on": f["all_clients_went_on"],
            "the newest version is not served": f["newest_version_is_served"],
        },
        "crowd": lambda f: {
            "failed messages": set(f["playing"]) == {"OK"},
            "idle sessions were lost": f["idle_sessions"] == f["sessions"],
            "failed calls": set(f["calls_beside_idle"]) == {"OK"},
        },
        "overload": lambda f: {"other codes": set(f["codes"]) == {"OK", "RESOURCE_EXHAUSTED"}},
        "remote": lambda f: {"memory grew": f["memory_mb"]["at the end"] < 1.05 * f["memory_mb"]["settled"]},
        "fuzz": lambda f: {"tracebacks": f["tracebacks_of_ours"] == 0},
    }[name](found)
    checks |= {"exit status": found["exit_status"] == 0, "tracebacks in the log": found.get("clean_log", True)}
    return [f"{name}: {fault}" for fault, is_sound in checks.items() if not is_sound]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help="swaps, kills, crowd, overload, remote, fuzz (default: all)")
    parser.add_argument("--json", type=Path, help="write the results to this file, one line each")
    parser.add_argument("--minutes", type=float, default=0.0, help="repeat for this many minutes")
    parser.add_argument("--inputs", type=int, default=100_000, help="fuzz: inputs of each kind (default 100000)")
    parser.add_argument("--swaps", type=int, default=100, help="swaps: number of swaps (default 100)")
    parser.add_argument("--kills", type=int, default=25, help="kills: number of kills (default 25)")
    parser.add_argument("--epochs", type=int, default=1000, help="remote: number of epochs (default 1000)")
    parser.add_argument("--sessions", type=int, default=1000, help="crowd: number of sessions (default 1000)")
    options = parser.parse_args()
    known: dict[str, Callable[[Path], dict[str, Any]]] = {
        "swaps": lambda scratch: swaps(scratch, options.swaps),
        "kills": lambda scratch: kills(scratch, options.kills, seed=int(time.time())),
        "crowd": lambda scratch: crowd(scratch, options.sessions),
        "overload": _overload,
        "remote": lambda scratch: remote(scratch, options.epochs),
        "fuzz": lambda scratch: fuzz(scratch, options.inputs),
    }
    if unknown := set(options.scenarios) - set(known):
        parser.error(f"unknown scenario {', '.join(sorted(unknown))}; known scenarios: {', '.join(known)}")
    faults: list[str] = []
    end = time.monotonic() + options.minutes * 60
    while True:
        for name in options.scenarios or known:
            with tempfile.TemporaryDirectory() as scratch:
                start = time.monotonic()
                found = known[name](Path(scratch))
            found = {"scenario": name, "seconds": round(time.monotonic() - start, 1), **found}
            found |= {"load_average": os.getloadavg(), "machine": machine()}
            print(json.dumps(found, indent=2), flush=True)
            if options.json:
                with options.json.open("a") as stream:
                    stream.write(json.dumps(found) + "\n")
            faults += _faults(name, found)
        if faults or time.monotonic() >= end:
            break
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()
