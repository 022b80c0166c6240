"""Callbacks written as for Keras, and those that would never be called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pgkeras.errors import ConfigError
from pgkeras.runs.callbacks import Callback
from pgkeras.runs.training import Training
from tests.runs.small import run_to_end, small


def test_keras_names_are_called_with_keras_arguments() -> None:
    calls: list[Any] = []

    class Keras(Callback):
        def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
            calls.append("begin")

        def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
            assert logs is not None
            calls.append((epoch, logs["epoch"], logs["loss"]))

        def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
            calls.append("end")

    training = run_to_end(Training(small(steps=200), callbacks=[Keras()]))
    assert calls[0] == "begin"
    assert calls[-1] == "end"
    assert [(epoch, logged) for epoch, logged, _ in calls[1:-1]] == [(i, i + 1) for i in range(training.epoch)]


@pytest.mark.parametrize(
    ("name", "near"),
    [("on_epoch_begin", "on_epoch_end"), ("on_train_batch_end", "on_train_end"), ("on_stop", "on_start")],
)
def test_what_would_never_be_called_is_refused_where_it_is_defined(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"Own\.{name} would never be called; did you mean {near}\?"):
        type("Own", (Callback,), {name: lambda *_: None})


def test_two_names_for_one_thing_are_refused() -> None:
    with pytest.raises(ConfigError, match="Own defines on_epoch and Keras' on_epoch_end"):
        type("Own", (Callback,), {"on_epoch": lambda *_: None, "on_epoch_end": lambda *_: None})


def test_a_run_prints_itself_shortly() -> None:
    training = run_to_end(Training(small(steps=200)))
    assert repr(training).startswith(f"<Training of CartPole-v1: epoch {training.epoch}, ")
    assert len(repr(training)) < 100
