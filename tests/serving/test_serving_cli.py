"""The commands pgkeras act, info and serve."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from pgkeras_serving.settings.config import ServerConfig, settings

from pgkeras.cli import text
from tests.serving.conftest import run_cli

ROW = "[0.5, -1.0, 0.25, 2.0]"


def test_act_draws_the_distribution_and_the_action(server, connect):
    answer = connect().act(json.loads(ROW), seed=3)
    out = run_cli("act", "--target", server.target, "--policy", "discrete", "--observation", ROW, "--seed", "3").stdout
    lines = out.splitlines()
    assert lines[0] == "discrete version 2"
    for action, probability in zip((5, 6, 7), answer.distribution["probabilities"].tolist(), strict=True):
        (line,) = [line for line in lines if line.startswith(f"  {action}  ")]
        assert f"{probability:.1%}" in line
        assert line.count("█") == round(probability * 40)
        assert line.endswith("<- chosen") == (action == answer.action)
    assert f"action {answer.action}   log-probability {answer.log_prob:.3f}" in lines[-1]


def test_act_prints_mean_and_deviation_of_every_component(server, connect):
    answer = connect("gaussian").act(json.loads(ROW), "greedy")
    arguments = ("--policy", "gaussian", "--observation", ROW, "--mode", "greedy")
    lines = run_cli("act", "--target", server.target, *arguments).stdout.splitlines()
    for i in range(2):
        mean, stddev = answer.distribution["mean"].ravel()[i], answer.distribution["stddev"].ravel()[i]
        assert lines[1 + i].split() == [str(i), f"{mean:+.4f}", "+-", f"{stddev:.4f}", "chosen", f"{mean:+.4f}"]


def test_act_takes_a_batch_and_prints_json(server, connect):
    batch = f"[{ROW}, [0, 0, 0, 0]]"
    arguments = ("act", "--target", server.target, "--policy", "discrete", "--observation", batch, "--seed", "9")
    found = json.loads(run_cli(*arguments, "--json").stdout)
    answer = connect().act(json.loads(batch), seed=9)
    assert found["action"] == answer.action.tolist()
    assert found["log_prob"] == answer.log_prob.tolist()
    assert found["distribution"] == {"probabilities": answer.distribution["probabilities"].tolist()}
    assert (found["policy"], found["version"]) == ("discrete", 2)
    assert "observation 1" in run_cli(*arguments).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--observation", "[1, 2"), "--observation: expected JSON"),
        (("--observation", "[1, 2]", "--policy", "discrete"), "observation: expected shape [4] or [batch, 4]"),
        (("--observation", "[NaN, 1, 1, 1]", "--policy", "discrete"), "observation: expected finite numbers"),
        (("--observation", ROW), "a name is needed"),
        (("--observation", ROW, "--policy", "../discrete"), "no policy '../discrete'"),
        (("--observation", ROW, "--policy", "discrete", "--policy-version", "8"), "has no version 8"),
    ],
)
def test_act_reports_errors_and_exits_1(server, arguments, message):
    finished = run_cli("act", "--target", server.target, *arguments)
    assert finished.returncode == 1
    assert finished.stderr.startswith("Error: ")
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


def test_act_without_a_server_names_the_address_and_the_command_to_start_one():
    finished = run_cli("act", "--target", "127.0.0.1:1", "--observation", ROW)
    assert finished.returncode == 1
    assert "no policy server answers at 127.0.0.1:1; start one with: pgkeras serve" in finished.stderr


def test_info_describes_a_server(server):
    found = json.loads(run_cli("info", server.target, "--json").stdout)
    assert [(policy["name"], policy["version"]) for policy in found] == [
        ("discrete", 1),
        ("discrete", 2),
        ("gaussian", 1),
    ]
    assert found[2]["distribution"] == "diagonal_gaussian"
    printed = run_cli("info", server.target).stdout
    assert "Discrete(3, start=5)" in printed
    assert "Test-v0" in printed
    assert not re.search(r"\d\.\d{5,}$", printed, re.M), "not rounded"


def test_info_describes_a_bundle_by_any_of_its_directories(policies):
    expected = json.loads(run_cli("info", str(policies / "discrete" / "2"), "--json").stdout)
    assert expected[0]["name"] == "discrete"
    assert expected[0]["provenance"]["seed"] == 2
    assert json.loads(run_cli("info", str(policies / "discrete"), "--json").stdout) == expected
    several = run_cli("info", str(policies))
    assert several.returncode == 1
    assert "holds several policies (discrete, gaussian): name one" in several.stderr
    missing = run_cli("info", str(policies / "nobody"))
    assert missing.returncode == 1
    assert "no exported policy at" in missing.stderr


def test_serve_help_lists_every_setting_with_its_default():
    out = " ".join(run_cli("serve", "--help").stdout.split())
    for setting in settings()[1:]:
        assert f"--{setting.name.replace('_', '-')}" in out
        if setting.default not in (None, False):
            assert f"[default: {setting.default}" in out
    assert ServerConfig.host == "127.0.0.1"


def test_of_many_actions_only_the_probable_and_the_chosen_are_shown():
    probabilities = np.full(1000, 0.5 / 999)
    probabilities[123] = 0.5
    lines = text.bars(probabilities, 0, 999)
    assert len(lines) < 20
    assert any(line.startswith("  123  ") and "50.0%" in line for line in lines)
    assert any(line.startswith("  999  ") and line.endswith("<- chosen") for line in lines)
    assert "less probable" in lines[-1]


def test_a_terminal_without_unicode_gets_ascii(monkeypatch):
    import io

    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert "#" * 40 in text.bars(np.array([1.0, 0.0]), 0, 0)[0]
