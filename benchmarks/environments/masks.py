"""Masks: the knight's tour, in which at most 8 of all squares are legal."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from numpy.typing import NDArray

__all__ = ["KnightsTour"]

_LEAPS = [(1, 2), (2, 1), (2, -1), (1, -2), (-1, -2), (-2, -1), (-2, 1), (-1, 2)]


class KnightsTour(gymnasium.Env[Any, np.int64]):
    """A knight moves on a board and never visits a square twice. Every move is worth 1.

    The action is the target square, one of ``size ** 2``. Knight's moves to unvisited squares are legal: at most 8, and
    3.3 on average for random moves on 6 by 6 squares. ``action_mask`` marks them with 1, as int8. An illegal action
    raises ValueError. The episode ends when no move is legal.

    The observation is the board as two planes, ``[size * size * 2]`` of 0 and 1: the visited squares, and the knight's
    position. The knight starts on a random square. From every square of an even board with at least 6 squares per side
    there is a tour of all squares (closed tours exist: Schwenk, "Which rectangular chessboards have a knight's tour?",
    Mathematics Magazine 64, 1991), so the best return is ``size ** 2 - 1`` for every start.

    Args:
        size: Squares per side: 5 to 16.
        mask_in: Location of the mask: "info", or "observation" for a Dict of ``observation`` and ``action_mask``.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - as gymnasium declares it

    def __init__(self, size: int = 6, mask_in: Literal["info", "observation"] = "info") -> None:
        if not 5 <= size <= 16:
            raise ValueError(f"size: expected 5 to 16, got {size}")
        if mask_in not in ("info", "observation"):
            raise ValueError(f"mask_in: expected info or observation, got {mask_in!r}")
        squares = size * size
        board = Box(0, 1, (2 * squares,), np.float32)
        self._dict = mask_in == "observation"
        self.observation_space = (
            Dict({"observation": board, "action_mask": Box(0, 1, (squares,), np.int8)}) if self._dict else board
        )
        self.action_space = Discrete(squares)
        self._squares = squares
        self._reach = _reach(size)
        self._visited = np.zeros(squares, np.bool_)
        self._knight = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Places the knight on a random square, or on the option ``start``."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(self._squares))
        self._knight = (options or {}).get("start", drawn)
        self._visited[:] = False
        self._visited[self._knight] = True
        return self._look()

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Moves the knight.

        Raises:
            ValueError: The action is illegal.
        """
        square = int(action)
        if not (0 <= square < self._squares and self._legal()[square]):
            raise ValueError(f"illegal action {square}: the knight on {self._knight} may go to {self._choices()}")
        self._visited[square] = True
        self._knight = square
        observation, info = self._look()
        return observation, 1.0, not self._legal().any(), False, info

    def _legal(self) -> NDArray[np.bool_]:
        return np.asarray(self._reach[self._knight] & ~self._visited)

    def _choices(self) -> list[int]:
        return np.flatnonzero(self._legal()).tolist()

    def _look(self) -> tuple[Any, dict[str, Any]]:
        board = np.zeros(2 * self._squares, np.float32)
        board[: self._squares] = self._visited
        board[self._squares + self._knight] = 1
        mask = self._legal().astype(np.int8)
        return ({"observation": board, "action_mask": mask}, {}) if self._dict else (board, {"action_mask": mask})


def _reach(size: int) -> NDArray[np.bool_]:
    """Returns ``[squares, squares]``: which squares are a knight's move from each."""
    reach = np.zeros((size * size, size * size), np.bool_)
    for row in range(size):
        for column in range(size):
            for down, right in _LEAPS:
                if 0 <= row + down < size and 0 <= column + right < size:
                    reach[row * size + column, (row + down) * size + column + right] = True
    return reach
