"""Greedy episodes are compared with sampled ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pgkeras.cli.evaluate import command
from pgkeras.policy.export import export_policy
from pgkeras.policy.policy import Policy
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Box, Discrete

FRAGILE = "tests.environments.fragile:Fragile-v0"


@pytest.mark.parametrize(("bias", "better"), [([0.1, 0.0], True), ([0.0, 0.1], False)])
def test_it_is_said_when_sampled_actions_do_better(tmp_path: Path, bias: list[float], better: bool) -> None:
    # The reward is the action: the most probable one is worth 0 or 20 in every episode, a sampled one about 10.
    space = Box(np.full(3, -1.0), np.full(3, 1.0), np.dtype(np.float32))
    policy = Policy(space, Discrete(2), settings=NetworkSettings(hidden=()))
    policy.assign([np.zeros((3, 2), np.float32), np.array(bias, np.float32)])
    exported = export_policy(policy, tmp_path, "fragile", {"env_id": FRAGILE})
    result = CliRunner().invoke(command, [str(exported.path), "--episodes", "5"])
    assert result.exit_code == 0, result.output
    assert f"greedy: mean return {0 if better else 20}," in result.output
    assert ("Sampled actions do better" in result.output) is better
