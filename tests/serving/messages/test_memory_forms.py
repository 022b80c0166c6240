"""A policy with memory: calls, whose caller keeps the state, alternate with sessions, whose server keeps it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pgkeras.client import PolicyClient
from pgkeras.spaces import Discrete
from tests.serving.conftest import OBSERVATIONS, running

OUTPUTS = ("log_prob", "entropy", "distribution")


def test_a_call_and_a_session_with_equally_many_rows_do_not_share_a_template(tmp_path: Path) -> None:
    from pgkeras.policy.export import export_policy
    from pgkeras.policy.policy import Policy
    from pgkeras.settings.groups import NetworkSettings

    network = NetworkSettings(hidden=(4,), memory="gru", memory_units=3)
    export_policy(Policy(OBSERVATIONS, Discrete(3), settings=network), tmp_path / "root", "memory", {})
    rows = np.ones((2, 4), np.float32)
    with running(tmp_path / "root", tmp_path) as server, PolicyClient(server.target) as client:
        for _ in range(2):
            called = client.act(rows, "greedy", outputs=OUTPUTS)
            with client.play("greedy", outputs=OUTPUTS) as session:
                session.step(rows)
                played = session.answer
            assert called.state
            assert played is not None
            np.testing.assert_allclose(played.distribution["probabilities"], called.distribution["probabilities"])
