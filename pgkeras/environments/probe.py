"""Resets an environment a few times to collect the vocabulary of its texts and to detect action masks."""

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
    """The properties of an environment that a policy is built from."""

    observation_space: Space  # without the mask; texts have vocabularies
    action_space: ActionSpace
    mask_size: int  # 0 for an environment without masks
    reward_threshold: float | None  # from the registration: the mean return at which it counts as solved


def look(environments: Environments, seed: int, masks: bool = True) -> Look:
    """Resets the environments and returns what a policy for them needs.

    Args:
        environments: The environments. They are left in the middle of an episode.
        seed: Seed of the resets.
        masks: Whether to use action masks if the environments have them.

    Raises:
        EnvironmentSetupError: A reset failed.
        UnsupportedSpaceError: A space is not supported, or there are masks for actions that cannot be masked.
    """
    given = observations_from_gymnasium(environments.observation_space)
    action_space = actions_from_gymnasium(environments.action_space)
    has_step_mask = environments.check()
    space = without_mask(given)
    resets = _Resets()
    generator = np.random.default_rng(seed)
    has_texts = any(isinstance(leaf, Text) for _, leaf in leaves(space))
    while not resets.rows or (has_texts and len(resets.rows) < _EXAMPLES):
        try:
            environments.reset(generator.integers(2**31, size=environments.slots).tolist(), resets)
        except (Exception, SystemExit) as error:  # an environment may raise anything
            raise EnvironmentSetupError(f"{name_of(environments)} failed at reset: {describe_error(error)}") from error
    if has_texts:
        space = map_texts(space, lambda text, path: with_vocabulary(text, _texts(resets, environments, path, seed)))
    _warn_of_rounding(name_of(environments), space, resets)
    masked = has_step_mask or space != given or ACTION_MASK in resets.rows[0][1]
    mask_size = _mask_size(environments.action_space) if masks and masked else 0
    threshold = environments.spec.reward_threshold if environments.spec is not None else None
    return Look(space, action_space, mask_size, float(threshold) if threshold is not None else None)


def _warn_of_rounding(name: str, space: Space, resets: _Resets) -> None:
    """Warns if integers are so large that float32 rounds different values to the same number."""
    for path, leaf in leaves(space):
        if not isinstance(leaf, Box) or leaf.dtype.kind not in "iu":
            continue
        largest = max(float(np.abs(np.asarray(part_of(row, path), np.float64)).max()) for row, _ in resets.rows)
        if largest > EXACT_INTEGERS:
            part = f" {'.'.join(path)}" if path else ""
            logger.warning(
                "%s: observation%s has integers such as %.0f; networks compute in float32, which is exact up to %d: "
                "use differences in the observation, or split the numbers into parts",
                name,
                part,
                largest,
                EXACT_INTEGERS,
            )


class _Resets:
    """Records the observations of resets; used in place of a tape."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, Mapping[str, Any]]] = []

    def put(self, t: int, slot: int | slice, observation: Any, info: Mapping[str, Any]) -> None:
        self.rows.append((observation, info))


def _mask_size(space: gymnasium.Space[Any]) -> int:
    if size := mask_size_of(actions_from_gymnasium(space)):
        return size
    raise UnsupportedSpaceError(
        "the environment returns action masks, but only Discrete and MultiDiscrete actions can be masked, got "
        f"{space}; ignore the masks with --set action_masks=false"
    )


def _texts(resets: _Resets, environments: Environments, path: Sequence[str], seed: int) -> list[str]:
    """Returns examples of one text of the space, from resets and, if the space can generate them, from samples.

    The same seed gives the same examples, because a resumed run needs the same vocabulary.
    """
    space = environments.observation_space
    for key in path:
        space = space[key] if isinstance(space, gymnasium.spaces.Dict) else space[int(key)]  # type: ignore[index]
    found: list[str] = []
    for observation, _ in resets.rows:
        value = part_of(observation, path)
        found.extend([value] if isinstance(value, str) else list(value))
    if not isinstance(space, gymnasium.spaces.Text):  # samples of gymnasium's Text are random letters
        seeded = copy.deepcopy(space)
        seeded.seed(seed % 2**31)
        found.extend(str(seeded.sample()) for _ in range(_EXAMPLES))
    return found
