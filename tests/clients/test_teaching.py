"""The conformance check of simulators that train a policy: an early exit is reported with the simulator's output."""

from __future__ import annotations

import pytest

from conformance.clients import Client
from conformance.teaching import survives


def test_a_simulator_that_ends_early_fails_with_its_output(tmp_path):
    client = Client("python", teach=["python", "-c", "raise SystemExit('nobody answers any more')"])
    with pytest.raises(ValueError, match="the simulator that stayed has ended with 1: nobody answers any more"):
        survives(client, tmp_path)
