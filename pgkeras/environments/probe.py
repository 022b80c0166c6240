"""Plays a few resets of an environment to find the words of its texts and whether it masks actions."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from pgkeras.environments.check import describe_error
from pgkeras.environments.protocol import Environments, name_of
from pgkeras.errors import EnvironmentSetupError, UnsupportedSpaceError
from pgkeras.spaces import (
    ActionSpace,
    Box,
    Space,
    Text,
    actions_from_gymnasium,
    leaves,
    map_texts,
    observations_from_gymnasium,
)
from pgkeras.spaces.layout import ACTION_MASK, EXACT_INTEGERS, part_of, without_mask
from pgkeras.spaces.masks import mask_size_of
from pgkeras.spaces.tokenizer import with_vocabulary

__all__ = ["Look", "look"]

logger = logging.getLogger(__name__)

_EXAMPLES = 256


class Look(NamedTuple):
    """The facts about an environment that a policy is built from."""

    observation_space: Space  # without the mask, and with vocabularies for its texts
    action_space: ActionSpace
    mask_size: int  # 0 for an environment without masks
    reward_threshold: float | None  # of its registration: the mean return at which it counts as solved


def look(environments: Environments, seed: int, masks: bool = True) -> Look:
    """Resets the environments, and looks at what they show.

    Args:
        environments: They are left in the middle of an episode.
        seed: Seed of the resets.
        masks: Whether masks are wanted where there are any.

    Raises:
        EnvironmentSetupError: A reset failed.
        UnsupportedSpaceError: A space is not supported, or there are masks for actions that cannot be masked.
    """
    given = observations_from_gymnasium(environments.observation_space)
    action_space = actions_from_gymnasium(environments.action_space)
    shows_mask = environments.check()
    space = without_mask(given)
    notes = _Notes()
    generator = np.random.default_rng(seed)
    has_texts = any(isinstance(leaf, Text) for _, leaf in leaves(space))
    while not notes.rows or (has_texts and len(notes.rows) < _EXAMPLES):
        try:
            environments.reset(generator.integers(2**31, size=environments.slots).tolist(), notes)
        except (Exception, SystemExit) as error:  # an environment may raise anything
            raise EnvironmentSetupError(f"{name_of(environments)} failed at reset: {describe_error(error)}") from error
    if has_texts:
        space = map_texts(space, lambda text, path: with_vocabulary(text, _texts(notes, environments, path, seed)))
    _warn_of_rounding(name_of(environments), space, notes)
    masked = shows_mask or space != given or ACTION_MASK in notes.rows[0][1]
    mask_size = _mask_size(environments.action_space) if masks and masked else 0
    threshold = environments.spec.reward_threshold if environments.spec is not None else None
    return Look(space, action_space, mask_size, float(threshold) if threshold is not None else None)


def _warn_of_rounding(name: str, space: Space, notes: _Notes) -> None:
    """Networks compute in float32, which rounds large integers: what differs in the last digits looks the same."""
    for path, leaf in leaves(space):
        if not isinstance(leaf, Box) or leaf.dtype.kind not in "iu":
            continue
        largest = max(float(np.abs(np.asarray(part_of(row, path), np.float64)).max()) for row, _ in notes.rows)
        if largest > EXACT_INTEGERS:
            part = f" {'.'.join(path)}" if path else ""
            logger.warning(
                "%s: observation%s has integers such as %.0f; networks compute in float32, which is exact up to %d: "
                "observe differences, or parts of such numbers",
                name,
                part,
                largest,
                EXACT_INTEGERS,
            )


class _Notes:
    """In a tape's place: keeps what the environments show."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, Mapping[str, Any]]] = []

    def put(self, t: int, slot: int | slice, observation: Any, info: Mapping[str, Any]) -> None:
        self.rows.append((observation, info))


def _mask_size(space: gymnasium.Space[Any]) -> int:
    if size := mask_size_of(actions_from_gymnasium(space)):
        return size
    raise UnsupportedSpaceError(
        f"the environment gives action masks, but actions of {space} cannot be masked; only those of Discrete and "
        "MultiDiscrete can. Leave the masks out with --set action_masks=false"
    )


def _texts(notes: _Notes, environments: Environments, path: Sequence[str], seed: int) -> list[str]:
    """Examples for one text of the space: from resets, and from the space itself if it knows what it is made of.

    The same seed gives the same ones, as a run that is resumed needs them.
    """
    space = environments.observation_space
    for key in path:
        space = space[key] if isinstance(space, gymnasium.spaces.Dict) else space[int(key)]  # type: ignore[index]
    found: list[str] = []
    for observation, _ in notes.rows:
        value = part_of(observation, path)
        found.extend([value] if isinstance(value, str) else list(value))
    if not isinstance(space, gymnasium.spaces.Text):  # whose samples are random letters
        seeded = copy.deepcopy(space)
        seeded.seed(seed % 2**31)
        found.extend(str(seeded.sample()) for _ in range(_EXAMPLES))
    return found
