"""A run that many tests read."""

from __future__ import annotations

import pytest

from pgkeras.runs.training import Training
from tests.runs.small import run_to_end, small


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A finished run. Read only."""
    return run_to_end(Training(small(), tmp_path_factory.mktemp("runs") / "undisturbed"))
