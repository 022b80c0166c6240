"""Text: rooms with doors or things in them, and a sentence that says which one is meant."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Text
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.world_object import Wall, WorldObj
from minigrid.envs.babyai.goto import GoToLocal
from minigrid.envs.fetch import FetchEnv
from minigrid.envs.gotodoor import GoToDoorEnv
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray

__all__ = ["Instructed", "Quick", "make_fetch", "make_go_to_door", "make_go_to_local"]

_OBJECTS, _COLOURS, _STATES = 11, 6, 3
_PLANES = _OBJECTS + _COLOURS + _STATES
# The planes of every kind, colour and state, in this order: [198, 20].
_ONE_HOT = np.array(
    [
        np.concatenate([np.eye(n, dtype=np.uint8)[i] for n, i in zip((_OBJECTS, _COLOURS, _STATES), cell, strict=True)])
        for cell in np.ndindex(_OBJECTS, _COLOURS, _STATES)
    ]
)
_LEFT, _RIGHT, _FORWARD, _PICK_UP, _DONE = 0, 1, 2, 3, 6  # as MiniGrid numbers its actions


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


class Instructed(gymnasium.Wrapper[dict[str, Any], np.int64, dict[str, Any], int]):
    """A MiniGrid task as a policy's input: what is seen as planes of 0 and 1, and the mission as text.

    MiniGrid numbers kinds of object, colours and states in one byte each, which says nothing to a network that takes
    bytes for magnitudes; here each kind, colour and state has a plane of its own. Actions are left, right, forward and
    at most one more; MiniGrid's others have no use in these tasks.

    Args:
        env: The task, with MiniGrid's usual observations.
        fourth: MiniGrid's number of the fourth action; none for three actions.
        blank: Whether the mission is withheld: the text is then empty, and all else is as it was.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], fourth: int | None, blank: bool = False) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, Dict)
        height, width, _ = space["image"].shape or ()
        letters = "abcdefghijklmnopqrstuvwxyz "
        self.observation_space = Dict(
            {
                "image": Box(0, 1, (height, width, _PLANES), np.uint8),
                "mission": Text(max_length=64, min_length=0, charset=letters),
            }
        )
        self._actions = [_LEFT, _RIGHT, _FORWARD] + ([] if fourth is None else [fourth])
        self.action_space = Discrete(len(self._actions))
        self._blank = blank

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode with a mission of its own."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._look(observation), info

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Turns left (0) or right (1), walks (2), or takes the fourth action (3), where there is one."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions[action])
        return self._look(observation), float(reward), terminated, truncated, info

    def _look(self, observation: dict[str, Any]) -> dict[str, Any]:
        image: NDArray[np.uint8] = observation["image"]
        numbers = image[..., 0] * (_COLOURS * _STATES) + image[..., 1] * _STATES + image[..., 2]
        return {"image": _ONE_HOT[numbers], "mission": "" if self._blank else observation["mission"]}


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
    return Instructed(_GoToDoor(size, agent_view_size=view, render_mode=render_mode), _DONE, blank)


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
    return Instructed(_Fetch(5, 2, agent_view_size=5, render_mode=render_mode), _PICK_UP, blank)


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
