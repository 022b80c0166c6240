"""Config: all settings of training, and where they come from: defaults, presets, what is given."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pgkeras.errors import ConfigError
from pgkeras.settings.fields import check_keys, nearest, parse, parse_part, read_table
from pgkeras.settings.groups import (
    NATURAL,
    EnvironmentSettings,
    EstimatorSettings,
    EvaluationSettings,
    FileSettings,
    RunSettings,
    StepSettings,
    ValueSettings,
)

__all__ = [
    "DEFAULT",
    "Config",
    "assignments",
    "overlay",
    "preset_for",
    "preset_names",
    "read_preset",
    "resolve",
]


@dataclass(frozen=True, kw_only=True)
class Config(
    FileSettings,
    EvaluationSettings,
    ValueSettings,
    StepSettings,
    EstimatorSettings,
    EnvironmentSettings,
    RunSettings,
):  # the fields of the last come first
    """Settings of one training run.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """

    env_id: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.returns == "episode" and self.discount_gradient:
            raise ConfigError(
                "discount_gradient: whole-episode returns are discounted from the episode's beginning already; "
                "use it with returns=reward-to-go"
            )
        if self.returns == "episode" and self.reset_returns:
            raise ConfigError("reset_returns: whole-episode returns hold all rewards; use it with returns=reward-to-go")
        if self.returns == "episode" and self.baseline == "value":
            raise ConfigError(
                "baseline: the value network predicts the rewards from a step on, not those of whole episodes; use it "
                "with returns=reward-to-go, or another baseline, such as leave-one-out"
            )
        if self.devices != "one" and self.jit_compile:
            raise ConfigError("jit_compile: XLA compiles the step for one device; use it with devices=one")
        if self.optimizer == NATURAL:
            self._check_natural()

    def _check_natural(self) -> None:
        if self.target_kl is None:
            raise ConfigError(
                "target_kl: natural gradients are as long as it says; set it, such as to 0.01, or use another optimizer"
            )
        if self.reuse > 1:
            raise ConfigError("reuse: there is one natural gradient of a batch; use it with another optimizer")

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        values = {"env_id": self.env_id} | dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Config:
        """The inverse of :meth:`to_json`, also of versions that had fewer settings.

        Raises:
            ConfigError: A key is unknown or missing, or a value is wrong.
        """
        check_keys(data, [setting.name for setting in dataclasses.fields(cls)])
        if "env_id" not in data:
            raise ConfigError("env_id: missing")
        if data.get("loggers") == "both":
            data = {**data, "loggers": ["csv", "tensorboard"]}
        return cls(**{**_BEFORE, **data})


# What a run did whose version had no such setting, where that is not today's default.
_BEFORE = {"normalize_observations": False}


def settings() -> list[dataclasses.Field[Any]]:
    """All settings but ``env_id``; their metadata holds help and range."""
    return [setting for setting in dataclasses.fields(Config) if setting.name != "env_id"]


def resolve(env_id: str, preset: str | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Settings for an environment: its preset (or the named one) over the defaults, and ``overrides`` over both.

    Raises:
        ConfigError: No such preset, an unknown key, or a wrong value.
    """
    if not isinstance(env_id, str):
        raise ConfigError(
            f"env_id: expected the id of an environment, such as 'CartPole-v1', got {env_id!r}; to train on an "
            "environment of your own, register it: gymnasium.register('Mine-v0', MyEnvironment), and give 'Mine-v0'"
        )
    preset = preset or preset_for(env_id)
    values = read_preset(preset)
    check_keys(overrides or {}, [setting.name for setting in settings()])
    try:
        return Config(**overlay(values, {**(overrides or {}), "env_id": env_id}))
    except ConfigError as error:
        name = str(error).partition(":")[0]
        if name in values and name not in (overrides or {}):
            raise ConfigError(f"{error}; preset {preset} sets {name}={values[name]}") from error
        raise


def overlay(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others put over them; keyword arguments of the environment are added to those that there are."""
    merged = {**settings, **overrides}
    kwargs = overrides.get("env_kwargs")
    if isinstance(kwargs, Mapping) and isinstance(settings.get("env_kwargs"), Mapping):
        merged["env_kwargs"] = {**settings["env_kwargs"], **kwargs}
    return merged


def preset_names() -> list[str]:
    """Names of all presets, sorted."""
    files = resources.files("pgkeras.settings.presets").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


DEFAULT = "default"
"""The defaults alone."""


def preset_for(env_id: str) -> str:
    """Name of an environment's own preset, or of the one that is the defaults alone."""
    name = env_id.rpartition(":")[2].rpartition("/")[2].lower()
    return name if name in preset_names() else DEFAULT


def read_preset(name: str) -> dict[str, Any]:
    """A preset's settings, beside the defaults: its own, over those of the preset that its key "base" names, if any.

    Args:
        name: Its name, or the path of a TOML file, which ends in .toml.

    Raises:
        ConfigError: There is none of that name, or the file cannot be read.
    """
    chain = [name]
    layers = [_own_settings(name)]
    while (base := layers[-1].pop("base", None)) is not None:
        if not isinstance(base, str):
            raise ConfigError(f"preset {chain[-1]}: base: expected the name of a preset, got {base!r}")
        if base in chain:
            raise ConfigError(f"preset {chain[-1]}: base: {base!r} is built on this preset itself")
        chain.append(base)
        layers.append(_own_settings(base))
    return {key: value for layer in reversed(layers) for key, value in layer.items()}


def _own_settings(preset: str) -> dict[str, Any]:
    if preset.endswith(".toml"):
        known = ["base", *(setting.name for setting in settings())]
        return read_table(Path(preset), "preset", known)
    if preset not in preset_names():
        raise ConfigError(f"preset {preset!r}: there is none; {nearest(preset, preset_names(), 'pgkeras presets')}")
    text = resources.files("pgkeras.settings.presets").joinpath(f"{preset}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def assignments(pairs: Iterable[str]) -> dict[str, Any]:
    """Parses ``key=value`` pairs by each setting's own type.

    A value "none" clears an optional setting; a list is written with commas, and a table as JSON, of which
    ``key.part=value`` sets one part.

    Raises:
        ConfigError: A pair has no "=", its key is unknown, or its value is not of the setting's type.
    """
    hints = typing.get_type_hints(Config)
    parsed: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r}: expected key=value, such as gamma=0.95")
        key, _, part = key.partition(".")
        check_keys([key], [setting.name for setting in settings()])
        if part:
            parsed[key] = {**(parsed.get(key) or {}), part: parse_part(key, text.strip(), hints[key])}
        else:
            parsed[key] = parse(key, text.strip(), hints[key])
    return parsed
