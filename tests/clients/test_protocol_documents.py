"""docs/protocol: the reference is up to date, and the commands work as described."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conformance import reference
from conformance.clients import environment
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"<!-- (run|fails) -->\n```sh\n(.*?)```", re.DOTALL)


def test_the_reference_is_up_to_date():
    assert reference.FILE.read_text(encoding="utf-8") == reference.generate(), "run make protos"


def test_the_reference_is_complete_and_its_links_resolve():
    text = reference.FILE.read_text(encoding="utf-8")
    protos = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "protos" / "pgkeras" / "v1").glob("*.proto"))
    headings = set(re.findall(r"^### (.*)$", text, re.M))
    assert headings == set(re.findall(r"^(?:message|enum|service) (\w+)", protos, re.M))
    assert set(re.findall(r"\(#(\w+)\)", text)) <= {heading.lower() for heading in headings}
    fields = re.findall(r"^ +(?:\w[\w.<>, ]* )(\w+) = \d+;", protos, re.M)
    assert len(fields) > 60
    assert [field for field in fields if f"`{field}`" not in text] == []


@pytest.fixture(scope="module")
def outputs():
    """The outputs of the page's commands, in order. Those marked ``run`` must succeed, those marked ``fails`` fail."""
    page = (ROOT / "docs" / "protocol" / "new-client.md").read_text(encoding="utf-8")
    blocks = _BLOCK.findall(page)
    port = str(free_ports(1)[0])
    script = ["set -uo pipefail", "trap 'kill $(jobs -p)' EXIT"]
    for _, code in blocks:
        script.append(f'{code.replace("50052", port)}\necho "== $?"')
        if "pgkeras serve" in code:  # waits for the server, as a reader would
            channel = f'grpc.insecure_channel("127.0.0.1:{port}")'
            script.append(f"python -c 'import grpc; grpc.channel_ready_future({channel}).result(60)'")
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=ROOT,
        env=environment() | path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    printed = re.split(r"^== (\d+)$", result.stdout, flags=re.M)
    found = list(zip(printed[::2], map(int, printed[1::2]), strict=False))
    assert [status == 0 for _, status in found] == [kind == "run" for kind, _ in blocks], result.stdout
    return [text for text, _ in found]


def test_the_policy_is_described(outputs):
    for word in ("specHash", "DATA_TYPE_FLOAT32", '"discrete"', "DISTRIBUTION_KIND_CATEGORICAL", "maxBatchSize"):
        assert word in outputs[1]


def test_an_action_is_drawn(outputs):
    for word in ("action", "logProb", "entropy", "probabilities", "cartpole-v1"):
        assert f'"{word}"' in outputs[2]


def test_a_session_answers_both_messages(outputs):
    assert re.findall(r'"id": "(\d+)"', outputs[3]) == ["1", "2"]
    assert outputs[3].count('"act"') == 2


def test_an_error_names_the_field(outputs):
    for word in ("invalid_argument", "observation.tensor.data", "google.rpc.BadRequest", "20 bytes", "16 bytes"):
        assert word in outputs[4]
