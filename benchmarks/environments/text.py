"""Text: rooms with doors or things in them, and a sentence that says which one is meant."""

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

# Turns what is to be seen, by column and row of the room, so that ahead is up: facing right, down, left, up.
_AHEAD: tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], ...] = (
    lambda seen: seen[::-1].swapaxes(0, 1),
    lambda seen: seen[::-1, ::-1],
    lambda seen: seen[:, ::-1].swapaxes(0, 1),
    lambda seen: seen,
)


class Quick(MiniGridEnv):
    """MiniGrid's own observations of square rooms without occluders; steps and resets take a quarter of the time.

    MiniGrid builds and turns a grid of objects at every step, and asks each of them for its numbers. Here the objects
    are asked once an episode, and again when something was picked up or put down; what the agent sees is cut out of an
    array of their numbers and turned.
    """

    _grid: Grid | None = None  # what _numbers are of
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
        self.see_through_walls = True  # RoomGrid takes no argument for it; all that walls hide here is emptiness

    def _gen_grid(self, width: int, height: int) -> None:
        with redirect_stdout(None):  # it prints a line for each room that it draws again
            super()._gen_grid(width, height)


class Instructed(Planes):
    """A MiniGrid task whose mission is part of what a policy sees: planes of 0 and 1, and a text.

    Args:
        env: The task, with MiniGrid's usual observations.
        fourth: MiniGrid's number of the fourth action; none for three actions.
        blank: Whether the mission is withheld: the text is then empty, and all else is as it was.
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
    """A room of ``size`` by ``size`` squares with a door of another colour in each wall; "go to the red door".

    To say "done" beside the door that was named returns ``1 - 0.9 * steps / (4 * size ** 2)``; to say it anywhere else
    ends the episode with 0. The door is drawn evenly among the four, which are never beside the same square where
    ``size`` is 5, and only the mission tells which it is: without reading it, no policy's expected return is above 1/4.

    MiniGrid-GoToDoor of Chevalier-Boisvert et al., "Minigrid & Miniworld", NeurIPS Datasets and Benchmarks 2023.

    Args:
        blank: Whether the mission is withheld.
        size: Squares along a side, walls included: 5 to 8.
        render_mode: As gymnasium's.
    """
    view = 2 * size - 3  # the least odd number that takes in the room from every square of it, facing any way
    return Instructed(_GoToDoor(size, agent_view_size=view, render_mode=render_mode), DONE, blank)


def make_fetch(blank: bool = False, render_mode: str | None = None) -> Instructed:
    """A room of 5 by 5 squares with two things in it, keys or balls of six colours; "go fetch a blue key".

    To pick up what was named returns ``1 - 0.9 * steps / 125``; to pick up the other ends the episode with 0. Which of
    the two is meant is drawn evenly, and only the mission tells; one time in twelve they are alike. Without reading it,
    no policy's expected return is above 1/2 + 1/24 = 13/24.

    MiniGrid-Fetch of Chevalier-Boisvert et al., "Minigrid & Miniworld", NeurIPS Datasets and Benchmarks 2023.

    Args:
        blank: Whether the mission is withheld.
        render_mode: As gymnasium's.
    """
    return Instructed(_Fetch(5, 2, agent_view_size=5, render_mode=render_mode), PICK_UP, blank)


def make_go_to_local(blank: bool = False, size: int = 8, things: int = 8, render_mode: str | None = None) -> Instructed:
    """A room of ``size`` by ``size`` squares with keys, balls and boxes of six colours in it; "go to the red ball".

    To stand before what was named, facing it, returns ``1 - 0.9 * steps / size ** 2``; to go to anything else costs
    steps only. The agent sees 7 by 7 squares ahead of it.

    The level GoToLocal of Chevalier-Boisvert et al., "BabyAI: a platform to study the sample efficiency of grounded
    language learning", ICLR 2019.

    Args:
        blank: Whether the mission is withheld.
        size: Squares along a side, walls included.
        things: How many things lie in the room.
        render_mode: As gymnasium's.
    """
    return Instructed(_GoToLocal(room_size=size, num_dists=things, render_mode=render_mode), None, blank)
