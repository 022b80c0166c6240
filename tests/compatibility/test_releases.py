"""Compatibility with earlier releases: their bundles, recorded calls, runs and messages.

``tests/compatibility/release.py`` of each release wrote its data.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from pgkeras import runs
from pgkeras.bundle import bundle
from pgkeras.protocol.wire import decode_tensor
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from pgkeras.v1 import service_pb2, service_pb2_grpc
from tests.compatibility.release import DATA, ROOT, answer
from tests.serving.conftest import running

RELEASES = sorted(path for path in DATA.iterdir() if path.is_dir())
# Fields that differ between servers: ``state`` is sealed with a server's own key, the others depend on the moment.
VOLATILE = {"state", "load_time", "engine", "episodes"}
KINDS = {
    "Act": (service_pb2.ActRequest, service_pb2.ActResponse),
    "Play": (service_pb2.PlayRequest, service_pb2.PlayResponse),
    "GetPolicy": (service_pb2.GetPolicyRequest, service_pb2.GetPolicyResponse),
}
releases = pytest.mark.parametrize("release", [pytest.param(path, id=path.name) for path in RELEASES])


def test_there_is_a_release() -> None:
    assert RELEASES[0].name == "0.1"


@releases
def test_old_bundles_are_served_with_the_same_responses(release: Path, tmp_path: Path) -> None:
    policies = release / "policies"
    assert len([bundle.open_bundle(path) for path in policies.glob("*/*")]) >= 3
    calls = json.loads((release / "calls.json").read_text(encoding="utf-8"))
    with running(policies, tmp_path) as server, grpc.insecure_channel(server.target) as channel:
        stub = service_pb2_grpc.PolicyServiceStub(channel)
        for call in calls:
            asked, answered = KINDS[call["method"]]
            requests = [asked.FromString(base64.b64decode(text)) for text in call["requests"]]
            expected = [answered.FromString(base64.b64decode(text)) for text in call["answers"]]
            for new, old in zip(answer(stub, call["method"], requests), expected, strict=True):
                assert not list(differences(new, old)), call["method"]
    assert {call["method"] for call in calls} == KINDS.keys()


def differences(new: Message, old: Message, path: str = "") -> Iterator[str]:
    """The fields of an old message that are missing or different in a new one."""
    if old.DESCRIPTOR.name == "Tensor":
        now, then = decode_tensor(new, path), decode_tensor(old, path)  # type: ignore[arg-type]
        if now.dtype != then.dtype or now.shape != then.shape or not np.allclose(now, then, rtol=1e-5, atol=1e-6):
            yield f"{path}: {now} instead of {then}"
        return
    for field, value in old.ListFields():
        if field.name in VOLATILE:
            continue
        where, other = f"{path}.{field.name}", getattr(new, field.name)
        if isinstance(value, Message):
            yield from differences(other, value, where)
        elif isinstance(value, float):
            if not math.isclose(value, other, rel_tol=1e-5):
                yield f"{where}: {other} instead of {value}"
        elif value != other:  # compares messages, not texts, because maps have no order
            yield f"{where}: {other} instead of {value}"


def test_a_difference_is_detected() -> None:
    (call,) = [c for c in json.loads((DATA / "0.1" / "calls.json").read_text()) if c["method"] == "Act"][:1]
    message = service_pb2.ActResponse.FromString(base64.b64decode(call["answers"][0]))
    changed = service_pb2.ActResponse.FromString(message.SerializeToString())
    changed.policy.version += 1
    changed.log_prob.data = bytes(len(changed.log_prob.data))
    assert [line.partition(":")[0] for line in differences(changed, message)] == [".log_prob", ".policy.version"]


@releases
@pytest.mark.parametrize("name", ["plain", "value", "memory"])
def test_old_runs_are_resumed(release: Path, name: str, tmp_path: Path) -> None:
    run = tmp_path / name
    shutil.copytree(release / "runs" / name, run)
    before = runs.read_metrics(run)
    training = Training(Config.from_json(runs.read_config(run)["config"]), run, resume=True)
    assert training.epoch == len(before) == 3
    with np.load(next((run / "checkpoints").glob("epoch-*.npz"))) as kept:
        weights = {name: kept[name] for name in kept.files}
    for key, value in training._state().items():
        np.testing.assert_array_equal(value, weights[key], key)
    list(itertools.islice(training, 2))
    training.finish()
    after = runs.read_metrics(run)
    assert [line["epoch"] for line in after] == [1, 2, 3, 4, 5]
    assert after[:3] == before
    assert training.export(tmp_path / "exported").version == 1


@releases
def test_the_protocol_is_compatible_with_old_releases(release: Path) -> None:
    result = breaking(ROOT / "protos", release)
    assert result.returncode == 0, result.stdout


def breaking(protos: Path, release: Path) -> subprocess.CompletedProcess[str]:
    """Runs ``buf breaking`` against a release's protocol."""
    command = [Path(sys.executable).parent / "buf", "breaking", protos, "--against", release / "protocol.binpb"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@releases
def test_a_removed_field_breaks_the_protocol(release: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    file = tmp_path / "protos" / "pgkeras" / "v1" / "service.proto"
    text = file.read_text(encoding="utf-8")
    assert "Tensor reward = 5;" in text
    file.write_text(text.replace("Tensor reward = 5;", ""), encoding="utf-8")
    result = breaking(tmp_path / "protos", release)
    assert result.returncode != 0
    assert 'field "5" with name "reward"' in result.stdout
