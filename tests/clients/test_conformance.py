"""The conformance suite: its lists agree, the Python client passes, and wrong programs fail."""

from __future__ import annotations

import re
import sys

import pytest

from benchmarks import clients as benchmark
from benchmarks.soak.server import SHIPPED
from conformance import fixtures, runner
from conformance.clients import find_all
from conformance.servers import serve

HERE = runner.HERE
PYTHON = next(client for client in find_all() if client.name == "python")


@pytest.fixture(scope="module")
def small_stage(tmp_path_factory):
    """A stage with one server, of the shipped policy alone, which never restarts."""
    with serve(SHIPPED, tmp_path_factory.mktemp("small")) as server:
        flags = ["--target", server.target, "--vectors", str(HERE / "vectors.json")]
        yield runner.Stage(server.target, flags, lambda meanwhile: meanwhile())


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("stage")
    fixtures.export(scratch / "policies")
    with runner.stage(scratch / "policies", scratch) as servers:
        yield servers


def test_the_lists_of_scenarios_agree():
    assert re.findall(r"^## (.*)$", (HERE / "scenarios.md").read_text(encoding="utf-8"), re.M) == runner.scenarios()


@pytest.mark.slow  # make test-clients runs it with all other clients
def test_the_python_client_passes(stage):
    outcomes = runner.run_program(PYTHON.command(PYTHON.conformance), stage, PYTHON.directory)
    assert [outcome for outcome in outcomes if outcome.status != "PASS"] == []
    assert [outcome.scenario for outcome in outcomes] == runner.scenarios()


@pytest.mark.slow  # make test-clients runs it, too
def test_its_simulator_is_solved_by_the_shipped_policy(stage):
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
def test_a_program_that_misbehaves_fails(code, scenario, reason, tmp_path):
    nowhere = runner.Stage("", [], lambda meanwhile: meanwhile())
    outcomes = {o.scenario: o for o in runner.run_program([sys.executable, "-c", code], nowhere, tmp_path)}
    assert outcomes[scenario].status == "FAIL"
    assert reason in outcomes[scenario].reason


def outcomes_with_wrong_seeds(stage, directory):
    """Runs the Python client's program with each vector's seed plus one."""
    text = (PYTHON.directory / "conformance_program.py").read_text(encoding="utf-8")
    assert text.count('int(vector["seed"])') == 3
    program = directory / "program.py"
    program.write_text(text.replace('int(vector["seed"])', 'int(vector["seed"]) + 1'), encoding="utf-8")
    return {o.scenario: o for o in runner.run_program([sys.executable, str(program)], stage, directory)}


def test_a_client_that_is_wrong_fails(small_stage, tmp_path):
    outcomes = outcomes_with_wrong_seeds(small_stage, tmp_path)
    for scenario in ("seeded_calls", "seeded_sessions"):
        assert outcomes[scenario].status == "FAIL"
        assert "AssertionError" in outcomes[scenario].reason
    for scenario in ("describe", "single", "batch", "session_goes_on"):
        assert outcomes[scenario].status == "PASS"
    assert outcomes["restart"].status == "FAIL", "the server did not restart"


@pytest.mark.slow
def test_a_client_that_is_wrong_about_structured_observations_fails(stage, tmp_path):
    outcomes = outcomes_with_wrong_seeds(stage, tmp_path)
    assert "AssertionError" in outcomes["structured_observations"].reason
    assert outcomes["structured"].status == "PASS"


def test_its_benchmark_program_obeys(small_stage):
    with benchmark.started(PYTHON) as program:
        port = program.ask("serve")["port"]
        for verb, target in (("play", small_stage.target), ("echo", f"127.0.0.1:{port}")):
            report = program.ask(verb, target, 3, 0.1)
            assert report["messages"] > 0
            assert 0 < report["p50_us"] <= report["p99_us"]
