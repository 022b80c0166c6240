"""Data of a release that all later releases are tested with: bundles, recorded calls, runs and the protocol.

python -m tests.compatibility.release    writes the data of the current version; run it once per release
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from pgkeras import __version__
from pgkeras.bundle import bundle
from pgkeras.protocol.values import write_value
from pgkeras.protocol.wire import encode_tensor
from pgkeras.spaces import Box, Dict, Discrete, Space
from pgkeras.v1 import service_pb2, service_pb2_grpc, tensors_pb2

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
FLOATS = Box(np.full(3, -np.inf), np.full(3, np.inf), np.dtype(np.float32))
PAIR = Box(np.full(2, -1.0), np.full(2, 1.0), np.dtype(np.float32))
RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "value": {"baseline": "value", "normalize_observations": True, "env_id": "Pendulum-v1", "max_episode_steps": 20},
    "memory": {"memory": "gru", "memory_units": 4, "target_kl": 0.01},
}
POLICIES: dict[str, tuple[Space, Space, dict[str, Any], int]] = {
    "masked": (FLOATS, Discrete(4, start=2), {}, 4),
    "memory": (FLOATS, Discrete(3), {"memory": "gru", "memory_units": 4}, 0),
    "mixed": (Dict({"place": FLOATS, "kind": Discrete(3)}), PAIR, {"normalize_observations": True}, 0),
}


def main() -> None:
    version = ".".join(__version__.split(".")[:2])
    folder = DATA / version
    if folder.exists():
        sys.exit(f"{folder} exists: the data of a release must not change")
    _export_policies(folder / "policies")
    _train_runs(folder / "runs")
    shutil.copy(ROOT / "conformance" / "vectors.json", folder / "vectors.json")
    buf = [Path(sys.executable).parent / "buf", "build", ROOT / "protos", "-o", folder / "protocol.binpb"]
    subprocess.run(buf, check=True)
    (folder / "calls.json").write_text(json.dumps(_calls(folder / "policies"), indent=1) + "\n", encoding="utf-8")


def _export_policies(root: Path) -> None:
    from pgkeras.policy.export import export_policy
    from pgkeras.policy.policy import Policy
    from pgkeras.settings.groups import NetworkSettings

    for name, (observation, action, settings, mask_size) in POLICIES.items():
        network = NetworkSettings(hidden=(4,), **settings)
        policy = Policy(observation, action, settings=network, mask_size=mask_size, seed=1)  # type: ignore[arg-type]
        generator = np.random.default_rng(1)
        for variable in policy.variables:  # large enough that outputs differ
            variable.assign(np.abs(generator.normal(0.0, 0.5, variable.shape)).astype(np.float32))
        export_policy(policy, root, name, {"env_id": "Test-v0", "seed": 1})


def _train_runs(root: Path) -> None:
    from pgkeras.runs.training import Training
    from tests.runs.small import small

    for name, settings in RUNS.items():
        config = small(**{"hidden": (4,), "loggers": "csv", "keep_checkpoints": 1, **settings})
        training = Training(config, root / name)
        list(islice(training, 3))
        training.finish()
        (root / name / "learning_curve.png").unlink()


def _calls(policies: Path) -> list[dict[str, str]]:
    from tests.serving.conftest import running

    with (
        tempfile.TemporaryDirectory() as scratch,
        running(policies, Path(scratch)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = service_pb2_grpc.PolicyServiceStub(channel)
        return [_recorded(name, request, answer(stub, name, request)) for name, request in _requests(policies)]


def answer(stub: service_pb2_grpc.PolicyServiceStub, name: str, request: Any) -> list[Any]:
    """The responses of a server: one, or for ``Play`` one per message."""
    if name == "Play":
        return list(stub.Play(iter(request)))
    method: Callable[[Any], Any] = getattr(stub, name)
    return [method(request[0])]


def _requests(policies: Path) -> Iterator[tuple[str, list[Any]]]:
    outputs = [1, 2, 3, 4, 5]
    for name, (observation, _, _, mask_size) in POLICIES.items():
        spec_hash = bundle.open_bundle(policies / name / "1").spec_hash
        ref = {"name": name}
        yield "GetPolicy", [service_pb2.GetPolicyRequest(policy=ref)]
        common = {"policy": ref, "spec_hash": spec_hash, "outputs": outputs}
        if mask_size:
            common["action_mask"] = encode_tensor(np.array([[True, False, True, True]] * 2))
        seen = _observations(observation)
        yield "Act", [service_pb2.ActRequest(observation=seen, mode=2, **common)]
        yield "Act", [service_pb2.ActRequest(observation=seen, mode=1, seed=7, **common)]
        first = service_pb2.PlayRequest(id=1, observation=seen, mode=1, seed=3, **common)
        ends = {"reward": encode_tensor(np.ones(2, np.float32)), "terminated": encode_tensor(np.array([False, True]))}
        ends["truncated"] = encode_tensor(np.array([False, False]))
        again = {key: common[key] for key in ("action_mask",) if key in common}
        yield "Play", [first, service_pb2.PlayRequest(id=2, observation=seen, **ends, **again)]


def _observations(space: Space) -> Any:
    """Two rows."""
    rows = np.array([[0.1, -0.2, 0.3], [1.0, 2.0, -3.0]], np.float32)
    message = tensors_pb2.Value()
    write_value(message, {"place": rows, "kind": np.array([0, 2])} if isinstance(space, Dict) else rows)
    return message


def _recorded(name: str, requests: list[Any], answers: list[Any]) -> dict[str, Any]:
    def coded(messages: list[Any]) -> list[str]:
        return [base64.b64encode(message.SerializeToString()).decode() for message in messages]

    return {"method": name, "requests": coded(requests), "answers": coded(answers)}


if __name__ == "__main__":
    main()
