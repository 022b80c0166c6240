"""Runs that belong together: those of one environment with the same label or the same value of a setting."""

from __future__ import annotations

import glob as glob_
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgkeras.errors import ConfigError
from pgkeras.runs.directory import CONFIG, read_config

__all__ = ["GroupedRun", "chosen", "grouped"]


@dataclass(frozen=True)
class GroupedRun:
    """A run in its group.

    Args:
        path: Its directory.
        config: What its ``config.json`` says.
    """

    path: Path
    config: dict[str, Any]


def chosen(runs: Iterable[Path], patterns: Iterable[tuple[str, str]]) -> list[tuple[str | None, Path]]:
    """Run directories with their labels: those named one by one have none.

    A directory of runs, as ``pgkeras train --seeds`` makes it, stands for the runs in it.

    Args:
        runs: Named one by one.
        patterns: Labels, each with a pattern of paths.

    Raises:
        ConfigError: Nothing matches a pattern.
    """
    found: list[tuple[str | None, Path]] = [(None, run) for path in runs for run in _runs_in(path)]
    for label, pattern in patterns:
        matched = sorted(Path(path) for path in glob_.glob(pattern))  # noqa: PTH207 - it may be absolute
        if not matched:
            raise ConfigError(f"--group {label}: nothing matches {pattern!r}")
        found += [(label, run) for path in matched for run in _runs_in(path)]
    return found


def _runs_in(path: Path) -> list[Path]:
    within = [] if (path / CONFIG).exists() else sorted(file.parent for file in path.glob(f"seed-*/{CONFIG}"))
    return within or [path]


def grouped(runs: Sequence[tuple[str | None, Path]], by: str) -> dict[str, dict[str, list[GroupedRun]]]:
    """Groups runs by environment, and in it by label or setting, in the order in which they are given.

    Args:
        runs: See :func:`chosen`.
        by: The setting that runs without a label are grouped by; "run" for a group each, "env_id" for one group.

    Raises:
        ConfigError: A run has no such setting.
        RunError: A directory holds no run.
    """
    groups: dict[str, dict[str, list[GroupedRun]]] = {}
    names = [run.resolve().name for _, run in runs]
    for label, path in runs:
        run = GroupedRun(path, read_config(path))
        settings = run.config["config"]
        if by == "run":
            own = path.resolve().name if len(set(names)) == len(names) else str(path)
        elif by in settings:
            own = "" if by == "env_id" else f"{by}={settings[by]}"
        else:
            raise ConfigError(f"--by {by}: {path} has no such setting; there is {', '.join(sorted(settings))}")
        groups.setdefault(settings["env_id"], {}).setdefault(label or own, []).append(run)
    return groups
