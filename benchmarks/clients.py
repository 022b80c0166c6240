"""Measures sessions of every client, compared with a bare echo in its language's gRPC library.

Each client's benchmark program (``conformance/README.md`` describes it) plays with ``pgkeras serve``, and with an echo
server that it starts in another process. The two alternate in many short rounds, which cancels drift of the machine. A
ratio is the median over rounds of (session / echo). The policy server is Python in every row, so the ratio mainly
compares Python's gRPC library with that of the language.

python -m benchmarks.clients [--client NAME ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import table, write_json
from benchmarks.soak.server import SHIPPED
from conformance.clients import Client, environment, find_all
from conformance.servers import serve

ENVIRONMENTS = (1, 256)


class Program:
    """A client's benchmark program.

    Args:
        process: The running process, which waits for commands.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, *words: object) -> dict[str, Any]:
        """Sends a command and returns its result.

        Raises:
            RuntimeError: The program ended instead.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the benchmark program ended at the command {words}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def started(client: Client) -> Iterator[Program]:
    """Starts a client's benchmark program."""
    process = subprocess.Popen(
        client.command(client.bench),
        cwd=client.directory,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.communicate()


def measure(client: Client, target: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Alternates play and echo, with one environment and with many. Returns one result per number of environments."""
    with started(client) as server, started(client) as program:
        ends = {"play": target, "echo": f"127.0.0.1:{server.ask('serve')['port']}"}
        for verb, end in ends.items():  # warm-up: virtual machines compile frequent code
            program.ask(verb, end, 1, seconds)
        return [_compare(program, ends, environments, rounds, seconds) for environments in ENVIRONMENTS]


def _compare(program: Program, ends: dict[str, str], environments: int, rounds: int, seconds: float) -> dict[str, Any]:
    taken: dict[str, list[dict[str, Any]]] = {verb: [] for verb in ends}
    for turn in range(rounds):
        for verb in sorted(ends, reverse=bool(turn % 2)):
            taken[verb].append(program.ask(verb, ends[verb], environments, seconds))
    rates = {verb: [one["messages"] / one["seconds"] for one in answers] for verb, answers in taken.items()}
    return {
        "environments": environments,
        "ratio": statistics.median(ours / bare for ours, bare in zip(rates["play"], rates["echo"], strict=True)),
        **{f"{verb}_messages_per_second": statistics.median(rates[verb]) for verb in ends},
        **{
            f"{verb}_{share}": statistics.median(one[share] for one in taken[verb])
            for verb in ends
            for share in ("p50_us", "p99_us")
        },
    }


def rows(client: str, results: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Formats a client's results."""
    for one in results:
        count = one["environments"]
        yield {
            "client": client,
            "environments": count,
            "steps/s": f"{one['play_messages_per_second'] * count:,.0f}",
            "p50 us": f"{one['play_p50_us']:,.0f}",
            "p99 us": f"{one['play_p99_us']:,.0f}",
            "echo steps/s": f"{one['echo_messages_per_second'] * count:,.0f}",
            "echo p50 us": f"{one['echo_p50_us']:,.0f}",
            "echo p99 us": f"{one['echo_p99_us']:,.0f}",
            "ratio": f"{one['ratio']:.2f}",
        }


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ready = [client for client in find_all() if client.bench]
    parser.add_argument("--client", action="append", choices=[client.name for client in ready], help="only this client")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each (default 10)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round in seconds (default 1)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch, serve(SHIPPED, Path(scratch)) as server:
        for client in ready:
            if options.client and client.name not in options.client:
                continue
            if missing := client.missing():
                print(f"{client.name}: skipped, {', '.join(missing)} not installed", file=sys.stderr)
                continue
            for command in client.build:
                client.run(client.command(command), output=sys.stderr)
            found[client.name] = measure(client, server.target, options.rounds, options.seconds)
    print(table(row for name, results in found.items() for row in rows(name, results)))
    write_json(options.json, "python -m benchmarks.clients", found)


if __name__ == "__main__":
    main()
