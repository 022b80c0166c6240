"""Policies that are slower than the transport."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["export_slow"]

_EXPORT = """
import sys
from pathlib import Path
import numpy as np
from pgkeras.export import export_policy
from pgkeras.config import NetworkSettings
from pgkeras.policy import Policy
from pgkeras.spaces import Box, Discrete
observations = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float32))
settings = NetworkSettings(hidden=(2048, 2048))
export_policy(Policy(observations, Discrete(2), settings=settings), Path(sys.argv[1]), "slow", {})
"""


def export_slow(root: Path) -> None:
    """Exports an MLP 4-2048-2048-2 as ``slow``. It takes milliseconds per observation, and a second for thousands."""
    subprocess.run([sys.executable, "-c", _EXPORT, str(root)], check=True, stderr=subprocess.DEVNULL)
