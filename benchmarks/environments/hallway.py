"""Memory and images: MiniGrid's hallway, whose end is told by a thing at its start."""

from __future__ import annotations

from minigrid.envs.memory import MemoryEnv

from benchmarks.environments.planes import Planes

__all__ = ["make_memory"]


def make_memory(size: int = 7, render_mode: str | None = None) -> Planes:
    """A room with a key or a ball in it, and a hallway out of it that ends with both, one to each side.

    To go to the one that is like the room's returns ``1 - 0.9 * steps / (5 * size ** 2)``; to go to the other ends the
    episode with 0. The agent sees 7 by 7 squares ahead of it, less what walls hide. It starts anywhere between the
    room's far wall and the hallway's end, its back to the room's thing, which it sees beside it in one place of four:
    elsewhere it has to turn and look first, which costs steps and pays only if it remembers.

    In hallways of size 7 and 9, whoever looks back from the end sees the room's thing once more: a memory saves steps
    there, and no more. From size 11 on no policy without one returns more than 1/2, since it enters the last two
    squares facing ahead, and nothing there tells what is in the room.

    MiniGrid-Memory of Chevalier-Boisvert et al., "Minigrid & Miniworld", NeurIPS Datasets and Benchmarks 2023.

    Args:
        size: Squares along a side, walls included: 7 or any odd number above.
        render_mode: As gymnasium's.
    """
    if size < 7 or size % 2 == 0:
        raise ValueError(f"size: expected 7 or an odd number above, got {size}")
    return Planes(MemoryEnv(size, render_mode=render_mode))
