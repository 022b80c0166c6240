"""What `pgkeras tune` looks for: settings, each with the values that are worth trying."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pgkeras.settings.config import Config
from pgkeras.settings.effect import idle
from pgkeras.settings.groups import NATURAL
from pgkeras.spaces import ActionSpace, Box, Space, leaves

__all__ = ["Choices", "Logarithmic", "Same", "Trial", "search_space", "settings_of"]


class Trial(Protocol):
    """What values are drawn by: one of Optuna's trials."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of some values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number in an interval."""


@dataclass(frozen=True)
class Choices:
    """One of some values, each written as on the command line."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Logarithmic:
    """A number whose logarithm is drawn evenly; of ``1 - number`` where it is ``from_one``."""

    low: float
    high: float
    from_one: bool = False


@dataclass(frozen=True)
class Same:
    """The value of another setting; none where that is not drawn."""

    of: str


Dimension = Choices | Logarithmic | Same

_COMMON: dict[str, Dimension] = {
    "learning_rate": Logarithmic(3e-4, 3e-2),
    "gamma": Logarithmic(0.001, 0.1, from_one=True),
    "episodes": Choices(("4", "8", "16", "32")),
    "envs": Same("episodes"),
    "entropy_bonus": Choices(("0", "0.003", "0.01", "0.03", "0.1")),
    "hidden": Choices(("64,64", "128,128", "256,256")),
    "layer_normalization": Choices(("false", "true")),
    "baseline": Choices(("leave-one-out", "value")),
    "target_kl": Choices(("none", "0.003", "0.01", "0.03")),
    "normalize_observations": Choices(("none", "true")),
}
_NATURAL_KL = Choices(("0.005", "0.01", "0.02", "0.03"))
_CONTINUOUS: dict[str, Dimension] = {
    "batch_steps": Choices(("none", "1000", "2000", "5000")),
    "initial_log_std": Choices(("-1", "-0.5", "0")),
}


def search_space(config: Config, observation_space: Space, action_space: ActionSpace) -> dict[str, Dimension]:
    """The settings that are worth tuning, by name, without those that change nothing.

    Args:
        config: The settings to begin with.
        observation_space: The observations.
        action_space: The actions.
    """
    space = {**_COMMON, **(_CONTINUOUS if any(isinstance(leaf, Box) for _, leaf in leaves(action_space)) else {})}
    if config.optimizer == NATURAL:  # whose steps are as long as target_kl says, so that it is needed
        del space["learning_rate"]
        space["target_kl"] = _NATURAL_KL
    changes_nothing = idle(config, observation_space, action_space)
    return {name: dimension for name, dimension in space.items() if name not in changes_nothing}


def settings_of(trial: Trial, space: Mapping[str, Dimension]) -> dict[str, str]:
    """Draws a value of each setting; as text, as ``--set`` takes it."""
    drawn: dict[str, str] = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choices):
            drawn[name] = trial.suggest_categorical(name, dimension.values)
        elif isinstance(dimension, Same):
            if dimension.of in drawn:
                drawn[name] = drawn[dimension.of]
        else:
            number = trial.suggest_float(name, dimension.low, dimension.high, log=True)
            digits = 2 - math.floor(math.log10(number))
            drawn[name] = repr(round(1 - number if dimension.from_one else number, digits))
    return drawn
