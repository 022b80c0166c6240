"""The model card of a bundle: a page in Markdown with metadata that the Hub reads, from the bundle's provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgkeras import __version__
from pgkeras.bundle.bundle import Bundle
from pgkeras.errors import extra_needed
from pgkeras.settings.config import Config

__all__ = ["FILM", "card"]

FILM = "replay.mp4"
"""The film's name beside the card, by which the Hub shows it."""


_HOW = """Simulators in C++, C#, Go, Java, Rust, TypeScript and Python call the server: observations go up; the
distribution over actions, a sampled action and its log-probability come back. The SavedModel is self-contained: its
signatures say what each tensor is."""


def card(bundle: Bundle, repo: str, license_id: str | None = None) -> str:
    """The card of a bundle.

    Args:
        bundle: The bundle.
        repo: Where it will be, as ``user/name``.
        license_id: Identifier of its licence, such as ``apache-2.0``, if it has one.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
    """
    with extra_needed("hub", "push policies"):
        from huggingface_hub import EvalResult, ModelCardData
    env_id = bundle.provenance.get("env_id", bundle.name)
    results = _results(bundle)
    data = ModelCardData(
        model_name=bundle.name,
        license=license_id,
        library_name="pgkeras",
        pipeline_tag="reinforcement-learning",
        tags=["reinforcement-learning", "deep-reinforcement-learning", "reinforce", "pgkeras", str(env_id)],
        eval_results=[
            EvalResult("reinforcement-learning", str(env_id), str(env_id), "mean_reward", value, metric_name=name)
            for name, value in results.items()
        ],
    )
    spec = bundle.spec
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {bundle.name}",
        f"A policy for `{env_id}`, trained with REINFORCE by pgkeras.",
        _table(
            {
                "Observation": f"`{spec.observation_space}`",
                "Action": f"`{spec.action_space}`",
                "Distribution": spec.described_distribution.replace("_", " "),
                "Version": bundle.version,
                **{f"Mean return, {name}": f"{value:g}" for name, value in results.items()},
            }
        ),
        "## Use",
        f'```sh\npip install "pgkeras[hub,serve]>={__version__}"\npgkeras pull {repo}\npgkeras serve saved_models\n```',
        _HOW,
        "## Training",
        _training(bundle.provenance),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _results(bundle: Bundle) -> dict[str, float]:
    """Mean returns by what they are of."""
    results = bundle.provenance.get("results") or {}
    best = results.get("best") or {}
    found = {"last 100 training episodes": results.get("mean_return_100"), "best evaluation": best.get("score")}
    return {name: round(float(value), 4) for name, value in found.items() if value is not None}


def _training(provenance: Mapping[str, Any]) -> str:
    results, packages = provenance.get("results") or {}, provenance.get("packages") or {}
    facts = {
        "Environment steps": results.get("env_steps"),
        "Episodes": results.get("episodes"),
        "Seconds of training": results.get("train_seconds"),
        "Seed": provenance.get("seed"),
        "Device": provenance.get("device"),
        "Packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }
    defaults = Config(env_id=str(provenance.get("env_id", ""))).to_json()
    settings = {
        f"`{name}`": f"`{value}`"
        for name, value in (provenance.get("config") or {}).items()
        if name in defaults and value != defaults[name] and name not in ("env_id", "seed")
    }
    shown = {
        name: f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        for name, value in facts.items()
        if value not in (None, "")
    }
    parts = [_table(shown)]
    if settings:
        parts += ["Settings other than the defaults:", _table(settings)]
    return "\n\n".join(parts)


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines]) if lines else ""
