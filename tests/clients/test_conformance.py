"""The conformance suite: its lists agree, the Python client passes, and a program that lies is found out."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from benchmarks import clients as benchmark
from conformance import fixtures, runner
from conformance.clients import find_all

HERE = runner.HERE
PYTHON = next(client for client in find_all() if client.name == "python")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("stage")
    fixtures.export(scratch / "policies")
    with runner.stage(scratch / "policies", scratch) as servers:
        yield servers


def test_the_lists_of_scenarios_agree():
    assert re.findall(r"^## (.*)$", (HERE / "scenarios.md").read_text(encoding="utf-8"), re.M) == runner.scenarios()


@pytest.mark.slow  # beside all other clients it is run by make test-clients
def test_the_python_client_passes(stage):
    outcomes = runner.run_program(PYTHON.command(PYTHON.conformance), stage, PYTHON.directory)
    assert [outcome for outcome in outcomes if outcome.status != "PASS"] == []
    assert [outcome.scenario for outcome in outcomes] == runner.scenarios()


@pytest.mark.slow  # likewise
def test_its_simulator_is_solved_by_the_policy_that_ships(stage):
    report = runner.play_cartpole(PYTHON.command(PYTHON.cartpole), stage.target, PYTHON.directory, "--episodes", "20")
    assert report["episodes"] == 20
    assert report["mean_return"] >= 475
    options = ("--environments", "256", "--steps", "20")
    many = runner.play_cartpole(PYTHON.command(PYTHON.cartpole), stage.target, PYTHON.directory, *options)
    assert many["environments"] == 256
    assert many["environment_steps_per_second"] > 0


@pytest.mark.parametrize(
    ("code", "scenario", "reason"),
    [
        ("print('PASS describe')", "single", "did not report it"),
        ("print('FAIL describe: no')", "program", "ended with 0"),
        ("print('SKIP describe: x'); raise SystemExit(1)", "program", "ended with 1"),
        ("print('PASS describe'); print('PASS describe')", "program", "expected a new"),
        ("print('hello')", "program", "expected a new"),
    ],
)
def test_a_program_that_misbehaves_fails(stage, code, scenario, reason, tmp_path):
    outcomes = {o.scenario: o for o in runner.run_program([sys.executable, "-c", code], stage, tmp_path)}
    assert outcomes[scenario].status == "FAIL"
    assert reason in outcomes[scenario].reason


def test_a_client_that_is_wrong_fails(stage, tmp_path):
    wrong = (
        (PYTHON.directory / "conformance_program.py")
        .read_text(encoding="utf-8")
        .replace("seed)\n", "seed, outputs=())\n")
    )
    wrong = wrong.replace('int(vector["seed"])', 'int(vector["seed"]) + 1')
    program = Path(tmp_path) / "program.py"
    program.write_text(wrong, encoding="utf-8")
    outcomes = {o.scenario: o for o in runner.run_program([sys.executable, str(program)], stage, tmp_path)}
    assert outcomes["seeded_sessions"].status == "FAIL"
    assert outcomes["structured_observations"].status == "FAIL"
    assert outcomes["describe"].status == "PASS"


def test_its_benchmark_program_obeys(stage):
    with benchmark.started(PYTHON) as program:
        port = program.ask("serve")["port"]
        for verb, target in (("play", stage.target), ("echo", f"127.0.0.1:{port}")):
            report = program.ask(verb, target, 3, 0.1)
            assert report["messages"] > 0
            assert 0 < report["p50_us"] <= report["p99_us"]
