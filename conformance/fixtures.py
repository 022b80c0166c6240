"""Exports the policies for the scenarios.

python -m conformance.fixtures DIRECTORY    exports them to DIRECTORY
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pgkeras.spaces import ActionSpace, Box, Dict, Discrete, MultiBinary, Space, Tuple

__all__ = ["export", "export_all"]

ROOT = Path(__file__).parents[1]
IMAGE_SHAPE = (1024, 2048, 4)
VECTOR = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float32))
PARTS = Dict(
    {
        "camera": Box(np.zeros((4, 4, 3)), np.full((4, 4, 3), 255.0), np.dtype(np.uint8)),
        "hands": Tuple((MultiBinary((3,)), Discrete(4))),
        "position": Box(np.full(4, -1.0), np.full(4, 1.0), np.dtype(np.float32)),
    }
)
STRUCTURE = Dict(
    {
        "aim": Box(np.full(2, -1.0), np.full(2, 1.0), np.dtype(np.float32)),
        "hands": Tuple((MultiBinary((3,)), Discrete(4))),
        "move": Discrete(3),
    }
)


def export(root: Path) -> None:
    """Runs :func:`export_all` in a separate process, to keep TensorFlow's threads and memory out of this one.

    Raises:
        RuntimeError: The export failed. The message has the standard error of the process.
    """
    command = [sys.executable, "-m", "conformance.fixtures", str(root)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode:
        raise RuntimeError(f"the fixtures could not be exported: {result.stderr}")


def export_all(root: Path) -> None:
    """Writes the shipped policy and the fixtures to a directory of policies."""
    shutil.copytree(ROOT / "saved_models" / "cartpole-v1" / "1", root / "cartpole-v1" / "1")
    _export_image(root)
    _export(root, "masked", VECTOR, Discrete(5), mask_size=5)
    _export(root, "memory", VECTOR, Discrete(3), memory="gru", memory_units=8)
    _export(root, "parts", PARTS, Discrete(3))
    _export(root, "structured", VECTOR, STRUCTURE, mask_size=7)


def _export_image(root: Path) -> None:
    from pgkeras.backend import keras
    from pgkeras.policy.export import export_policy
    from pgkeras.policy.policy import Policy

    space = Box(np.zeros(IMAGE_SHAPE), np.full(IMAGE_SHAPE, 255.0), np.dtype(np.uint8))
    image = keras.Input(IMAGE_SHAPE, dtype="uint8")
    # The network uses one pixel in 256 x 256, because the scenario tests the message, not the network.
    pixels = keras.layers.Flatten()(keras.ops.cast(image[:, ::256, ::256], "float32") / 255.0)
    network = keras.Model(image, keras.layers.Dense(4)(pixels))
    export_policy(Policy(space, Discrete(3), network), root, "image", {"env_id": "Image-v0"})


def _export(
    root: Path, name: str, observations: Space, actions: ActionSpace, mask_size: int = 0, **settings: Any
) -> None:
    from pgkeras.policy.export import export_policy
    from pgkeras.policy.policy import Policy
    from pgkeras.settings.groups import NetworkSettings

    policy = Policy(observations, actions, settings=NetworkSettings(hidden=(8,), **settings), mask_size=mask_size)
    generator = np.random.default_rng(0)
    for variable in policy.variables:  # large enough for observations and memory to change the probabilities
        variable.assign(generator.normal(0.0, 0.5, variable.shape).astype(np.float32))
    export_policy(policy, root, name, {"env_id": "Test-v0"})


if __name__ == "__main__":
    export_all(Path(sys.argv[1]))
