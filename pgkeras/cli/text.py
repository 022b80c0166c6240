"""Formats the output of commands as plain text. Pure functions."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.bundle.bundle import Bundle
from pgkeras.cli.numbers import shown
from pgkeras.client.client import Actions, PolicyInfo
from pgkeras.protocol.values import plain, taken
from pgkeras.settings.config import settings
from pgkeras.settings.fields import written
from pgkeras.spaces import Dict, Discrete, MultiDiscrete, Space, Tuple
from pgkeras.spaces import parts as named_parts
from pgkeras.spaces.spec import PolicySpec

__all__ = ["actions", "actions_json", "bundle", "readable", "server_policy", "table"]

_BAR_WIDTH = 40
_MAX_BARS = 16


def actions(answer: Actions, space: Space) -> str:
    """Formats the action distribution and the chosen action of every observation.

    Args:
        answer: The response for one observation or a batch, with log-probability, entropy and distribution.
        space: The action space.
    """
    assert answer.log_prob is not None
    assert answer.entropy is not None
    lines = [f"{answer.policy} version {answer.version}"]
    is_batch = answer.log_prob.ndim == 1
    for row in range(len(answer.log_prob) if is_batch else 1):
        index = row if is_batch else ...
        parameters, action = taken(answer.distribution, index), taken(answer.action, index)
        if is_batch:
            lines.append(f"\nobservation {row}")
        lines += _chart(space, parameters, action)
        lines.append(
            f"  action {plain(action)}   log-probability {answer.log_prob[index]:.3f}   "
            f"entropy {answer.entropy[index]:.3f} nats"
        )
    return "\n".join(lines)


def _chart(space: Space, parameters: Mapping[str, Any], action: Any) -> list[str]:
    if isinstance(space, Dict | Tuple):
        lines: list[str] = []
        for key, part in named_parts(space).items():
            own = action[key] if isinstance(space, Dict) else action[int(key)]
            lines += [f" {key}", *(f" {line}" for line in _chart(part, parameters[key], own))]
        return lines
    if isinstance(space, Discrete):
        return bars(parameters["probabilities"], space.start, int(action))
    if isinstance(space, MultiDiscrete):
        parts = np.split(parameters["probabilities"], np.cumsum(space.nvec.ravel())[:-1])
        columns = zip(parts, space.start.ravel().tolist(), action.ravel().tolist(), strict=True)
        charts = [[f" component {i}", *bars(*column)] for i, column in enumerate(columns)]
        return [line for chart in charts for line in chart]
    return components(parameters, action)


def bars(probabilities: NDArray[Any], start: int, chosen: int) -> list[str]:
    """Draws a bar per action and marks the chosen one. Of many actions, shows the most probable and the chosen one."""
    order = np.argsort(-probabilities, kind="stable")[:_MAX_BARS]
    shown = sorted({*order.tolist(), chosen - start})
    width = len(str(start + shown[-1]))
    lines = []
    for index in shown:
        probability = float(probabilities[index])
        bar = _block() * round(probability * _BAR_WIDTH)
        mark = "  <- chosen" if start + index == chosen else ""
        lines.append(f"  {start + index:>{width}}  {bar:<{_BAR_WIDTH}}  {probability:6.1%}{mark}")
    if hidden := len(probabilities) - len(shown):
        lines.append(f"  ... and {hidden} less probable actions")
    return lines


def components(parameters: Mapping[str, NDArray[Any]], action: NDArray[Any]) -> list[str]:
    """Formats one line per component of an action, with its distribution parameters."""
    rows = zip(*(array.ravel().tolist() for array in (*parameters.values(), action)), strict=True)
    if "stddev" in parameters:
        return [f"  {i:>3}  {m:+.4f} +- {s:.4f}   chosen {a:+.4f}" for i, (m, s, a) in enumerate(rows)]
    names = [*parameters, "chosen"]
    lines = ["   ".join(f"{name} {value:g}" for name, value in zip(names, row, strict=True)) for row in rows]
    return [f"  {i:>3}  {line}" for i, line in enumerate(lines)]


def actions_json(answer: Actions) -> dict[str, Any]:
    """Returns a response as JSON values."""
    arrays = {"action": answer.action, "log_prob": answer.log_prob, "entropy": answer.entropy}
    return {
        **{name: plain(array) for name, array in arrays.items() if array is not None},
        "distribution": plain(answer.distribution),
        "policy": answer.policy,
        "version": answer.version,
    }


def bundle(found: Bundle) -> dict[str, Any]:
    """Describes a bundle as JSON values."""
    return {
        "name": found.name,
        "version": found.version,
        "path": str(found.path),
        **_spec(found.spec),
        "spec_hash": found.spec_hash,
        "engines": "litert, tensorflow" if found.flatbuffer else "tensorflow",
        "bytes": sum(found.files.values()),
        "provenance": found.provenance,
    }


def server_policy(info: PolicyInfo) -> dict[str, Any]:
    """Describes a policy on a server as JSON values."""
    return {
        "name": info.name,
        "version": info.version,
        **_spec(info.spec),
        "spec_hash": info.spec_hash,
        "engine": info.engine,
        "load_time": info.load_time.isoformat(timespec="seconds"),
        "labels": list(info.labels),
        "episodes": dataclasses.asdict(info.episodes),
        "provenance": info.provenance,
    }


def table(values: Mapping[str, Any], indent: str = "") -> str:
    """Formats names and values in two columns, with rounded numbers. Nested mappings are indented."""
    width = max((len(name) for name in values), default=0)
    lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{name}")
            lines.append(table(value, indent + "  "))
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else _cell(value)
            lines.append(f"{indent}{name:<{width}}  {text}".rstrip())
    return "\n".join(line for line in lines if line)


def _cell(value: Any) -> str:
    return shown(value) if isinstance(value, float) else written(value)


def readable(description: dict[str, Any], *, every_setting: bool) -> dict[str, Any]:
    """Prepares a policy's description for people: sorted, with settings written as ``--set`` takes them.

    Args:
        description: See :func:`bundle` and :func:`server_policy`.
        every_setting: Whether to include settings that have their default value.
    """
    provenance = _sorted(description["provenance"])
    if isinstance(provenance.get("config"), dict):
        provenance["config"] = _settings(provenance["config"], every_setting=every_setting)
    return {**description, "provenance": provenance}


def _settings(config: Mapping[str, Any], *, every_setting: bool) -> dict[str, str]:
    defaults = {setting.name: setting.default for setting in settings()}
    lines, hidden = {}, 0
    for name, value in config.items():
        default = defaults.get(name)
        is_default = name in defaults and value == (list(default) if isinstance(default, tuple) else default)
        if is_default and not every_setting:
            hidden += 1
        else:
            lines[name] = written(value)
    return lines | ({"(the defaults)": f"{hidden} more; --all shows them"} if hidden else {})


def _sorted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sorts a mapping by name, because a server returns it in any order."""
    return {name: _sorted(value) if isinstance(value, Mapping) else value for name, value in sorted(values.items())}


def _spec(spec: PolicySpec) -> dict[str, Any]:
    return {
        "observation": str(spec.observation_space),
        "action": str(spec.action_space),
        "distribution": spec.described_distribution,
    }


def _block() -> str:
    try:
        "█".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#"
    return "█"
