"""Noise: the random numbers from which actions are sampled.

The act graph is a pure function of (observation, noise), so its caller draws the noise. The functions here use Philox,
a counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Rows are drawn in order,
so row ``i`` of a seeded draw does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces.spec import PolicySpec

__all__ = ["draw", "of_batch", "seeded", "steps"]

_STEPS = 256  # drawn at once, because one large draw is faster than many small ones


def seeded(seed: int | np.random.SeedSequence | None) -> np.random.Generator:
    """Returns a Philox generator.

    Args:
        seed: The key if it is an integer, in [0, 2**64); otherwise a seed sequence, or None for the system's entropy.
    """
    if isinstance(seed, int):
        return np.random.Generator(np.random.Philox(key=seed))
    return np.random.Generator(np.random.Philox(seed))


def of_batch(seed: np.random.SeedSequence) -> np.random.Generator:
    """Returns the Philox generator for a batch of episodes, keyed by the first four 32-bit words of the seed."""
    return seeded(int.from_bytes(seed.generate_state(4, np.uint32).tobytes(), "little"))


def steps(generator: np.random.Generator, spec: PolicySpec, slots: int) -> Iterator[NDArray[np.float32]]:
    """Yields the noise of each step for ``slots`` parallel environments, without end. Draws many steps at once.

    Yields:
        The noise of one step, as from :func:`draw`, ``[slots, spec.noise_size]``.
    """
    while True:
        yield from draw(generator, spec, _STEPS * slots).reshape(_STEPS, slots, spec.noise_size)


def draw(generator: np.random.Generator, spec: PolicySpec, rows: int) -> NDArray[np.float32]:
    """Draws the noise for ``rows`` actions.

    Returns:
        float32 ``[rows, spec.noise_size]``. Each column is uniform on [0, 1) or standard normal; see ``spec.noise``.
    """
    shape = (rows, spec.noise_size)
    if spec.noise == "uniform":
        return generator.random(shape, np.float32)
    if spec.noise == "normal":
        return generator.standard_normal(shape, np.float32)
    normal = spec.normal_noise
    # Mixed columns: each normal number comes from two uniform ones (Box & Muller 1958, "A note on the generation of
    # random normal deviates"). Every row then takes the same number of values from the generator.
    drawn = generator.random((rows, len(normal) + int(normal.sum())), np.float32)
    mixed, angles = drawn[:, : len(normal)], drawn[:, len(normal) :]
    radius = np.sqrt(-2.0 * np.log1p(-mixed[:, normal]))
    mixed[:, normal] = radius * np.cos(np.float32(2 * np.pi) * angles)
    return np.ascontiguousarray(mixed)
