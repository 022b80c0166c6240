"""Results: what a run says of itself, and the policy that it exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgkeras.bundle.bundle import Bundle
from pgkeras.policy.export import export_policy, package_versions
from pgkeras.runs.run import Best
from pgkeras.settings.recipe import slug

if TYPE_CHECKING:  # which imports this
    from pgkeras.runs.training import Training

__all__ = ["export", "provenance", "summary"]


def summary(training: Training, env_restarts: int, wall_seconds: float, bundle: Bundle | None) -> dict[str, Any]:
    """The result of a run, for ``summary.json``.

    Args:
        training: The run.
        env_restarts: How often environments were made anew.
        wall_seconds: Seconds since the run was made.
        bundle: The policy that was exported; None before.
    """
    seconds, steps = training.solved_at or (None, None)
    best = training.best
    return {
        "env_id": training.config.env_id,
        "seed": training.config.seed,
        "solved": training.solved_at is not None,
        "stop_reason": training.stop_reason,
        "stop_return": training.stop_return,
        "seconds_to_threshold": seconds,
        "steps_to_threshold": steps,
        "env_steps": training.env_steps,
        "env_restarts": env_restarts,
        "epochs": training.epoch,
        "episodes": training.episodes,
        "mean_return_100": training.mean_return_100 if training.episodes else None,
        "best": {k: getattr(best, k) for k in ("score", "epoch", "env_steps")} if best else None,
        "steps_per_second": training.env_steps / training.seconds if training.seconds else None,
        "setup_seconds": training.setup_seconds,
        "train_seconds": training.seconds,
        "wall_seconds": wall_seconds,
        "device": training.device,
        "act_engine": training.act_engine,
        "bundle": str(bundle.path) if bundle is not None else None,
    }


def provenance(training: Training, is_environment: bool) -> dict[str, Any]:
    """Where a run's policy comes from.

    Args:
        training: The run.
        is_environment: Whether its episodes are those of the configured environment, and not of simulators.
    """
    return {
        "env_id": training.config.env_id,
        "is_environment": is_environment,
        "seed": training.config.seed,
        "config": training.config.to_json(),
        "device": training.device,
        "packages": package_versions(),
    }


def export(training: Training, best: Best | None, root: Path, name: str | None) -> Bundle:
    """Publishes a run's policy with its provenance and results.

    Args:
        training: The run.
        best: The policy that did best in evaluations; None for the last.
        root: Directory of policies.
        name: The policy's name; by default the environment's.

    Raises:
        ExportError: See :func:`pgkeras.policy.export.export_policy`.
    """
    policy = training.policy
    results = {k: v for k, v in training.summary().items() if k not in ("env_id", "seed", "device", "bundle")}
    results["exported_epoch"] = training.epoch if best is None else best.epoch
    with policy.with_weights(policy.weights() if best is None else best.weights):
        name = name or slug(training.config.env_id)
        return export_policy(policy, root, name, {**training.provenance(), "results": results})
