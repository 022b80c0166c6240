"""The public names exist in their modules, and importing a package loads nothing heavy."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import pgkeras

PUBLIC = {
    "pgkeras": "Callback Config PgkerasError PolicyClient Tls Training train",
    "pgkeras.bundle": "Bundle check_name find open_bundle policy_names versions",
    "pgkeras.callbacks": "Callback Evaluate Plateau Publish ReturnReached StepLimit StopCondition TimeLimit",
    "pgkeras.client": "Actions EpisodesPlayed Limits Mode Output PlaySession PolicyClient PolicyInfo Tls",
    "pgkeras.collect": "Actor Collector",
    "pgkeras.config": "Config preset_for preset_names read_preset resolve",
    "pgkeras.distributions": "Distribution",
    "pgkeras.engines": "Engine load",
    "pgkeras.environments": "Environments Recipe WrapperCall look make make_one",
    "pgkeras.errors": "ConfigError PgkerasError PolicyServiceError",
    "pgkeras.evaluation": "EngineActor Evaluation RemoteActor evaluate",
    "pgkeras.export": "convert export_policy",
    "pgkeras.networks": "body",
    "pgkeras.policy": "Policy",
    "pgkeras.reinforce": "TrainStep discounted_returns reinforce_loss",
    "pgkeras.returns": "bootstrapped discounted_returns leave_one_out_baseline rescale time_baseline",
    "pgkeras.runs": "RunDirectory read_config read_metrics read_summary",
    "pgkeras.spaces": "Box Dict Discrete MultiBinary MultiDiscrete Text Tuple",
    "pgkeras.training": "EpochMetrics Training train",
    "pgkeras.v1": "",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_exist(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in PUBLIC[module].split() if not hasattr(found, name)] == []


def test_a_name_is_the_same_object_in_every_module() -> None:
    paths = [
        ("pgkeras.training", "train", "pgkeras"),
        ("pgkeras.returns", "discounted_returns", "pgkeras.reinforce"),
        ("pgkeras.config", "Config", "pgkeras"),
        ("pgkeras.callbacks", "Callback", "pgkeras"),
        ("pgkeras.client", "PolicyClient", "pgkeras"),
    ]
    for one, name, other in paths:
        assert getattr(importlib.import_module(one), name) is getattr(importlib.import_module(other), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'pgkeras.policy' has no attribute 'Polcy'"):
        _ = importlib.import_module("pgkeras.policy").Polcy


def test_importing_every_package_loads_nothing_heavy() -> None:
    packages = ["pgkeras_serving", *(f"pgkeras.{m.name}" for m in pkgutil.iter_modules(pgkeras.__path__) if m.ispkg)]
    heavy = ["tensorflow", "keras", "gymnasium", "matplotlib", "ai_edge_litert"]
    code = f"import sys, {', '.join(packages)}\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == []
    assert len(packages) > 12
