"""Ablations: four environments with their presets, with one setting changed at a time.

``python -m benchmarks.ablations`` trains every variant for the same number of steps: settings, and the ideas of
``benchmarks.ideas``, which are not settings. A variant that equals the preset is not run. The table has the mean return
of the last 100 training episodes, and the mean over the whole run, which measures how fast the return rises.

Every run is a line of ``docs/ablations.jsonl``. Runs in that file with the current settings are not repeated. At the
end the table is written to ``docs/ablations.md``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.budget import by_settings, config_of, fill, in_process, parser_of_runs, train_for
from benchmarks.cases import Case
from benchmarks.ideas import IDEAS, ONE_START, STATE_DEVIATION, SYMLOG
from benchmarks.report import mean_and_range, table, write_below
from pgkeras.settings.config import Config, preset_for

DOCS = Path(__file__).parent.parent / "docs"
_FILE = DOCS / "ablations.jsonl"
_MARKER = "<!-- made by python -m benchmarks.ablations -->"
_AS_IT_IS = "as it is"
STEPS = {"CartPole-v1": 100_000, "LunarLander-v3": 300_000, "Pendulum-v1": 200_000, "Hopper-v5": 300_000}
# The values of the presets when the table was started. Its variants change those.
_OF_THEN: dict[str, dict[str, Any]] = {
    "LunarLander-v3": {"batch_steps": None, "learning_rate_schedule": "linear"},
    "Pendulum-v1": {"batch_steps": None, "gamma": 0.9, "optimizer": "adam", "target_kl": None},
    "Hopper-v5": {
        "batch_steps": 2500,
        "gamma": 0.995,
        "initial_log_std": -1.0,
        "optimizer": "adam",
        "target_kl": 0.01,
        "learning_rate_schedule": "linear",
    },
}
VARIANTS: dict[str, dict[str, Any]] = {
    _AS_IT_IS: {},
    "returns of the whole episode, leave-one-out": {"returns": "episode", "baseline": "leave-one-out"},
    "no baseline": {"baseline": "none"},
    "baseline: running mean": {"baseline": "running-mean"},
    "baseline: mean at the same step": {"baseline": "time"},
    "baseline: leave-one-out": {"baseline": "leave-one-out"},
    "baseline: value network": {"baseline": "value"},
    "advantages not rescaled": {"rescale": False},
    "observations not normalised": {"normalize_observations": False},
    "observations normalised": {"normalize_observations": True},
    "gradient not clipped": {"clip_norm": None},
    "step size not by divergence": {"target_kl": None},
    "step size by divergence, 0.01": {"target_kl": 0.01},
    "constant step size": {"learning_rate_schedule": "constant"},
    "natural gradients, divergence 0.03": {"optimizer": "natural", "target_kl": 0.03},
    "plain gradient descent": {"optimizer": "sgd", "learning_rate": 0.1},
    "entropy weight 0.02": {"entropy_bonus": 0.02},
    "two layers of 256": {"hidden": (256, 256)},
    "relu": {"activation": "relu"},
    "layer normalisation": {"layer_normalization": True},
    "memory (GRU)": {"memory": "gru"},
    "reuse of 5": {"reuse": 5},
    "squashed Gaussian": {"distribution": "squashed_gaussian"},
    "Kumaraswamy": {"distribution": "kumaraswamy"},
    **{idea: {} for idea in IDEAS},
    ONE_START: {"baseline": "leave-one-out", "vectorization": "plain"},
}


def main() -> None:
    parser = parser_of_runs(__doc__, one=("CASE", "VARIANT", "SEED"), only=STEPS)
    parser.add_argument(
        "--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS), help="run only these variants"
    )
    options = parser.parse_args()
    if options.one:
        case, variant, seed = options.one
        config = _config(case, variant, int(seed))
        with IDEAS[variant](config) if variant in IDEAS else nullcontext({}) as more:
            print(json.dumps(train_for(Case(case), config, math.inf, **more)))
        return
    wanted = [
        {"case": case, "variant": variant, "seed": seed}
        for seed in range(options.seeds)
        for variant in options.variants
        for case in options.only
        if _differs(case, variant)
    ]

    def run(which: Mapping[str, Any]) -> dict[str, Any]:
        return in_process("benchmarks.ablations", ["--one", which["case"], which["variant"], str(which["seed"])])

    write_below(DOCS / "ablations.md", _MARKER, _tables(fill(_FILE, wanted, run, options.jobs, _is_current)))


def _config(case: str, variant: str, seed: int) -> Config:
    settings = {"steps": STEPS[case], "evaluation_every": 0, **_OF_THEN.get(case, {}), **VARIANTS[variant]}
    return config_of(Case(case), seed, settings, preset_for(case))


def _differs(case: str, variant: str) -> bool:
    """Whether a variant differs from the preset, and supports the environment's actions."""
    if "distribution" in VARIANTS[variant] or variant == STATE_DEVIATION:
        return case in ("Pendulum-v1", "Hopper-v5")
    if variant == SYMLOG:
        return _config(case, variant, 0).baseline == "value"
    return variant == _AS_IT_IS or variant in IDEAS or _config(case, variant, 0) != _config(case, _AS_IT_IS, 0)


def _is_current(run: dict[str, Any]) -> bool:
    """Whether the run has the current settings."""
    case, variant = run["case"], run["variant"]
    return variant in VARIANTS and by_settings(run, _config(case, variant, run["seed"]))


def _tables(runs: list[dict[str, Any]]) -> str:
    parts = []
    for case, steps in STEPS.items():
        rows = []
        for variant in VARIANTS:
            found = [run for run in runs if (run["case"], run["variant"]) == (case, variant)]
            if not found:
                continue
            last, over = [run["last_100"] for run in found], [_over_the_run(run) for run in found]
            rows.append(
                {
                    "variant": variant,
                    "seeds": len(found),
                    "last 100 episodes": mean_and_range(last),
                    "over the run": mean_and_range(over),
                    "30 greedy episodes at the end": mean_and_range([run["greedy"] for run in found]),
                }
            )
        if rows:
            parts.append(f"### {case}, {steps:,} steps\n\n{table(rows)}")
    return "\n\n".join(parts)


def _over_the_run(run: dict[str, Any]) -> float:
    """Returns the mean return over the steps of a run."""
    _, steps, returns = np.array(run["curve"], np.float64).T
    return float(np.trapezoid(returns, steps) / (steps[-1] - steps[0]))


if __name__ == "__main__":
    main()
