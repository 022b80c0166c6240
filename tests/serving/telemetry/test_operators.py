"""What an operator asks first: what runs, what failed to load, what waits, who plays."""

from __future__ import annotations

import platform
import shutil

import numpy as np

import pgkeras
from pgkeras.client import PolicyClient
from tests.serving.conftest import running, wait_until
from tests.serving.telemetry.test_metrics import of, page_of, samples


def test_the_first_questions_are_answered(policies, tmp_path):
    root = tmp_path / "models"
    shutil.copytree(policies, root)
    (root / "gaussian" / "9").mkdir()
    (root / "gaussian" / "9" / "saved_model.pb").write_bytes(b"broken")
    with running(root, tmp_path, "--http-port", "0") as server, PolicyClient(server.target, "discrete") as client:
        page = page_of(server)
        found = samples(page)
        build = {"version": pgkeras.__version__, "python": platform.python_version()}
        assert found["pgkeras_build_info", *sorted(build.items())] == 1
        assert found["pgkeras_versions_failed",] == 1
        assert of(found, "queued_observations") == of(found, "policy_sessions") == 0
        with client.play() as first, client.play() as second:
            for session in (first, second):
                session.step(np.zeros((1, 4), np.float32))
            assert of(samples(page), "policy_sessions") == 2
            assert of(samples(page), "policy_sessions", version="1") == 0
        wait_until(lambda: of(samples(page), "policy_sessions") == 0)
