"""``pgkeras tune``."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pgkeras.cli.background import stopped_by_signals
from pgkeras.cli.numbers import shown
from pgkeras.cli.seeds import parse_seeds
from pgkeras.errors import ConfigError, extra_needed
from pgkeras.settings import config as config_
from pgkeras.settings.effect import check_effect_in

__all__ = ["command"]

_CONFIRM_SEED = 1_000


@click.command()
@click.argument("env_id")
@click.option("--preset", help="Initial preset. [default: as for pgkeras train]")
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A fixed setting of all trials; may be repeated."
)
@click.option("--steps", type=click.IntRange(1), default=100_000, show_default=True, help="Steps per run.")
@click.option("--time-limit", type=click.FloatRange(0, min_open=True), help="Seconds per run.")
@click.option("--trials", type=click.IntRange(1), default=50, show_default=True, help="Number of trials.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Minutes after which no new trial is started.")
@click.option("--seeds", default="0-1", show_default=True, metavar="0-1", help="Seeds of every trial.")
@click.option("--jobs", type=click.IntRange(1), help="Number of concurrent trials. [default: one per core]")
@click.option(
    "--confirm",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Number of new seeds with which the best settings are compared to the initial ones; 0 for no comparison.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the search. [default: tuning/ENV]",
)
def command(
    env_id: str,
    preset: str | None,
    pairs: tuple[str, ...],
    steps: int,
    time_limit: float | None,
    trials: int,
    minutes: float | None,
    seeds: str,
    jobs: int | None,
    confirm: int,
    out: Path | None,
) -> None:
    """Search for better settings for ENV_ID.

    Every trial trains once per seed, in separate processes, for --steps or --time-limit. Its score is the mean return
    of the last 100 episodes. Trials below the median are pruned. The state of the search is saved in --out, and the
    same command continues it. The best settings are written to best.toml there, for
    `pgkeras train ENV_ID --preset OUT/best.toml`, and the importance of each setting to importances.png.

    \b
    Examples:
      pgkeras tune LunarLander-v3 --minutes 15
      pgkeras tune Pendulum-v1 --time-limit 20 --trials 40 --seeds 0-2
    """
    from pgkeras.cli.tuning import Outcome, Tuning
    from pgkeras.cores import available
    from pgkeras.settings.recipe import Recipe, slug
    from pgkeras.settings.search import search_space

    fixed = config_.assignments(pairs)
    if "seed" in fixed:
        raise click.UsageError("--seeds sets the seeds of all trials: remove --set seed")
    given = {"steps": steps, "time_limit": time_limit, **fixed}
    with extra_needed("train", "train policies"):
        from pgkeras.environments.default_config import config_for
        from pgkeras.environments.single import spaces_of
    config = config_for(env_id, preset, given)
    spaces = spaces_of(Recipe.read(config.to_json()))
    check_effect_in(config, fixed, *spaces)
    for name, value in config.to_json().items():
        _toml(name, value)  # fails before the search instead of after it
    space = {name: values for name, values in search_space(config, *spaces).items() if name not in fixed}
    directory = out or Path("tuning") / slug(env_id)
    tuning = Tuning(config, space, parse_seeds(seeds), directory, jobs or available())

    def tell(outcome: Outcome) -> None:
        settings = ", ".join(f"{k}={v}" for k, v in outcome.settings.items()) or "the initial settings"
        score = outcome.state if math.isnan(outcome.score) else shown(outcome.score)
        click.echo(f"trial {outcome.number}: {score}  ({settings})", err=True)

    click.echo(f"Tuning {env_id} in {directory}: {', '.join(space)}.", err=True)
    with stopped_by_signals():
        tuning.search(trials, None if minutes is None else 60 * minutes, tell)
    best = next(iter(tuning.outcomes()), None)
    if best is None or math.isnan(best.score):
        raise click.ClickException("no trial was completed; allow more --minutes, or see the reasons above")
    preset_file = directory / "best.toml"
    _write_preset(preset_file, config, tuning.with_settings(best.settings), env_id)
    click.echo(f"Best: trial {best.number} with {shown(best.score)}; its settings are in {preset_file}")
    if importances := tuning.importances():
        _plot(directory / "importances.png", importances, env_id)
        click.echo(f"Settings by importance: {', '.join(importances)} ({directory / 'importances.png'})")
    if confirm and best.settings:
        _confirm(tuning, best, config, directory, confirm, jobs)
    click.echo(f"Train with it: pgkeras train {env_id} --preset {preset_file}")


def _write_preset(file: Path, began: config_.Config, best: config_.Config, env_id: str) -> None:
    from pgkeras.files import write_whole

    ends = ("env_id", "seed", "steps", "time_limit")
    defaults = config_.resolve(env_id, config_.DEFAULT)
    values = {k: v for k, v in best.to_json().items() if k not in ends and v != defaults.to_json()[k]}
    lines = [f"# Found by pgkeras tune {env_id}, in runs of {began.steps:,} steps."]
    lines += [f"{name} = {_toml(name, value)}" for name, value in values.items()]
    write_whole(file, "\n".join(lines) + "\n")


def _toml(name: str, value: Any) -> str:
    """Formats a setting's value as in a preset.

    Raises:
        ConfigError: The value is a table or a list that contains a null, which TOML does not have.
    """
    import json

    def written(part: Any) -> str:
        if part is None:
            raise ConfigError(f"{name}: tune writes settings as TOML, which has no null; got {value!r}")
        if isinstance(part, Mapping):
            return "{" + ", ".join(f"{written(key)} = {written(inner)}" for key, inner in part.items()) + "}"
        if isinstance(part, list | tuple):
            return "[" + ", ".join(map(written, part)) + "]"
        return json.dumps(part, ensure_ascii=False)

    return '"none"' if value is None else written(value)


def _plot(file: Path, importances: dict[str, float], env_id: str) -> None:
    from pgkeras.runs.plotting import plot_bars

    plot_bars(file, importances, f"{env_id}: importance of settings", "share of the difference between good and bad")


def _confirm(tuning: Any, best: Any, config: config_.Config, directory: Path, count: int, jobs: int | None) -> None:
    """Trains with new seeds and the settings before and after, and compares the results."""
    from pgkeras.cli.compare import compared, lines
    from pgkeras.cli.seeds import train_seeds
    from pgkeras.runs.groups import grouped

    seeds = [_CONFIRM_SEED + i for i in range(count)]
    runs: list[tuple[str | None, Path]] = []
    for label, settings in (("tuned", best.settings), ("before", {})):
        path = directory / f"confirm-{best.number if settings else 0}"
        missing = [seed for seed in seeds if not _has_ended(path / f"seed-{seed}")]
        for seed in missing:  # removes what an interrupted run has left
            shutil.rmtree(path / f"seed-{seed}", ignore_errors=True)
        if missing:
            train_seeds(tuning.with_settings(settings) if settings else config, missing, path, jobs)
        runs += [(label, path / f"seed-{seed}") for seed in seeds if _has_ended(path / f"seed-{seed}")]
    for line in lines(compared(grouped(runs, "env_id"))):
        click.echo(line)


def _has_ended(run: Path) -> bool:
    """Whether a run has ended without being interrupted."""
    from pgkeras.runs.directory import SUMMARY, read_summary

    return (run / SUMMARY).exists() and read_summary(run)["stop_reason"] is not None
