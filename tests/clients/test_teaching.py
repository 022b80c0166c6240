"""The check of simulators that teach: one that ends too early is named, with its own words."""

from __future__ import annotations

import pytest

from conformance.clients import Client
from conformance.teaching import survives


def test_a_simulator_that_ends_early_is_named_at_once(tmp_path):
    client = Client("python", teach=["python", "-c", "raise SystemExit('nobody answers any more')"])
    with pytest.raises(ValueError, match="the simulator that stayed has ended with 1: nobody answers any more"):
        survives(client, tmp_path)
