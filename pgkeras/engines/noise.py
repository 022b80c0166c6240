"""Noise: where a policy's randomness comes from.

The act graph is a pure function of (observation, noise), so whoever calls it draws the noise: here, from Philox, a
counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Rows are drawn in order, so
row ``i`` of a seeded draw does not depend on how many rows follow it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces.spec import PolicySpec

__all__ = ["draw", "of_batch", "seeded", "steps"]

_STEPS = 256  # how many steps' noise is drawn at once


def seeded(seed: int | np.random.SeedSequence | None) -> np.random.Generator:
    """A Philox generator: keyed by ``seed`` as it is if that is an integer in [0, 2**64), by entropy if it is None."""
    if isinstance(seed, int):
        return np.random.Generator(np.random.Philox(key=seed))
    return np.random.Generator(np.random.Philox(seed))


def of_batch(seed: np.random.SeedSequence) -> np.random.Generator:
    """The Philox generator of a batch of episodes, keyed by the seed's first four words."""
    return seeded(int.from_bytes(seed.generate_state(4, np.uint32).tobytes(), "little"))


def steps(generator: np.random.Generator, spec: PolicySpec, slots: int) -> Iterator[NDArray[np.float32]]:
    """Draws the noise of environments side by side, step by step without end, many steps at once.

    Yields:
        As :func:`draw`, a row for each slot.
    """
    while True:
        yield from draw(generator, spec, _STEPS * slots).reshape(_STEPS, slots, spec.noise_size)


def draw(generator: np.random.Generator, spec: PolicySpec, rows: int) -> NDArray[np.float32]:
    """Draws the noise for ``rows`` actions.

    Returns:
        float32 ``[rows, spec.noise_size]``: uniform on [0, 1) or standard normal, as ``spec.noise`` says.
    """
    shape = (rows, spec.noise_size)
    if spec.noise == "uniform":
        return generator.random(shape, np.float32)
    if spec.noise == "normal":
        return generator.standard_normal(shape, np.float32)
    normal = spec.normal_noise
    # Both: from two uniform numbers for each that is normal (Box & Muller 1958, "A note on the generation of random
    # normal deviates"), so that every row takes as many of the generator's numbers.
    drawn = generator.random((rows, len(normal) + int(normal.sum())), np.float32)
    mixed, angles = drawn[:, : len(normal)], drawn[:, len(normal) :]
    radius = np.sqrt(-2.0 * np.log1p(-mixed[:, normal]))
    mixed[:, normal] = radius * np.cos(np.float32(2 * np.pi) * angles)
    return np.ascontiguousarray(mixed)
