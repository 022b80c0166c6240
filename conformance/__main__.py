"""Checks clients: builds them, and runs their tests, the scenarios and their simulators.

python -m conformance                       checks every client whose toolchain is installed
python -m conformance --require go,rust     also fails if one of these was skipped; "all" means all but optional clients
python -m conformance --generate            only regenerates the committed stubs
python -m conformance --program 'COMMAND'   runs only the scenarios, with your program
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from conformance import fixtures
from conformance.clients import Client, find_all
from conformance.runner import Stage, play_cartpole, run_program, stage
from conformance.teaching import is_refused, survives, teach_and_play

SOLVED = 475.0


def main() -> None:
    """Checks clients, and exits with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [client.name for client in find_all()]
    parser.add_argument("--client", action="append", choices=known, help="check only this client; can be repeated")
    parser.add_argument("--program", help="run the scenarios with this conformance program instead of the clients")
    parser.add_argument("--require", default="", help="comma-separated clients that must not be skipped, or all")
    parser.add_argument("--generate", action="store_true", help="only generate the committed stubs")
    options = parser.parse_args()
    required = set(filter(None, options.require.split(",")))
    if required == {"all"}:
        required = {client.name for client in find_all() if not client.optional}
    if not required <= set(known):
        unknown = ", ".join(sorted(required - set(known)))
        parser.error(f"--require: unknown client {unknown}; known clients: {', '.join(known)}")
    chosen = [client for client in find_all() if not options.client or client.name in options.client]
    if options.generate:
        _generate(chosen)
        return
    with tempfile.TemporaryDirectory() as scratch:
        policies = Path(scratch) / "policies"
        fixtures.export(policies)
        with stage(policies, Path(scratch)) as servers:
            if options.program is not None:
                failures = _scenarios("program", shlex.split(options.program), servers, Path.cwd())
            else:
                failures = [f for client in chosen for f in _check(client, servers, client.name in required)]
    print(f"\n{len(failures)} failures" + "".join(f"\n  {failure}" for failure in failures))
    sys.exit(bool(failures))


def _generate(clients: list[Client]) -> None:
    for client in clients:
        if client.generate and client.missing():
            print(f"{client.name}: not generated because {', '.join(client.missing())} is not installed")
            continue
        for command in client.generate:
            client.run(client.command(command))


def _check(client: Client, servers: Stage, required: bool) -> list[str]:
    print(f"\n== {client.name}", flush=True)
    if missing := client.missing():
        print(f"skipped: {', '.join(missing)} not installed", flush=True)
        return [f"{client.name}: required, but {', '.join(missing)} not installed"] if required else []
    try:
        for command in [*client.build, *client.test]:
            print(f"   $ {shlex.join(command)}", flush=True)
            client.run(client.command(command))
    except (OSError, subprocess.SubprocessError) as error:
        return [f"{client.name}: {error}"]
    if not client.conformance:
        print("skipped: the scenarios, because the client has no program for them", flush=True)
        return []
    failures = _scenarios(client.name, client.command(client.conformance), servers, client.directory)
    return failures + _simulate(client, servers) + _teach(client)


def _scenarios(name: str, command: list[str], servers: Stage, directory: Path) -> list[str]:
    outcomes = run_program(command, servers, directory)
    for outcome in outcomes:
        print(f"{outcome.status} {outcome.scenario}" + (f": {outcome.reason}" if outcome.reason else ""), flush=True)
    return [f"{name}: {o.scenario}: {o.reason}" for o in outcomes if o.status == "FAIL"]


def _simulate(client: Client, servers: Stage) -> list[str]:
    command = client.command(client.cartpole)
    try:
        report = play_cartpole(command, servers.target, client.directory, "--episodes", "20")
        print(f"20 episodes: mean return {report['mean_return']:g}", flush=True)
        options = ("--environments", "256", "--steps", "200")
        speed = play_cartpole(command, servers.target, client.directory, *options)["environment_steps_per_second"]
        print(f"256 environments: {speed:,.0f} steps/s", flush=True)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        return [f"{client.name}: simulator: {error}"]
    if report["episodes"] != 20 or report["mean_return"] < SOLVED:
        return [f"{client.name}: simulator: expected a mean return of at least {SOLVED:g}, got {report}"]
    return []


def _teach(client: Client) -> list[str]:
    if not client.teach:
        print("skipped: training a policy, because the client has no program for it", flush=True)
        return []
    try:
        for check, done in (
            (is_refused, "other spaces are refused"),
            (survives, "the simulator survives the loss of another one and a restart of the run"),
        ):
            with tempfile.TemporaryDirectory() as scratch:
                check(client, Path(scratch))
            print(f"teaching: {done}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            report = teach_and_play(client, Path(scratch))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return [f"{client.name}: teaching: {error}"]
    print(f"trained CartPole; 20 episodes with the trained policy: mean return {report['mean_return']:g}", flush=True)
    if report["mean_return"] < SOLVED:
        return [f"{client.name}: teaching: expected a mean return of at least {SOLVED:g}, got {report}"]
    return []


if __name__ == "__main__":
    main()
