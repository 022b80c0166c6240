"""A film of the policy that a run exported."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from pgkeras import engines
from pgkeras.bundle.bundle import Bundle
from pgkeras.environments.single import find_spec
from pgkeras.errors import PgkerasError
from pgkeras.evaluation.actors import EngineActor
from pgkeras.runs import directory as runs
from pgkeras.runs.loggers.base import FILM
from pgkeras.settings.config import Config
from pgkeras.settings.recipe import Recipe

__all__ = ["film", "film_for_loggers"]

logger = logging.getLogger(__name__)

_MOST_STEPS = 1_000


def film(bundle: Bundle, recipe: Recipe, path: Path, seed: int) -> Path:
    """Films one greedy episode, or its first thousand steps.

    Args:
        bundle: The policy.
        recipe: What it plays.
        path: Where to; it appears whole or not at all.
        seed: Of the environment.

    Raises:
        MissingExtraError: What films are made with is not installed.
        EnvironmentSetupError: The environment cannot be made, or not with pictures.
        EnvironmentStepError: The environment failed, or gave no picture.
    """
    from pgkeras.evaluation.recording import record

    limit = recipe.max_episode_steps or find_spec(recipe.env_id).max_episode_steps or _MOST_STEPS
    recipe = dataclasses.replace(recipe, max_episode_steps=min(limit, _MOST_STEPS))
    actor = EngineActor(bundle.spec, engines.load(bundle), "greedy")
    subtitle = f"{bundle.name} {bundle.version}"
    return record(actor, recipe, path, episodes=1, seed=seed, subtitle=subtitle).path


def film_for_loggers(bundle: Bundle, config: Config, directory: runs.RunDirectory) -> None:
    """Films the policy that a run exported, if there are pictures, and hands the film to the run's loggers."""
    try:
        path = film(bundle, Recipe.read(config.to_json()), directory.path / runs.FILM, config.seed)
    except PgkerasError as error:
        logger.warning("there is no film for the loggers: %s", error)
    else:
        directory.keep(FILM, path)
