"""Text: rooms with doors or objects, and a sentence that names the target."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict, Text
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Wall, WorldObj
from minigrid.envs.babyai.goto import GoToLocal
from minigrid.envs.fetch import FetchEnv
from minigrid.envs.gotodoor import GoToDoorEnv
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray

from benchmarks.environments.planes import DONE, PICK_UP, Planes

__all__ = ["Instructed", "Quick", "make_fetch", "make_go_to_door", "make_go_to_local"]

# Rotate the view, indexed by column and row of the room, so that forward is up: facing right, down, left, up.
_AHEAD: tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], ...] = (
    lambda seen: seen[::-1].swapaxes(0, 1),
    lambda seen: seen[::-1, ::-1],
    lambda seen: seen[:, ::-1].swapaxes(0, 1),
    lambda seen: seen,
)


class Quick(MiniGridEnv):
    """MiniGrid's observations of square rooms without occlusion. Steps and resets take a quarter of the time.

    MiniGrid builds and rotates a grid of objects at every step, and encodes each of them. This class encodes the
    objects once per episode, and again when an object was picked up or put down. The view is a rotated slice of the
    encoded array.
    """

    _grid: Grid | None = None  # the grid that _numbers encodes
    _carried: WorldObj | None = None

    def gen_obs(self) -> dict[str, Any]:
        """See :meth:`minigrid.minigrid_env.MiniGridEnv.gen_obs`."""
        assert self.see_through_walls
        view = self.agent_view_size
        if self._grid is not self.grid or self._carried is not self.carrying:
            self._grid, self._carried = self.grid, self.carrying
            self._numbers = np.empty((self.width + 2 * view, self.height + 2 * view, 3), np.uint8)
            self._numbers[:] = Wall().encode()  # all around the room
            self._numbers[view:-view, view:-view] = self.grid.encode()
        left, top, right, bottom = self.get_view_exts()
        image = _AHEAD[self.agent_dir](self._numbers[left + view : right + view, top + view : bottom + view]).copy()
        image[view // 2, view - 1] = self.carrying.encode() if self.carrying else (OBJECT_TO_IDX["empty"], 0, 0)
        return {"image": image, "direction": self.agent_dir, "mission": self.mission}


class _GoToDoor(Quick, GoToDoorEnv):
    pass


class _Fetch(Quick, FetchEnv):
    pass


class _GoToLocal(Quick, GoToLocal):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.see_through_walls = True  # RoomGrid has no argument for it; walls hide only empty squares here

    def _gen_grid(self, width: int, height: int) -> None:
        with redirect_stdout(None):  # it prints a line for each room that it redraws
            super()._gen_grid(width, height)


class Instructed(Planes):
    """A MiniGrid task whose observations include the mission: planes of 0 and 1, and a text.

    Args:
        env: The task, with MiniGrid's default observations.
        fourth: MiniGrid's number of the fourth action; None for three actions.
        blank: Whether the mission is withheld. The text is then empty; nothing else changes.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], fourth: int | None, blank: bool = False) -> None:
        super().__init__(env, fourth)
        letters = "abcdefghijklmnopqrstuvwxyz "
        mission = Text(max_length=64, min_length=0, charset=letters)
        self.observation_space = Dict({"image": self.observation_space, "mission": mission})
        self._blank = blank

    def _look(self, observation: dict[str, Any]) -> dict[str, Any]:
        return {"image": super()._look(observation), "mission": "" if self._blank else observation["mission"]}


def make_go_to_door(blank: bool = False, size: int = 5, render_mode: str | None = None) -> Instructed:
    """A room of ``size`` by ``size`` squares with a door of a different color in each wall; "go to the red door".

    The action "done" next to the named door returns ``1 - 0.9 * steps / (4 * size ** 2)``; anywhere else it ends the
    episode with 0. The door is drawn uniformly from the four, which are never adjacent to the same square if ``size``
    is 5. Only the mission says which it is: without reading it, no policy's expected return is above 1/4.

    MiniGrid-GoToDoor of Chevalier-Boisvert et al., "Minigrid & Miniworld", NeurIPS Datasets and Benchmarks 2023.

    Args:
        blank: Whether the mission is withheld.
        size: Squares per side, including walls: 5 to 8.
        render_mode: As in gymnasium.
    """
    view = 2 * size - 3  # the smallest odd size that shows the whole room from every square in every direction
    return Instructed(_GoToDoor(size, agent_view_size=view, render_mode=render_mode), DONE, blank)


def make_fetch(blank: bool = False, render_mode: str | None = None) -> Instructed:
    """A room of 5 by 5 squares with two objects, keys or balls of six colors; "go fetch a blue key".

    Picking up the named object returns ``1 - 0.9 * steps / 125``; picking up the other one ends the episode with 0. The
    target is drawn uniformly from the two, and only the mission says which it is. The two are identical with
    probability 1/12. Without reading the mission, no policy's expected return is above 1/2 + 1/24 = 13/24.

    MiniGrid-Fetch of Chevalier-Boisvert et al., "Minigrid & Miniworld", NeurIPS Datasets and Benchmarks 2023.

    Args:
        blank: Whether the mission is withheld.
        render_mode: As in gymnasium.
    """
    return Instructed(_Fetch(5, 2, agent_view_size=5, render_mode=render_mode), PICK_UP, blank)


def make_go_to_local(blank: bool = False, size: int = 8, things: int = 8, render_mode: str | None = None) -> Instructed:
    """A room of ``size`` by ``size`` squares with keys, balls and boxes of six colors; "go to the red ball".

    Standing in front of the named object and facing it returns ``1 - 0.9 * steps / size ** 2``. Going to another object
    only costs steps. The agent sees 7 by 7 squares ahead of it.

    The level GoToLocal of Chevalier-Boisvert et al., "BabyAI: a platform to study the sample efficiency of grounded
    language learning", ICLR 2019.

    Args:
        blank: Whether the mission is withheld.
        size: Squares per side, including walls.
        things: Number of objects in the room.
        render_mode: As in gymnasium.
    """
    return Instructed(_GoToLocal(room_size=size, num_dists=things, render_mode=render_mode), None, blank)
