"""Settings, presets and their errors."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgkeras.errors import ConfigError
from pgkeras.settings import config
from pgkeras.settings.config import Config, assignments, resolve, settings
from pgkeras.settings.effect import check_effect, check_effect_in
from pgkeras.settings.fields import range_of, written
from pgkeras.spaces import ActionSpace, Box, Dict, Discrete, Space, Tuple

ROOT = Path(__file__).parent.parent.parent

ALL = {setting.name: setting for setting in settings()}
HINTS = typing.get_type_hints(Config)


def hint_of(name: str) -> Any:
    """The setting's type, without None, and of a tuple its elements' type."""
    hint = HINTS[name]
    if typing.get_origin(hint) is Mapping:
        return hint
    arguments = [a for a in typing.get_args(hint) if a not in (type(None), Ellipsis)]
    return arguments[0] if arguments else hint


def in_place(name: str, value: Any) -> Any:
    firsts = {tuple[Any, ...]: "SomeWrapper", tuple[str, ...]: "csv"}
    first = firsts.get(HINTS[name], 64)
    return (first, value) if typing.get_origin(HINTS[name]) is tuple else value


def bad_values(setting: dataclasses.Field[Any]) -> list[Any]:
    """Just outside the range, and of wrong types."""
    kind, limits = hint_of(setting.name), setting.metadata
    bad: list[Any] = [[], {}, b"x"]
    if typing.get_origin(kind) is Mapping:
        return [[], b"x", "x", 3, {3: 4}, {"a b": 4}, {"f": object()}, {"x": float("nan")}]
    if kind is Any:
        return [[], {}, b"x", "", 3, {"name": 3}, {"name": "X", "args": {}}, {"name": "X", "kwargs": {"f": object()}}]
    if kind is str:
        bad += [3, True]
    if kind is bool:
        bad += ["maybe", 1]
    if kind in (str, bool) and type(None) not in typing.get_args(HINTS[setting.name]):
        bad += [None]
    if kind in (int, float):
        bad += ["many", True, float("nan"), float("inf"), float("-inf")]
    if kind is int:
        bad += [1.5]
    if limits["choices"]:
        bad += ["nonsense", ""]
    smallest = 1 if kind is int else 1e-9
    if limits["minimum"] is not None:
        bad += [limits["minimum"] - smallest]
    if limits["maximum"] is not None:
        bad += [limits["maximum"] + (1 if kind is int else 1e-9)]
    if limits["above"] is not None:
        bad += [limits["above"], limits["above"] - smallest]
    return bad


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, s in ALL.items() for v in bad_values(s)])
def test_a_value_outside_its_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}\b.*: expected .+, got|^{name}: expected .+; got") as caught:
        Config(env_id="E", **{name: in_place(name, value)})
    allowed = range_of(ALL[name])
    if allowed and isinstance(value, hint_of(name)) and not isinstance(value, bool):
        assert allowed in str(caught.value)


@pytest.mark.parametrize("name", ALL)
def test_the_edges_of_a_range_are_allowed(name: str) -> None:
    limits = ALL[name].metadata
    edges = [limits[k] for k in ("minimum", "maximum") if limits[k] is not None] + list(limits["choices"] or ())
    for edge in [*edges, *([None] if type(None) in typing.get_args(HINTS[name]) else [])]:
        value = in_place(name, edge)
        if value is not None:
            assert getattr(Config(env_id="E", **{name: value}), name) == value
        else:
            assert getattr(Config(env_id="E", **{name: value}), name) is None


@pytest.mark.parametrize("name", ALL)
def test_every_setting_has_help_and_its_default_is_allowed(name: str) -> None:
    assert ALL[name].metadata["help"].endswith(".")
    assert Config(env_id="E", **{name: ALL[name].default}) == Config(env_id="E")


def test_a_float_that_is_whole_is_a_whole_number() -> None:
    config = Config(env_id="E", steps=1e6)  # type: ignore[arg-type]
    assert (config.steps, type(config.steps)) == (1_000_000, int)


def test_numbers_of_numpy_are_numbers() -> None:
    hidden = tuple(np.array([3, 4]))
    config = Config(
        env_id="E", seed=np.arange(4)[3], rescale=np.bool_(False), learning_rate=np.float32(0.5), hidden=hidden
    )
    assert (config.seed, config.rescale, config.learning_rate, config.hidden) == (3, False, 0.5, (3, 4))
    assert type(config.rescale) is bool
    assert {type(value) for value in (config.seed, *config.hidden)} == {int}


def test_lists_may_be_written_as_on_the_command_line() -> None:
    config = Config(env_id="E", wrappers="TimeAwareObservation,my:Own", hidden="64,32")
    assert (config.wrappers, config.hidden) == (("TimeAwareObservation", "my:Own"), (64, 32))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", 10**400, "expected a number, got one too large"),
        ("stop_return", np.array([3.0, 4.0]), "expected a number, got array"),
        ("hidden", "64,x", "expected whole numbers with commas between them, got '64,x'"),
    ],
)
def test_values_of_other_kinds_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: {message}"):
        Config(env_id="E", **{name: value})


@pytest.mark.parametrize("steps", [0, -1, -500_000])
def test_negative_steps(steps: int) -> None:
    with pytest.raises(ConfigError, match=rf"steps: expected .*at least 1, got {steps}"):
        resolve("CartPole-v1", overrides={"steps": steps})


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("gamma=0.5", {"gamma": 0.5}),
        ("gamma=1", {"gamma": 1.0}),
        ("steps=1_000", {"steps": 1000}),
        ("steps=1e3", {"steps": 1000}),
        ("hidden=32,16", {"hidden": (32, 16)}),
        ("hidden=32", {"hidden": (32,)}),
        ("hidden=", {"hidden": ()}),
        ("rescale=no", {"rescale": False}),
        ("rescale=True", {"rescale": True}),
        ("clip_norm=none", {"clip_norm": None}),
        ("clip_norm=2", {"clip_norm": 2.0}),
        ("activation = relu", None),
        ("activation=relu", {"activation": "relu"}),
        ("baseline=leave-one-out", {"baseline": "leave-one-out"}),
        ("env_kwargs.gravity=9", {"env_kwargs": {"gravity": 9}}),
        ("env_kwargs.mode=fast", {"env_kwargs": {"mode": "fast"}}),
        ("env_kwargs.blank=true", {"env_kwargs": {"blank": True}}),
        ('env_kwargs={"size": [3, 4]}', {"env_kwargs": {"size": [3, 4]}}),
        ("env_kwargs=none", {"env_kwargs": None}),
        ("wrappers=FlattenObservation, my:Own", {"wrappers": ("FlattenObservation", "my:Own")}),
        ('wrappers=[{"name": "A", "kwargs": {"n": 3}}, "B"]', {"wrappers": ({"name": "A", "kwargs": {"n": 3}}, "B")}),
        ("wrappers=none", {"wrappers": ()}),
    ],
)
def test_pairs_are_parsed_by_the_settings_type(pair: str, expected: dict[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match="no such setting"):
            assignments([pair])
    else:
        assert assignments([pair]) == expected
        Config(env_id="E", **expected)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("gamma", "'gamma': expected key=value"),
        ("", "expected key=value"),
        ("=3", "there is no such setting"),
        ("gamma=high", "gamma: expected a number, got 'high'"),
        ("steps=1.5", "steps: expected a whole number, got '1.5'"),
        ("steps=1e-3", "steps: expected a whole number, got '1e-3'"),
        ("steps=inf", "steps: expected a whole number, got 'inf'"),
        ("rescale=perhaps", "rescale: expected true or false, got 'perhaps'"),
        ("hidden=a,b", "hidden: expected whole numbers with commas"),
        ("gama=0.9", "gama: .* did you mean gamma"),
        ("learning-rate=0.9", "did you mean learning_rate"),
        ("env_id=Acrobot-v1", "env_id: there is no such setting"),
        ("env_kwargs=3", "env_kwargs: expected a table"),
        ("env_kwargs={", "env_kwargs: expected a table"),
        ("gamma.high=3", "gamma: expected a number, got one of its parts"),
        ("wrappers=[3", "wrappers: expected names with commas"),
        ("zzz=1", "zzz: there is no such setting; --help lists them$"),
    ],
)
def test_malformed_pairs_are_named(pair: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assignments([pair])


def test_an_environment_in_place_of_its_id_is_told_what_to_give() -> None:
    class Mine:
        pass

    for wrong in (Mine(), Mine, None):
        with pytest.raises(ConfigError, match=r"expected the id of an environment, .*gymnasium\.register\('Mine-v0'"):
            resolve(wrong)  # type: ignore[arg-type]


def test_overrides_win_over_the_preset_and_the_preset_over_the_defaults() -> None:
    preset = config.read_preset("cartpole-v1")
    assert preset
    resolved = resolve("CartPole-v1", overrides={"gamma": 0.25})
    for name, setting in ALL.items():
        expected = 0.25 if name == "gamma" else preset.get(name, setting.default)
        assert getattr(resolved, name) == expected
    with pytest.raises(ConfigError, match="did you mean gamma"):
        resolve("CartPole-v1", overrides={"gamm": 1})
    with pytest.raises(ConfigError, match="env_id"):
        resolve("CartPole-v1", overrides={"env_id": "Acrobot-v1"})


OF_LENGTH = ("learning_rate", "clip_norm", "rescale")  # of a step, which natural gradients have from target_kl


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({"ray_address": "auto"}, {"collect": "ray"}),
        ({"ray_actors": 2}, {"collect": "ray"}),
        ({"env_workers": 2}, {"vectorization": "async"}),
        ({"running_mean_rate": 0.5}, {"baseline": "running-mean"}),
        ({"value_passes": 5}, {"baseline": "value"}),
        ({"fisher_steps": 10}, {"optimizer": "natural", "target_kl": 0.01}),
        ({"target_kl_settles": True}, {"target_kl": 0.01}),
        ({"learning_rate": 0.1}, {"optimizer": "sgd"}),
        ({"rescale": False}, {"optimizer": "sgd"}),
        ({"rescale": True}, {"entropy_bonus": 0.1, "optimizer": "natural", "target_kl": 0.01}),
        ({"clip_norm": 0.1}, {"optimizer": "sgd"}),
        ({"reuse_kl": 0.1}, {"reuse": 2}),
        ({"entropy_schedule": "linear"}, {"entropy_bonus": 0.1}),
        ({"memory_units": 8}, {"memory": "lstm"}),
        ({"evaluation_mode": "both"}, {"evaluation_every": 3}),
    ],
)
def test_a_setting_that_changes_nothing_is_refused_where_it_is_given(
    given: dict[str, Any], needed: dict[str, Any]
) -> None:
    (name,), (other, *_) = given, needed
    without = {"optimizer": "natural", "target_kl": 0.01} if name in OF_LENGTH else {}
    with pytest.raises(ConfigError, match=rf"^{name}: it changes nothing without .*{other}"):
        check_effect(Config(env_id="E", **given, **without), given)
    check_effect(Config(env_id="E", **given, **needed), given)
    check_effect(Config(env_id="E", **given, **without), {})  # a preset's, or an earlier run's
    check_effect(Config(env_id="E"), {name: None})


def test_a_setting_of_files_is_refused_where_there_are_none_and_one_of_a_network_where_another_is_given() -> None:
    given: dict[str, Any]
    for given in ({"loggers": ("csv",)}, {"checkpoint_seconds": 1.0}, {"keep_checkpoints": 3}):
        config = Config(env_id="E", **given)
        with pytest.raises(ConfigError, match="a run without a directory leaves no files"):
            check_effect(config, given, directory=False)
        check_effect(config, given)
        check_effect(config, {}, directory=False)
    check_effect(Config(env_id="E", loggers=()), {"loggers": ()}, directory=False)
    for given in ({"hidden": (8,)}, {"activation": "relu"}, {"layer_normalization": True}):
        with pytest.raises(ConfigError, match="it changes nothing in a network of your own"):
            check_effect(Config(env_id="E", **given), given, network=True)
    check_effect(Config(env_id="E", baseline="value", hidden=(8,)), {"hidden": (8,)}, network=True)


IMAGE = Box(np.zeros((8, 8, 3)), np.full((8, 8, 3), 255.0), np.dtype(np.uint8))
NUMBERS = Box(np.full(2, -1.0), np.full(2, 1.0), np.dtype(np.float32))
FREE = Box(np.full(2, -np.inf), np.full(2, np.inf), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("given", "observed", "acts", "observed_otherwise", "acts_otherwise"),
    [
        ({"hidden": (8,)}, IMAGE, Discrete(2), Dict({"camera": IMAGE, "arm": NUMBERS}), Discrete(2)),
        ({"hidden": ()}, Tuple((IMAGE,)), NUMBERS, Tuple((IMAGE, IMAGE)), Discrete(2)),
        ({"activation": "relu"}, IMAGE, Discrete(2), Dict({"camera": IMAGE, "arm": NUMBERS}), Discrete(2)),
        ({"network": "mlp"}, NUMBERS, Discrete(2), IMAGE, Discrete(2)),
        ({"normalize_observations": True}, Discrete(5), Discrete(2), NUMBERS, Discrete(2)),
        ({"initial_log_std": -1.0}, NUMBERS, Discrete(2), NUMBERS, NUMBERS),
        ({"initial_log_std": 0.0}, NUMBERS, Discrete(2), NUMBERS, Tuple((Discrete(2), NUMBERS))),
        ({"initial_log_std": -1.0, "distribution": "kumaraswamy"}, NUMBERS, NUMBERS, NUMBERS, Tuple((NUMBERS, FREE))),
    ],
)
def test_a_setting_that_changes_nothing_in_the_spaces_is_refused_where_it_is_given(
    given: dict[str, Any],
    observed: Space,
    acts: ActionSpace,
    observed_otherwise: Space,
    acts_otherwise: ActionSpace,
) -> None:
    config = Config(env_id="E", **given)
    with pytest.raises(ConfigError, match=f"^{next(iter(given))}: it changes nothing where"):
        check_effect_in(config, given, observed, acts)
    check_effect_in(config, given, observed_otherwise, acts_otherwise)
    check_effect_in(config, {}, observed, acts)  # a preset's, or an earlier run's


def test_what_is_off_may_be_said_to_be() -> None:
    given = {"normalize_observations": False, "network": "auto"}
    check_effect_in(Config(env_id="E", **given), given, Discrete(5), Discrete(2))


def test_a_setting_of_the_preset_that_does_not_go_with_one_that_is_given_is_said_to_be_the_presets() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("Any-v0", "continuous", {"returns": "episode"})
    assert str(caught.value).startswith("baseline: the value network predicts the rewards from a step on")
    assert "another baseline, such as leave-one-out; preset continuous sets baseline=value" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        resolve("Any-v0", "continuous", {"returns": "episode", "baseline": "value"})
    assert "preset" not in str(caught.value)
    assert resolve("Any-v0", "continuous", {"returns": "episode", "baseline": "leave-one-out"}).returns == "episode"


def test_keyword_arguments_add_up() -> None:
    assert assignments(["env_kwargs.a=1", "env_kwargs.b=x", "env_kwargs.a=2"]) == {"env_kwargs": {"a": 2, "b": "x"}}
    settings = {"env_kwargs": {"a": 1, "b": 2}, "gamma": 0.5}
    assert config.overlay(settings, {"env_kwargs": {"b": 3}})["env_kwargs"] == {"a": 1, "b": 3}
    assert config.overlay(settings, {"env_kwargs": None})["env_kwargs"] is None
    assert settings["env_kwargs"] == {"a": 1, "b": 2}


@pytest.mark.parametrize("name", config.preset_names())
def test_presets_load(name: str) -> None:
    text = resources.files("pgkeras.settings.presets").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    values = {key: value for key, value in tomllib.loads(text).items() if key != "base"}
    resolved = resolve("Any-v0", name)
    for key, value in values.items():
        is_off = value == "none" and type(None) in typing.get_args(HINTS[key])
        assert resolved.to_json()[key] == (None if is_off else value)


def test_a_preset_stands_over_its_base() -> None:
    base, preset = config.read_preset("mujoco"), config.read_preset("humanoid-v5")
    assert base["baseline"] == preset["baseline"] == "value"
    assert base["initial_log_std"] != preset["initial_log_std"] == -2
    assert preset.keys() == base.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [("base = 3", "base: expected the name of a preset, got 3"), ('base = "own.toml"', "built on this preset itself")],
)
def test_a_base_that_is_none_is_named(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"preset own\.toml: .*{message}"):
        resolve("CartPole-v1", "own.toml")


def test_presets_are_found_by_environment() -> None:
    assert {"cartpole-v1", "default", "textbook"} <= set(config.preset_names())
    assert config.preset_for("CartPole-v1") == "cartpole-v1"
    assert config.preset_for("some.module:CartPole-v1") == "cartpole-v1"
    assert config.preset_for("Unheard-v0") == "default"
    assert resolve("Unheard-v0") == Config(env_id="Unheard-v0")
    with pytest.raises(ConfigError, match=r"'textbok': .*did you mean textbook"):
        resolve("CartPole-v1", "textbok")
    with pytest.raises(ConfigError, match=r"'\.\./secret'"):
        resolve("CartPole-v1", "../secret")


def test_textbook_is_the_plain_algorithm() -> None:
    plain = resolve("CartPole-v1", "textbook", {"gamma": 0.7})
    assert (plain.envs, plain.episodes, plain.baseline, plain.rescale) == (1, 1, "none", False)
    assert (plain.clip_norm, plain.entropy_bonus, plain.gamma) == (None, 0.0, 0.7)


def values_of(setting: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    kind, limits = hint_of(setting.name), setting.metadata
    if limits["choices"]:
        one = st.sampled_from(limits["choices"])
    elif typing.get_origin(kind) is Mapping:
        one = st.dictionaries(
            st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True), st.integers() | st.booleans() | st.text()
        )
    elif kind is Any:
        one = st.from_regex(r"([a-z.]+:)?[A-Z][A-Za-z0-9]*", fullmatch=True)
    elif kind is bool:
        one = st.booleans()
    elif kind is str:
        one = st.text(min_size=1).filter(lambda s: s != "none")
    elif kind is int:
        one = st.integers(int(limits["minimum"]), int(limits["maximum"] or 2**63))
    else:
        low = limits["minimum"] if limits["minimum"] is not None else limits["above"]
        one = st.floats(low, limits["maximum"], exclude_min=limits["above"] is not None, allow_infinity=False)
        one = one if low is not None else st.floats(allow_nan=False, allow_infinity=False)
    if typing.get_origin(HINTS[setting.name]) is tuple:
        return st.lists(one, max_size=3).map(tuple)
    return st.none() | one if type(None) in typing.get_args(HINTS[setting.name]) else one


def go_together(values: dict[str, Any]) -> bool:
    """Whole-episode returns go with neither of these, see test_learner; XLA with one device."""
    if values.get("devices") == "all" and values.get("jit_compile"):
        return False
    return values.get("returns") != "episode" or not (
        values.get("discount_gradient") or values.get("reset_returns") or values.get("baseline") == "value"
    )


SOME = st.fixed_dictionaries({}, optional={name: values_of(setting) for name, setting in ALL.items()})


@given(SOME.filter(go_together))
def test_json_round_trip(values: dict[str, Any]) -> None:
    original = Config(env_id="E-v0", **values)
    assert Config.from_json(json.loads(json.dumps(original.to_json()))) == original


@given(SOME.filter(go_together))
def test_pairs_round_trip(values: dict[str, Any]) -> None:
    def text(value: Any) -> str:
        if isinstance(value, dict):
            return json.dumps(value)
        return "none" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    values = {k: v for k, v in values.items() if not isinstance(v, str) or v == v.strip()}
    assert assignments(f"{name}={text(value)}" for name, value in values.items()) == values


def test_json_with_a_wrong_key_or_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="env_id: missing"):
        Config.from_json({"gamma": 0.9})
    with pytest.raises(ConfigError, match="speed"):
        Config.from_json({"env_id": "E", "speed": 1})


def test_a_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config(env_id="E").gamma = 0.5  # type: ignore[misc]


def test_what_a_version_without_a_setting_did_is_done_still() -> None:
    assert Config.from_json({"env_id": "x"}).normalize_observations is False
    assert Config.from_json(Config(env_id="x").to_json()).normalize_observations is None


# Written out, as what is refused elsewhere is read from the settings themselves.
REFUSED = {
    "gamma": (-0.1, 1.1),
    "running_mean_rate": (0.0, 1.5),
    "learning_rate": (0.0, -1.0),
    "target_kl": (0.0,),
    "clip_norm": (0.0,),
    "entropy_bonus": (-0.1,),
    "reuse": (0,),
    "reuse_clip": (0.0, 1.5),
    "reuse_kl": (0.0,),
    "fisher_damping": (0.0,),
    "fisher_steps": (0,),
    "value_learning_rate": (0.0,),
    "value_passes": (0,),
    "value_batch_size": (0,),
    "steps": (0,),
    "time_limit": (0.0,),
    "envs": (0,),
    "episodes": (0,),
    "batch_steps": (0,),
    "keep_checkpoints": (0,),
    "evaluation_every": (-1,),
    "evaluation_episodes": (0,),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_numbers_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected"):
        Config(env_id="E", **{name: value})


def test_the_defaults_are_those_that_were_measured() -> None:
    expected = {
        "envs": 16,
        "episodes": 16,
        "gamma": 0.99,
        "baseline": "leave-one-out",
        "rescale": True,
        "optimizer": "adam",
        "learning_rate": 0.005,
        "clip_norm": 0.5,
        "reuse": 1,
        "reuse_clip": 0.2,
        "fisher_damping": 0.01,
        "fisher_steps": 1000,
        "hidden": (64, 64),
        "value_learning_rate": 0.001,
        "value_passes": 5,
    }
    config = Config(env_id="E")
    assert {name: getattr(config, name) for name in expected} == expected


def test_the_documentation_has_the_tables_of_all_settings() -> None:
    lines = []
    for group in reversed([one for one in Config.__mro__ if dataclasses.is_dataclass(one)]):
        own = [setting for setting in settings() if setting.name in vars(group).get("__annotations__", {})]
        if not own:
            continue
        title = (group.__doc__ or "").partition("\n")[0].rstrip(".")
        lines += ["", f"## {title}", "", "| setting | default | range | what it is |", "| --- | --- | --- | --- |"]
        for setting in own:
            about = setting.metadata["help"]
            default, allowed = written(setting.default), range_of(setting).removeprefix("of ")
            lines.append(f"| `{setting.name}` | `{default}` | {allowed} | {about} |")
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    expected = "\n".join(lines)
    assert text.endswith(f"{expected}\n"), f"put this at the end of docs/settings.md:\n{expected}"
