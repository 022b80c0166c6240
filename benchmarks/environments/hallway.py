"""Memory and images: MiniGrid's hallway, where an object at the start tells which way to turn at the end."""

from __future__ import annotations

from minigrid.envs.memory import MemoryEnv

from benchmarks.environments.planes import Planes

__all__ = ["make_memory"]


def make_memory(size: int = 7, render_mode: str | None = None) -> Planes:
    """A room with a key or a ball, and a hallway from it that ends with both objects, one on each side.

    Going to the object that matches the room's returns ``1 - 0.9 * steps / (5 * size ** 2)``; going to the other one
    ends the episode with 0. The agent sees 7 by 7 squares ahead of it, except what walls hide. It starts anywhere
    between the room's far wall and the hallway's end, facing away from the room's object. It sees the object next to it
    in one of four start positions. Elsewhere it must turn and look first, which costs steps and only helps a policy
    with memory.

    In hallways of size 7 and 9, an agent that looks back from the end sees the room's object again, so memory only
    saves steps. From size 11 on, no policy without memory returns more than 1/2, because the agent enters the last two
    squares facing forward, where nothing shows which object is in the room.

    MiniGrid-Memory of Chevalier-Boisvert et al., "Minigrid & Miniworld", NeurIPS Datasets and Benchmarks 2023.

    Args:
        size: Squares per side, including walls: 7 or a larger odd number.
        render_mode: As in gymnasium.
    """
    if size < 7 or size % 2 == 0:
        raise ValueError(f"size: expected 7 or a larger odd number, got {size}")
    return Planes(MemoryEnv(size, render_mode=render_mode))
