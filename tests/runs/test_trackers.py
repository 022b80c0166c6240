"""Runs in Weights & Biases (offline) and MLflow (a local store): the numbers of the JSON lines, and the files."""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgkeras.bundle import bundle
from pgkeras.config import Config
from pgkeras.errors import MissingExtraError, RunError
from pgkeras.runs import directory as runs
from pgkeras.runs.loggers import check_loggers
from pgkeras.runs.loggers import wandb as loggers_wandb
from pgkeras.runs.training import Training
from tests.runs.small import run_to_end, small

_BLOCK = 32_768
SETTINGS = {"loggers": ("wandb", "mlflow"), "evaluation_every": 3, "evaluation_episodes": 2}


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both trackers keep to this directory."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    return tmp_path


def _resumed(where: Path) -> tuple[Path, Training]:
    """A run that was stopped beyond its last checkpoint, and resumed from the one before."""
    run = where / "run"
    first = Training(small(**SETTINGS), run)
    list(itertools.islice(first, 5))
    first.finish()
    again = Training(small(**SETTINGS), run, resume=True, checkpoint="4")
    run_to_end(again)
    return run, again


def _end_wandb() -> None:
    """Ends the open runs, as the end of the process does, and waits until all is written."""
    import wandb

    for opened in list(loggers_wandb._opened.values()):
        opened.run.finish()
    wandb.teardown()


def _wandb_records(run: Path, wandb_id: str = "*") -> list[Any]:
    """What W&B would send, in order."""
    from wandb.proto import wandb_internal_pb2

    files = sorted(run.glob(f"wandb/offline-run-*-{wandb_id}/*.wandb"))
    return [wandb_internal_pb2.Record.FromString(data) for file in files for data in _leveldb_log(file.read_bytes())]


def _leveldb_log(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format (its doc/log_format.md), behind W&B's own seven bytes."""
    at, record = 7, b""
    while at + 7 <= len(content):
        if _BLOCK - at % _BLOCK < 7:  # the rest of a block is too small for a header
            at += _BLOCK - at % _BLOCK
            continue
        size, kind = struct.unpack_from("<HB", content, at + 4)
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # full, or last
            yield record
            record = b""


def test_both_have_the_numbers_the_settings_and_the_files(local: Path) -> None:
    run, training = _resumed(local)
    exported = training.export(local / "policies")
    metrics = runs.read_metrics(run)
    _check_mlflow(run, metrics, exported)
    _end_wandb()
    _check_wandb(run, metrics, exported)


def test_epochs_after_a_finished_run_are_not_dropped(local: Path) -> None:
    settings = {"loggers": ("wandb",)}
    run, training = local / "run", Training(small(**settings), local / "run")
    run_to_end(training).export(local / "policies")  # with a learning curve and a film
    before = (run / "wandb-id.txt").read_text()
    run_to_end(Training(small(**settings, steps=3000), run, resume=True))
    _end_wandb()
    assert (run / "wandb-id.txt").read_text() == before  # other settings, but no epoch is played again
    rows = [_items(record) for record in _wandb_records(run) if record.HasField("history")]
    assert [row["epoch"] for row in rows if "epoch" in row] == [line["epoch"] for line in runs.read_metrics(run)]
    assert {"learning_curve", "film"} <= {name.partition("/")[0] for row in rows for name in row}


def test_epochs_that_other_settings_play_again_are_of_another_run(local: Path) -> None:
    from mlflow import MlflowClient

    settings = {"loggers": ("wandb", "mlflow"), "keep_checkpoints": 9}
    run, names = local / "run", ("wandb-id.txt", "mlflow-id.txt")
    first = Training(small(**settings), run)
    list(itertools.islice(first, 5))
    first.finish()
    given_up, ids = runs.read_metrics(run), [(run / name).read_text() for name in names]
    changed = small(**settings, learning_rate=0.125)
    second = Training(changed, run, resume=True, checkpoint="3")
    list(itertools.islice(second, 3))
    second.finish()
    ids += [(run / name).read_text() for name in names]
    run_to_end(Training(changed, run, resume=True, checkpoint="5"))  # played again by the same settings
    _end_wandb()
    assert [(run / name).read_text() for name in names] == ids[2:]
    assert len(set(ids)) == 4
    client, metrics = MlflowClient(), runs.read_metrics(run)[3:]
    for (wandb_id, mlflow_id), lines in ((ids[:2], given_up), (ids[2:], metrics)):
        expected = [(line["epoch"], line["loss"]) for line in lines]
        rows: dict[int, float] = {}
        for items in map(_items, _of_history(run, wandb_id)):
            if "epoch" in items:
                rows.setdefault(items["epoch"], items["loss"])
        assert sorted(rows.items()) == expected
        losses, epochs = (client.get_metric_history(mlflow_id, name) for name in ("loss", "epoch"))
        at = {point.step: point.value for point in epochs}
        assert sorted((at[point.step], point.value) for point in losses) == expected
    told = [client.get_run(mlflow_id).data.params["learning_rate"] for mlflow_id in (ids[1], ids[3])]
    assert told == [json.dumps(small().learning_rate), "0.125"]


def _of_history(run: Path, wandb_id: str) -> list[Any]:
    return [record for record in _wandb_records(run, wandb_id) if record.HasField("history")]


def _check_mlflow(run: Path, metrics: list[dict[str, float]], exported: bundle.Bundle) -> None:
    from mlflow import MlflowClient

    client = MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'pgkeras'")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.run_name == run.name
    assert kept.info.status == "FINISHED"
    config = Config.from_json(runs.read_config(run)["config"])
    assert kept.data.params["learning_rate"] == json.dumps(config.learning_rate)
    assert set(kept.data.params) == set(config.to_json())
    assert "tensorflow" in {name.removeprefix("packages.") for name in kept.data.tags}
    for name in ("return_mean", "loss", "evaluation_greedy"):
        got = [(point.step, point.value) for point in client.get_metric_history(kept.info.run_id, name)]
        expected = [(line["env_steps"], line[name]) for line in metrics if line.get(name) is not None]
        assert sorted(got) == expected  # the epoch that was played again, once
    assert {entry.path for entry in client.list_artifacts(kept.info.run_id)} == {
        "bundle",
        "film.mp4",
        "learning_curve.png",
    }
    path = Path(client.download_artifacts(kept.info.run_id, f"bundle/{exported.name}/{exported.version}"))
    assert bundle.open_bundle(path).digest == exported.digest


def _items(record: Any) -> dict[str, Any]:
    return {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}


def _check_wandb(run: Path, metrics: list[dict[str, float]], exported: bundle.Bundle) -> None:
    records = _wandb_records(run)
    assert {record.run.run_id for record in records if record.HasField("run")} == {(run / "wandb-id.txt").read_text()}
    settings = {
        item.key: json.loads(item.value_json)
        for record in records
        for item in (*record.run.config.update, *record.config.update)
    }
    assert settings["learning_rate"] == runs.read_config(run)["config"]["learning_rate"]
    rows = {}
    for record in records:
        if record.HasField("history"):
            items = _items(record)
            if "epoch" in items:
                rows.setdefault(items["epoch"], items)  # W&B takes the first of a step
    assert sorted(rows) == [line["epoch"] for line in metrics]
    for line in metrics:
        # The epoch that was played again took another time, and W&B keeps the first one's.
        expected = {name: value for name, value in line.items() if value is not None and "second" not in name}
        assert {name: rows[line["epoch"]][name] for name in expected} == expected
    artifacts = {record.artifact.name: record.artifact for record in records if record.HasField("artifact")}
    manifest = {entry.path: entry.size for entry in artifacts[exported.name].manifest.contents}
    assert {path: size for path, size in manifest.items() if path in exported.files} == exported.files
    media = [path for path in (run / "wandb").rglob("media/**/*") if path.is_file()]
    assert {path.suffix for path in media} == {".png", ".mp4"}
    assert (run / "film.mp4").read_bytes() in [path.read_bytes() for path in media]


def test_a_tracking_server_that_is_gone_costs_no_training(local: Path, caplog: pytest.LogCaptureFixture) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    training = Training(small(loggers=("mlflow",)), local / "run")
    epochs = iter(training)
    next(epochs)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    assert training.directory is not None
    (logger,) = training.directory._loggers
    logger._client = MlflowClient(f"http://127.0.0.1:{port}")  # type: ignore[attr-defined]
    with pytest.raises(MlflowException):
        logger._client.search_experiments()  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        for _ in epochs:
            pass
        training.finish()
    assert "MLflow did not take the last" in caplog.text
    assert "learning_curve.png" in caplog.text
    assert len(runs.read_metrics(local / "run")) == training.epoch > 1


@pytest.mark.parametrize(
    ("logger", "variables", "told"),
    [
        pytest.param(
            "wandb",
            {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": ""},
            "wandb login",
            marks=pytest.mark.slow,
        ),
        ("mlflow", {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "MLFLOW_TRACKING_URI"),
    ],
)
def test_a_tracker_that_takes_no_run_is_told_at_the_start(
    local: Path, logger: str, variables: dict[str, str], told: str
) -> None:
    environ = {**os.environ, **variables, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    command = [sys.executable, "-m", "pgkeras", "train", "CartPole-v1", "--set", f"loggers={logger}", "--out", "run"]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert told in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_resume_that_a_tracker_refuses_leaves_the_run_as_it_was(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"evaluation_every": 1, "evaluation_episodes": 2, "keep_checkpoints": 9, "loggers": ("csv", "mlflow")}
    first = Training(small(**settings), local / "run")
    list(itertools.islice(first, 4))
    first.finish()
    before = {path: path.read_bytes() for path in (local / "run").rglob("*") if path.is_file()}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    refused = Training(small(**settings, learning_rate=0.125), local / "run", resume=True, checkpoint="2")
    with pytest.raises(RunError, match="MLflow takes no run"):
        run_to_end(refused)
    refused.finish()
    assert {path: path.read_bytes() for path in (local / "run").rglob("*") if path.is_file()} == before


def test_a_missing_package_is_told_before_anything_is_imported(tmp_path: Path) -> None:
    blocked = "import sys, importlib.util as u; real = u.find_spec\n"
    blocked += "u.find_spec = lambda name, *rest: None if name == 'wandb' else real(name, *rest)\n"
    blocked += "from pgkeras.cli import main; sys.argv[1:] = ['train', 'CartPole-v1', '--set', 'loggers=wandb']\nmain()"
    result = subprocess.run([sys.executable, "-c", blocked], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert 'pip install "pgkeras[wandb]"' in result.stderr
    assert "Importing" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_mlflows_own_database_without_its_package_is_told_without_a_traceback(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['sqlalchemy'] = None; from pgkeras.cli import main\n"
    blocked += "sys.argv[1:] = ['train', 'CartPole-v1', '--set', 'loggers=mlflow', '--steps', '1']; main()"
    environ = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-c", blocked]
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (result.returncode, "Traceback" in result.stderr) == (1, False), result.stderr
    (told,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert "set MLFLOW_TRACKING_URI" in told
    assert "pip install mlflow" in told


def test_a_directory_that_wandb_left_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(MissingExtraError, match=r"pgkeras\[wandb\]"):
        check_loggers(["wandb"])


def test_names_of_before_are_read() -> None:
    settings = Config(env_id="CartPole-v1").to_json()
    for before, now in (("none", ()), ("both", ("csv", "tensorboard")), ("tensorboard", ("tensorboard",))):
        assert Config.from_json({**settings, "loggers": before}).loggers == now
