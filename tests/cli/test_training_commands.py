"""train, evaluate, export, plot, presets and doctor, in this process."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import struct
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pgkeras.bundle import bundle
from pgkeras.cli import _COMMANDS
from pgkeras.runs import directory as runs
from pgkeras.settings import config
from pgkeras.settings.config import preset_names, settings
from tests.cli.conftest import Finished, Invoke, blocking, python


@pytest.mark.parametrize("command", ["", *_COMMANDS])
def test_help(invoke: Invoke, command: str) -> None:
    result = invoke(*command.split(), "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: pgkeras {command}".rstrip())
    assert "Options:" in result.output
    if not command:
        for name, summary in _COMMANDS.items():
            assert re.search(rf"^  {name} +{re.escape(summary[:30])}", result.output, re.M)


def test_help_of_train_lists_every_setting_with_its_default(invoke: Invoke) -> None:
    text = " ".join(invoke("train", "--help").output.split())
    for setting in settings():
        assert f" {setting.name} " in text
        assert " ".join(setting.metadata["help"].split()) in text
    assert "[default: 0.99; 0<=x<=1]" in text
    assert "[default: 0; x>=0]" in text
    assert not re.search(r"of at least|from \d+ to \d+\]", text)


@pytest.mark.parametrize("command", _COMMANDS)
def test_help_says_nothing_where_there_is_nothing_to_say(invoke: Invoke, command: str) -> None:
    text = " ".join(invoke(command, "--help").output.split())
    assert not re.findall(r".{40}(?:\[;|\[\]|default: \])", text)


def test_train_reports_what_it_did(finished: Finished) -> None:
    out, err = finished.result.stdout, finished.result.stderr
    assert re.search(r"^The last 100 episodes returned \d+\.\d on average, after \d+ steps", out, re.M)
    assert f"Run directory: {finished.run}" in out
    assert f"Exported: {finished.models / 'cartpole-v1' / '1'}" in out
    assert "seed 3" in err
    assert "gradient step on" in err
    assert "acting with litert" in err
    assert re.search(r"^epoch 1 ", err, re.M)
    found = bundle.open_bundle(bundle.find(finished.models))
    assert found.provenance["seed"] == 3
    assert found.provenance["config"]["hidden"] == [8]
    assert runs.read_summary(finished.run)["bundle"] == str(found.path)
    # A preset stands under what was given.
    assert runs.read_config(finished.run)["config"]["gamma"] == 0.995
    assert runs.read_config(finished.run)["stop_return"] == 450


def test_module_and_id(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("train", "tests.environments.scripted:Target-v0", "--steps", 50, "--set", "hidden=4", "--out", "r")
    assert result.exit_code == 0
    assert (tmp_path / "saved_models" / "target-v0" / "1" / bundle.MANIFEST).exists()
    # It can be played by what it remembers of its environment.
    played = invoke("evaluate", "saved_models", "--episodes", 3, "--json")
    assert json.loads(played.output)["env_id"] == "tests.environments.scripted:Target-v0"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["CartPoel-v1"], 1, "did you mean CartPole-v1"),
        (["tests.environments.scripted:NeedsMore-v0"], 1, 'pip install "gymnasium[robots-and-more]"'),
        (["ALE/Pong-v5"], 1, 'pip install "gymnasium[atari]"'),
        (["no.such.module:Foo-v0"], 1, "cannot import module 'no.such.module'"),
        (
            ["tests.environments.scripted:Listing-v0"],
            1,
            "observation space Sequence(Discrete(3), stack=False) is not supported",
        ),
        (["CartPole-v1", "--steps", "-5"], 1, "steps: expected a whole number of at least 1, got -5"),
        (["CartPole-v1", "--steps", "many"], 2, "'--steps': 'many' is not a whole number"),
        (["CartPole-v1", "--time-limit", "0"], 1, "time_limit: expected a finite number above 0, got 0.0"),
        (["CartPole-v1", "--stop-return", "nan"], 1, "stop_return: expected a finite number, got nan"),
        (["CartPole-v1", "--seed", "-1"], 1, "seed: expected"),
        (["CartPole-v1", "--baseline", "mean"], 2, "'leave-one-out'"),
        (["CartPole-v1", "--set", "gamma"], 1, "--set 'gamma': expected key=value"),
        (["CartPole-v1", "--set", "gama=1"], 1, "did you mean gamma"),
        (["CartPole-v1", "--learning-rate", "0.1"], 2, "'--learning-rate'; set it with: --set learning_rate=VALUE"),
        (["CartPole-v1", "--ray-address", "10.0.0.5:6379"], 1, "ray_address: it changes nothing without collect=ray"),
        (
            ["CartPole-v1", "--set", "initial_log_std=-1"],
            1,
            "initial_log_std: it changes nothing where no action is Gau",
        ),
        (["CartPole-v1", "--seeds", "0-1", "--network", "mlp"], 1, "network: it changes nothing where the observation"),
        (["CartPole-v1", "--set", "gamma=2"], 1, "gamma: expected a finite number from 0 to 1, got 2.0"),
        (["CartPole-v1", "--set", "env_id=Acrobot-v1"], 1, "env_id: there is no such setting"),
        (["CartPole-v1", "--preset", "textbok"], 1, "did you mean textbook"),
        (["CartPole-v1", "--name", "../up"], 1, "policy name '../up'"),
        (["CartPole-v1", "--set", "optimizer=adamm"], 1, "optimizer 'adamm'"),
        (["CartPole-v1", "--set", "activation=tanhh"], 1, "activation 'tanhh'"),
        (["Pendulum-v1", "--set", "vectorization=vector"], 1, "Pendulum-v1 has no vector entry point"),
        ([], 2, "pgkeras train CartPole-v1"),
        (["--resume", "nothing"], 1, "nothing is not a run directory: config.json is missing"),
        (["CartPole-v1", "--resume", "nothing"], 2, "own environment, preset and directory: leave out CartPole-v1"),
        (["--resume", "nothing", "--preset", "default", "--out", "r"], 2, "leave out --out, --preset"),
        (
            ["CartPole-v1", "--no-export", "--export-to", "here"],
            2,
            "--no-export exports nothing: leave out --export-to",
        ),
        (["CartPole-v1", "--no-export", "--name", "mine"], 2, "so no name is needed: leave out --name"),
    ],
)
def test_bad_input_to_train(invoke: Invoke, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    result = invoke("train", *arguments)
    assert result.exit_code == code
    assert message in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())  # and nothing was left behind


def test_an_occupied_run_directory(invoke: Invoke, finished: Finished) -> None:
    before = (finished.run / runs.METRICS).read_text()
    result = invoke("train", "CartPole-v1", "--out", finished.run)
    assert result.exit_code == 1
    assert f"{finished.run} holds a run already" in result.stderr
    assert f"--resume {finished.run}" in result.stderr
    assert (finished.run / runs.METRICS).read_text() == before


def test_an_environment_of_envpool_need_not_be_gymnasiums(tmp_path: Path) -> None:
    refused = python(*blocking("envpool", "train", "Breakout-v5", "--set", "vectorization=envpool"), cwd=tmp_path)
    assert refused.returncode == 1
    assert 'pip install "pgkeras[envpool]"' in refused.stderr


def test_a_step_size_that_has_been_adapted_is_not_set_on_a_resume(invoke: Invoke) -> None:
    begun = ["train", "CartPole-v1", "--steps", 1, "--set", "hidden=4", "--set", "target_kl=0.01", "--out", "r"]
    assert invoke(*begun, "--no-export").exit_code == 0
    refused = invoke("train", "--resume", "r", "--set", "learning_rate=0.5")
    assert refused.exit_code == 1
    assert "learning_rate: this run has adapted its learning rate to target_kl" in refused.stderr
    assert invoke("train", "--resume", "r", "--set", "target_kl=0.02", "--steps", 500, "--no-export").exit_code == 0


def test_a_run_that_cannot_be_written_to_is_not_sent_elsewhere(invoke: Invoke, finished: Finished) -> None:
    copy = Path(shutil.copytree(finished.run, "copy"))
    (copy / ".lock").mkdir()
    for command in (["train", "--resume", copy], ["export", copy]):
        refused = invoke(*command)
        assert refused.exit_code == 1
        assert "make it writable, or go on with a copy of it" in refused.stderr


def test_an_unwritable_run_directory(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("train", "CartPole-v1", "--out", "file/run")
    assert result.exit_code == 1
    assert re.search(r"cannot create run directory .*file/run", result.stderr)


def test_an_unwritable_export_keeps_the_run(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("train", "CartPole-v1", "--steps", 1, "--set", "hidden=4", "--out", "r", "--export-to", "file")
    assert result.exit_code == 1
    assert "nothing was published" in result.stderr
    # The training was not in vain.
    assert invoke("export", "r").exit_code == 0
    assert (tmp_path / "saved_models" / "cartpole-v1" / "1").is_dir()


def test_resume_goes_on_with_the_runs_settings(invoke: Invoke, tmp_path: Path, finished: Finished) -> None:
    shutil.copytree(finished.run, "r")
    before = runs.read_metrics(Path("r"))
    result = invoke("train", "--resume", "r", "--steps", 800, "--no-export")
    assert result.exit_code == 0
    after = runs.read_metrics(Path("r"))
    assert after[: len(before)] == before
    assert after[-1]["env_steps"] >= 800
    # The new limit holds from now on.
    assert runs.read_config(Path("r"))["config"]["steps"] == 800
    assert "Exported" not in result.stdout
    assert not (tmp_path / "saved_models").exists()


def test_a_resume_with_nothing_left_to_do_says_so_and_exports_no_copy(
    invoke: Invoke, tmp_path: Path, finished: Finished
) -> None:
    shutil.copytree(finished.run, "r")
    before = runs.read_summary(Path("r"))
    for more in ([], ["--set", "stop_return=0"]):  # by other settings, it is over as well
        result = invoke("train", "--resume", "r", *more)
        assert result.exit_code == 0
        assert "The run has already ended: " in result.stdout
        assert "--steps" in result.stdout
        assert f"Already exported: {before['bundle']}" in result.stdout
        assert runs.read_summary(Path("r"))["bundle"] == before["bundle"]
        assert not (tmp_path / "saved_models").exists()
    result = invoke("train", "--resume", "r", "--export-to", "elsewhere")
    assert "Exported: elsewhere/cartpole-v1/1" in result.stdout
    shutil.rmtree("elsewhere")
    result = invoke("train", "--resume", "r")  # where it was exported to, it is no more
    assert "Exported: saved_models/cartpole-v1/1" in result.stdout


def test_export_from_a_checkpoint_is_the_policy_that_was_trained(
    invoke: Invoke, tmp_path: Path, finished: Finished
) -> None:
    shutil.copytree(finished.run, "r")
    summary = runs.read_summary(Path("r"))
    result = invoke("export", "r", "--to", "elsewhere", "--name", "mine")
    assert result.exit_code == 0
    assert "Exported: elsewhere/mine/1" in result.stdout
    assert runs.read_summary(Path("r")) == {**summary, "bundle": "elsewhere/mine/1"}
    from pgkeras.engines import load

    inputs = {"observation": np.ones((4, 4), np.float32), "noise": np.full((4, 1), 0.3, np.float32)}
    answers = [load(bundle.open_bundle(bundle.find(p))).act(inputs) for p in (finished.models, Path("elsewhere"))]
    for name, array in answers[0].items():
        np.testing.assert_array_equal(array, answers[1][name])


def test_an_export_leaves_what_a_run_says_of_itself(invoke: Invoke, tmp_path: Path, finished: Finished) -> None:
    shutil.copytree(finished.run, "r")
    written = runs.read_config(Path("r"))
    del written["config"]["reset_returns"]  # as of a version that had no such setting
    written |= {"device": "GPU: of another machine", "packages": {"pgkeras": "0.0.1"}}
    (Path("r") / runs.CONFIG).write_text(json.dumps(written))
    assert invoke("export", "r").exit_code == 0
    assert runs.read_config(Path("r")) == written
    assert not Path("r", ".lock").exists()


def test_a_run_on_ray_is_exported_without_its_cluster(invoke: Invoke, tmp_path: Path, finished: Finished) -> None:
    shutil.copytree(finished.run, "r")
    written = runs.read_config(Path("r"))
    written["config"] |= {"collect": "ray", "ray_address": "127.0.0.1:1"}
    (Path("r") / runs.CONFIG).write_text(json.dumps(written))
    result = invoke("export", "r")
    assert result.exit_code == 0, result.output
    assert runs.read_config(Path("r")) == written
    (exported,) = Path("saved_models").glob("*/1")
    assert bundle.open_bundle(exported).provenance["config"] == written["config"]


def test_a_run_on_many_devices_is_exported_by_one_process_of_any_machine(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, finished: Finished
) -> None:
    shutil.copytree(finished.run, "r")
    written = runs.read_config(Path("r"))
    written["config"] |= {"devices": "all"}
    (Path("r") / runs.CONFIG).write_text(json.dumps(written))
    others = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(others))
    result = invoke("export", "r")
    assert result.exit_code == 0, result.output
    (exported,) = Path("saved_models").glob("*/1")
    assert bundle.open_bundle(exported).provenance["config"] == written["config"]


def test_bad_input_to_export(invoke: Invoke, tmp_path: Path, finished: Finished) -> None:
    result = invoke("export", "nothing")
    assert (result.exit_code, "not a run directory" in result.stderr) == (1, True)
    result = invoke("export", finished.run, "--name", "a/b")
    assert (result.exit_code, "policy name 'a/b'" in result.stderr) == (1, True)
    for name, text, message in (
        ("broken", "{", "config.json: unreadable"),
        ("empty", "{}", "malformed"),
        ("list", "[]", "expected a JSON object"),
        ("wrong", '{"config": {"env_id": "CartPole-v1", "gamma": 7}}', "gamma: expected"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / runs.CONFIG).write_text(text)
        result = invoke("export", name)
        assert (result.exit_code, message in result.stderr) == (1, True), result.stderr


def size_of(png: Path) -> tuple[int, int]:
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


def test_plot(invoke: Invoke, tmp_path: Path, finished: Finished) -> None:
    result = invoke("plot", finished.run)
    assert (result.exit_code, result.stdout) == (0, "Wrote learning_curves.png\n")
    assert size_of(tmp_path / "learning_curves.png") == (960, 540)
    assert size_of(finished.run / "learning_curve.png") == (960, 540)
    # Two runs of one name in two places are two curves.
    shutil.copytree(finished.run, tmp_path / "other" / "run")
    result = invoke("plot", finished.run, "other/run", "--by", "run", "--out", "both.png", "--title", "Both")
    assert result.exit_code == 0
    assert size_of(tmp_path / "both.png") == (960, 540)
    assert (tmp_path / "both.png").read_bytes() != (tmp_path / "learning_curves.png").read_bytes()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["both.png", "learning_curves.png", "other"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What is drawn, in place of the files."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (figures.append(figure), path.write_bytes(b"")))
    return figures


def lines_of(figure: Figure, panel: int = 0) -> dict[str, list[list[float]]]:
    """The y of each line, by its label; lines without one are "_"."""
    lines: dict[str, list[list[float]]] = {}
    for line in figure.axes[panel].lines:
        label = str(line.get_label())
        lines.setdefault("_" if label.startswith("_") else label, []).append(np.asarray(line.get_ydata()).tolist())
    return lines


def another(finished: Finished, name: str, shift: float, **settings: object) -> Path:
    """A copy of the finished run whose returns are higher."""
    shutil.copytree(finished.run, name)
    run = Path(name)
    lines = [{**m, "mean_return_100": m["mean_return_100"] + shift} for m in runs.read_metrics(run)]
    (run / runs.METRICS).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    config = runs.read_config(run)
    (run / runs.CONFIG).write_text(json.dumps({**config, "config": {**config["config"], **settings}}))
    return run


def test_runs_of_an_environment_are_one_curve_with_its_interval(
    invoke: Invoke, finished: Finished, drawn: list[Figure]
) -> None:
    shifts = [0.0, 1, 2, 3, 100]
    assert invoke("plot", *(another(finished, f"r{i}", shift) for i, shift in enumerate(shifts))).exit_code == 0
    lines = lines_of(drawn[0])
    curve = np.array([m["mean_return_100"] for m in runs.read_metrics(finished.run)])
    np.testing.assert_allclose(sorted(lines["_"]), [(curve + shift).tolist() for shift in shifts])
    # On a grid from its first step to its last: the middle three of five are shifted by 2 on average.
    (middle,) = lines["interquartile mean (5 runs)"]
    assert (middle[0], middle[-1]) == (pytest.approx(curve[0] + 2), pytest.approx(curve[-1] + 2))
    assert lines["solved: 450"] == [[450, 450]]
    band = drawn[0].axes[0].collections[0].get_paths()[0].vertices
    low, high = band[:, 1].min(), band[:, 1].max()
    assert low >= curve.min()
    assert high <= curve.max() + 100
    assert high - low > 30  # a run so far away makes the interval wide


def test_runs_are_grouped_by_setting_label_or_run(invoke: Invoke, finished: Finished, drawn: list[Figure]) -> None:
    a, b = another(finished, "a", 0), another(finished, "b", 5, gamma=0.5)
    c = another(finished, "c", 7, env_id="Other-v0")
    assert invoke("plot", a, b, c, "--by", "gamma").exit_code == 0
    assert set(lines_of(drawn[0])) == {"gamma=0.995", "gamma=0.5", "solved: 450"}
    assert [axes.get_title() for axes in drawn[0].axes] == ["CartPole-v1", "Other-v0"]
    assert set(lines_of(drawn[0], 1)) == {"gamma=0.995", "solved: 450"}
    assert invoke("plot", a, b, "--by", "run").exit_code == 0
    assert set(lines_of(drawn[1])) == {"a", "b", "solved: 450"}
    assert invoke("plot", "--group", "mine", "[ab]", "--metric", "entropy").exit_code == 0
    entropy = [m["entropy"] for m in runs.read_metrics(finished.run)]
    assert lines_of(drawn[2])["_"] == [entropy, entropy]
    assert "mine (2 runs)" in lines_of(drawn[2])
    assert drawn[2].axes[0].get_ylabel() == "entropy"


def test_a_single_run_is_drawn_in_detail(invoke: Invoke, finished: Finished, drawn: list[Figure]) -> None:
    run = another(finished, "r", 0)
    evaluations = [{"epoch": 1, "env_steps": 50 * i, "mode": "greedy", "mean": 20.0 + i} for i in range(3)]
    (run / runs.EVALUATIONS).write_text("".join(f"{json.dumps(line)}\n" for line in evaluations))
    assert invoke("plot", run).exit_code == 0
    lines = lines_of(drawn[0])
    metrics = runs.read_metrics(run)
    assert lines["mean of the last 100 episodes"] == [[m["mean_return_100"] for m in metrics]]
    assert lines["mean of an epoch"] == [[m["return_mean"] for m in metrics]]
    assert lines["evaluation, greedy"] == [[20.0, 21.0, 22.0]]
    assert "evaluation, sampled" not in lines


def test_bad_input_to_plot(invoke: Invoke, tmp_path: Path, finished: Finished) -> None:
    for arguments, message in (
        ([], "give run directories"),
        (["--group", "mine", "no/such/*"], "--group mine: nothing matches 'no/such/*'"),
        ([finished.run, finished.run, "--by", "colour"], "has no such setting; there is act_engine"),
    ):
        result = invoke("plot", *arguments)
        assert (result.exit_code, message in " ".join(result.stderr.split())) == (2, True), result.stderr
    result = invoke("plot", finished.run, "--metric", "colour")
    assert (result.exit_code, f"{finished.run}: no epoch has the metric 'colour'; there is" in result.stderr) == (
        1,
        True,
    )
    result = invoke("plot", "nothing")
    assert (result.exit_code, "nothing is not a run directory" in result.stderr) == (1, True)
    result = invoke("plot", finished.run, "--out", "no/such/place.png")
    assert (result.exit_code, "cannot write no/such/place.png" in result.stderr) == (1, True)
    shutil.copytree(finished.run, "cut")
    (tmp_path / "cut" / runs.METRICS).write_text('{"epoch": 1, "env_')
    result = invoke("plot", "cut")
    assert (result.exit_code, "metrics.jsonl: malformed" in result.stderr) == (1, True)
    (tmp_path / "cut" / runs.METRICS).write_text("")
    result = invoke("plot", "cut")
    assert (result.exit_code, "cut has no finished epoch" in result.stderr) == (1, True)
    result = invoke("compare", "no/such/*")
    assert (result.exit_code, "no path matches no/such/*" in result.stderr) == (1, True)


@pytest.mark.parametrize("command", ["plot", "compare"])
def test_runs_without_an_epoch_are_named_and_left_out(
    invoke: Invoke, tmp_path: Path, finished: Finished, command: str
) -> None:
    for name in ("whole", "empty", "unmade"):
        shutil.copytree(finished.run, tmp_path / "runs" / name)
    (tmp_path / "runs" / "empty" / runs.METRICS).unlink()
    (tmp_path / "runs" / "unmade" / "config.json").unlink()
    alone = invoke(command, "runs/whole")
    every = invoke(command, *sorted((tmp_path / "runs").iterdir()))
    assert (every.exit_code, every.stdout) == (0, alone.stdout), every.stderr
    told = every.stderr.splitlines()
    assert told == [
        f"Skipped: {tmp_path}/runs/empty has no finished epoch",
        f"Skipped: {tmp_path}/runs/unmade is not a run directory: config.json is missing",
    ]
    none = invoke(command, "runs/empty", "runs/unmade")
    assert none.exit_code == 1
    assert "runs/empty has no finished epoch" in none.stderr


def test_evaluate_in_json(invoke: Invoke, finished: Finished) -> None:
    arguments = ["evaluate", finished.models, "--episodes", 6, "--mode", "sample", "--json", "--show-steps", 2]
    report = json.loads(invoke(*arguments).output)
    returns = np.array(report["returns"])
    assert len(returns) == report["episodes"] == 6
    assert report["mean"] == pytest.approx(returns.mean())
    assert report["std"] == pytest.approx(returns.std(ddof=1))
    assert (report["min"], report["max"]) == (returns.min(), returns.max())
    low, high = report["interval95"]
    assert returns.min() <= low <= report["mean"] <= high <= returns.max()
    assert report["mean_length"] == pytest.approx(returns.mean())  # CartPole pays 1 a step
    assert len(report["first_steps"]) == 2
    assert sum(report["first_steps"][0]["probabilities"]) == pytest.approx(1)
    assert json.loads(invoke(*arguments).output) == report  # by the same seed
    other = json.loads(invoke(*arguments, "--seed", 1).output)
    assert other["returns"] != report["returns"]
    tensorflow = json.loads(invoke(*arguments, "--engine", "tensorflow").output)
    assert tensorflow["returns"] == report["returns"]


def test_evaluate_in_words(invoke: Invoke, finished: Finished) -> None:
    result = invoke("evaluate", finished.models / "cartpole-v1" / "1", "--episodes", 3, "--show-steps", 1)
    assert re.search(r"^CartPole-v1, 3 episodes, greedy: mean return \d+(?:\.\d+)?, standard deviation", result.output)
    assert "95 % interval of the mean: " in result.output
    assert re.search(r"^step 0: observation \[.*\]  probabilities \[.*\]  action [01]$", result.output, re.M)


def test_bad_input_to_evaluate(invoke: Invoke, finished: Finished) -> None:
    for arguments, code, message in (
        (["nothing"], 1, "no exported policy at nothing: there is no such path"),
        ([finished.run], 1, f"that is a run; export one with: pgkeras export {finished.run}"),
        ([finished.models / "cartpole-v1" / "9"], 1, "cartpole-v1 has version 1"),
        (["http://127.0.0.1:1"], 1, "expected HOST:PORT without a scheme, such as 127.0.0.1:1"),
        (["--target", "localhost"], 1, "localhost: expected HOST:PORT, such as localhost:50051"),
        ([finished.models, "--episodes", 0], 2, "--episodes"),
        ([finished.models, "--env", "Pendulum-v1"], 1, "is Box([-4.8, -inf, -0.4189, -inf], [4.8, inf, 0.4189, inf]"),
        ([finished.models, "--env", "CartPoel-v1"], 1, "did you mean CartPole-v1"),
    ):
        result = invoke("evaluate", *arguments)
        assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_presets(invoke: Invoke) -> None:
    listed = invoke("presets").output
    columns: dict[str, str] = {line.split(" ", 1)[0]: line for line in listed.splitlines()}
    assert list(columns) == preset_names()
    assert len({len(line) - len(line[len(name) :].lstrip()) for name, line in columns.items()}) == 1, "one column"
    for name in preset_names():
        written = [line[2:] for line in invoke("presets", name).output.splitlines() if re.match(r"[* ] [^ ]+=", line)]
        values = config.assignments(shlex.split(" ".join(written)))
        assert len(values) == len(settings())
        assert config.Config(env_id="E", **values) == config.resolve("E", name)
        changes = shlex.split(columns[name])[1:]
        if changes != ["the", "defaults"]:
            assert config.resolve("E", "default", config.assignments(changes)) == config.resolve("E", name)
    assert invoke("presets", "ale_py:ALE/Pong-v5").output == invoke("presets", "pong-v5").output
    shown = invoke("presets", "textbook").output
    assert "* episodes=1\n" in shown
    assert "  gamma=0.99\n" in shown
    result = invoke("presets", "textbok")
    assert (result.exit_code, "did you mean textbook" in result.stderr) == (1, True)


def test_info_shows_the_settings_that_are_no_defaults(invoke: Invoke, finished: Finished) -> None:
    written = runs.read_config(finished.run)["config"]
    others = {s.name for s in settings() if written[s.name] != json.loads(json.dumps(s.default))}
    shown = _settings_in(invoke("info", finished.models).output)
    assert list(shown) == sorted([*others, "env_id"])
    given = {name: value for name, value in shown.items() if name != "env_id"}
    values = config.assignments(f"{name}={value}" for name, value in given.items())
    assert config.Config(env_id="CartPole-v1", **values).to_json() == written
    assert _settings_in(invoke("info", finished.models, "--all").output).keys() == written.keys()


def _settings_in(text: str) -> dict[str, str]:
    """What the section "config" lists."""
    section = text.partition("\n  config\n")[2].partition("\n  device")[0]
    pairs = (line.split(maxsplit=1) for line in section.splitlines() if "(the defaults)" not in line)
    return {name: (*value, "")[0] for name, *value in pairs}


def test_prune_says_what_goes_or_that_nothing_does(invoke: Invoke, tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / "models" / "mine" / version).mkdir(parents=True)
    nothing = invoke("prune", "models", "--keep", 2)
    assert nothing.output == "Nothing to delete: no policy has more than 2 versions without a label.\n"
    assert invoke("prune", "models", "--keep", 1).output == "Deleted: models/mine/1\n"


def test_doctor(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGKERAS_TOKEN", "a-secret")
    monkeypatch.setenv("PGKERAS_PEERS", str(Path.home() / "peers"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://alice:hunter2@example.org")
    monkeypatch.setenv("WANDB_ENTITY", "acme")
    monkeypatch.setenv("PGKERAS_SERVE_PORT", "50051")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    result = invoke("doctor")
    for word in ("a-secret", "alice", "hunter2", "acme", str(Path.home()), "peers"):
        assert word not in result.output
    assert "  MLFLOW_TRACKING_URI=(not shown)\n" in result.output
    assert "  PGKERAS_SERVE_PORT=50051\n" in result.output
    assert "  OMP_NUM_THREADS=3\n" in result.output
    assert re.search(r"^  \S+, \d+ cores? available$", result.output, re.M)
    assert re.search(r"^  optuna +", result.output, re.M)
    assert result.exit_code == 0
    for package in ("tensorflow", "gymnasium", "grpcio", "ai-edge-litert"):
        assert re.search(rf"^  {package} +{re.escape(metadata.version(package))}$", result.output, re.M)
    assert "devices:\n  CPU" in result.output
    missing = re.findall(r"^  ([\w-]+) +missing", result.output, re.M)
    assert ("Nothing required is missing" in result.output) == (not missing)
    assert ('To install the extra "' in result.output) == bool(missing)
    assert "CartPole-v1\n" in invoke("doctor", "--environments").output
