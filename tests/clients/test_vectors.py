"""The conformance vectors: they are up to date, and the Python client decodes them correctly."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from google.rpc import status_pb2

from conformance import vectors
from pgkeras import errors
from pgkeras.client.connection import Endpoint
from pgkeras.client.conversion import read_step, translate
from pgkeras.protocol.status import DETAILS_KEY
from pgkeras.protocol.values import flattened
from pgkeras.protocol.wire import decode_distribution, decode_space, decode_tensor, encode_space, encode_tensor
from pgkeras.spaces import Discrete
from pgkeras.v1 import policy_pb2, service_pb2, spaces_pb2, tensors_pb2

VECTORS = json.loads(vectors.FILE.read_text(encoding="utf-8"))
RELEASES = Path(__file__).parents[1] / "compatibility" / "data"
ALL = {"": VECTORS} | {path.parent.name: json.loads(path.read_text()) for path in RELEASES.glob("*/vectors.json")}
KINDS = {
    "invalid_request": errors.InvalidRequestError,
    "policy_not_found": errors.PolicyNotFoundError,
    "spec_mismatch": errors.SpecMismatchError,
    "server_busy": errors.ServerBusyError,
    "deadline_exceeded": errors.DeadlineExceededError,
    "server_unavailable": errors.ServerUnavailableError,
    "unauthenticated": errors.UnauthenticatedError,
    "server_failed": errors.ServerFailedError,
}
CODES = {code.value[0]: code for code in grpc.StatusCode}


def cases(section):
    """Parametrizes a test with a section's current vectors and those of every release."""
    found = [(release, vector) for release, of_release in ALL.items() for vector in of_release.get(section, ())]
    params = [pytest.param(vector, id=f"{vector['name']} {release}".rstrip()) for release, vector in found]
    return pytest.mark.parametrize("vector", params)


def read(kind, vector):
    return kind.FromString(base64.b64decode(vector["message"]))


def array(vector):
    convert = int if vector["dtype"] == "int64" else (lambda value: value)
    values = [
        float(value) if isinstance(value, str) and convert is not int else convert(value) for value in vector["values"]
    ]
    return np.array(values, vector["dtype"]).reshape(vector["shape"])


@pytest.mark.slow
def test_the_vectors_are_up_to_date():
    assert vectors.same(VECTORS, json.loads(vectors.text(vectors.generate()))), "run python -m conformance.vectors"


def test_a_changed_vector_is_detected():
    for section in ("tensors", "errors", "calls", "sessions"):
        changed = json.loads(json.dumps(VECTORS))
        changed[section].pop()
        assert not vectors.same(VECTORS, changed)
    changed = json.loads(json.dumps(VECTORS))
    changed["calls"][0]["log_prob"] += 1e-3
    assert not vectors.same(VECTORS, changed)


@cases("tensors")
def test_tensors(vector):
    decoded = decode_tensor(read(tensors_pb2.Tensor, vector), "tensor")
    assert (decoded.dtype.name, list(decoded.shape)) == (vector["dtype"], vector["shape"])
    assert np.array_equal(decoded, array(vector), equal_nan=vector["dtype"].startswith("float"))
    encoded = encode_tensor(decoded.copy())
    assert encoded == read(tensors_pb2.Tensor, vector)
    assert encoded.data == base64.b64decode(vector["data"])


@cases("bad_tensors")
def test_bad_tensors(vector):
    with pytest.raises(errors.InvalidRequestError) as caught:
        decode_tensor(read(tensors_pb2.Tensor, vector), "tensor")
    assert caught.value.field == vector["field"]


@cases("spaces")
def test_spaces(vector):
    message = read(spaces_pb2.Space, vector)
    assert message.WhichOneof("kind") == vector["kind"]
    if vector["kind"] in ("box", "discrete"):
        space = decode_space(message)
        assert (space.dtype.name, list(space.shape)) == (vector["dtype"], vector["shape"])
        assert encode_space(space) == message


@cases("distributions")
def test_distributions(vector):
    message = read(policy_pb2.Distribution, vector)
    assert message.WhichOneof("kind") == vector["kind"]
    parameters = flattened(decode_distribution(message))
    assert parameters.keys() == vector["parameters"].keys()
    for name, parameter in vector["parameters"].items():
        assert np.array_equal(parameters[name], array(parameter))


@cases("errors")
def test_errors(vector):
    trailers = () if vector["status"] is None else ((DETAILS_KEY, base64.b64decode(vector["status"])),)
    failed = SimpleNamespace(
        code=lambda: CODES[vector["code"]], details=lambda: vector["message"], trailing_metadata=lambda: trailers
    )
    error = translate(failed, Endpoint("127.0.0.1:1"), 10.0)
    expected = vector["expected"]
    assert type(error) is KINDS[expected["error"]]
    for name in ("field", "expected", "got"):
        if name in expected:
            assert getattr(error, name) == expected[name]
    assert getattr(error, "retry_after", None) == expected.get("retry_after_seconds")
    assert expected.get("message", "") in str(error)


@cases("bad_answers")
def test_bad_answers(vector):
    response = service_pb2.PlayResponse.FromString(base64.b64decode(vector["message"]))
    with pytest.raises(errors.ServerFailedError) as caught:
        read_step(response, Discrete(2), single=True)
    assert vector["says"] in str(caught.value)


def test_every_kind_of_error_has_a_vector():
    assert {vector["expected"]["error"] for vector in VECTORS["errors"]} == KINDS.keys()
    assert status_pb2.Status.FromString(base64.b64decode(VECTORS["errors"][0]["status"])).details
