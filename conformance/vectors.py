"""Generates ``vectors.json``: messages of the protocol, and the values that a client must decode them to.

    python -m conformance.vectors            writes conformance/vectors.json
    python -m conformance.vectors --check    fails if the file is out of date

Messages are base64 of their protobuf encoding. Integers of 64 bits and seeds are decimal strings. Non-finite numbers
are "NaN", "Infinity" or "-Infinity". ``conformance/README.md`` explains every section.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import duration_pb2, json_format
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from numpy.typing import NDArray

from conformance import fixtures, seeded
from conformance.servers import serve
from pgkeras.v1 import policy_pb2, service_pb2, spaces_pb2, tensors_pb2

FILE = Path(__file__).parent / "vectors.json"

_SAMPLES: dict[str, list[Any]] = {
    "bool": [False, True, True, False, True, True],
    "uint8": [0, 1, 2, 127, 128, 255],
    "int8": [-128, -1, 0, 1, 2, 127],
    "uint16": [0, 1, 255, 256, 32768, 65535],
    "int16": [-32768, -256, -1, 0, 255, 32767],
    "int32": [-(2**31), -65536, -1, 0, 1, 2**31 - 1],
    "int64": [-(2**63), -(2**53) - 1, -1, 0, 2**53 + 1, 2**63 - 1],
    "float16": [0.0, -0.5, 1.0, 65504.0, 2.0**-24, math.inf],
    "float32": [0.0, -0.1, 1.5, 3.4028234663852886e38, 1e-45, -math.inf],
    "float64": [0.0, -0.1, math.pi, 1.7976931348623157e308, 5e-324, math.nan],
}


def data_type(dtype: str) -> Any:
    """Returns the DataType for the name of a NumPy dtype."""
    return tensors_pb2.DataType.Value(f"DATA_TYPE_{dtype.upper()}")


def tensor(array: NDArray[Any]) -> tensors_pb2.Tensor:
    """Encodes an array without the project's codec, because the vectors test that, too."""
    little = array.astype(array.dtype.newbyteorder("<"))
    return tensors_pb2.Tensor(dtype=data_type(array.dtype.name), shape=array.shape, data=little.tobytes("C"))


def base64_of(message: Message | bytes) -> str:
    """Returns the base64 of bytes, or of a message's encoding."""
    data = message if isinstance(message, bytes) else message.SerializeToString(deterministic=True)
    return base64.b64encode(data).decode("ascii")


def plain(array: NDArray[Any]) -> list[Any]:
    """Returns an array's elements in C order, as JSON values."""
    if array.dtype in (np.dtype(np.int64), np.dtype(np.uint64)):
        return [str(value) for value in array.ravel().tolist()]
    if array.dtype.kind != "f":
        return list(array.ravel().tolist())
    return [number(value) for value in array.ravel()]


def number(value: Any) -> float | str:
    """Returns the shortest decimal that parses to the same float of its width, or a string if it is not finite."""
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


def described(array: NDArray[Any]) -> dict[str, Any]:
    """Returns an array in the form of the vectors."""
    return {"dtype": array.dtype.name, "shape": list(array.shape), "values": plain(array)}


def tensors() -> list[dict[str, Any]]:
    """Returns vectors of every dtype and every kind of shape."""
    arrays = {f"{dtype}_matrix": np.array(values, dtype).reshape(2, 3) for dtype, values in _SAMPLES.items()}
    arrays |= {f"{dtype}_scalar": np.array(values[2], dtype) for dtype, values in _SAMPLES.items()}
    arrays |= {
        "vector": np.arange(5, dtype=np.float32),
        "one_element": np.array([[[7]]], np.int32),
        "empty_batch": np.zeros((0, 4), np.float32),
        "empty_axis": np.zeros((2, 0, 3), np.uint8),
        "five_axes": np.arange(48, dtype=np.int16).reshape(2, 3, 1, 4, 2),
    }
    return [
        {"name": name, "message": base64_of(tensor(array)), "data": base64_of(tensor(array).data), **described(array)}
        for name, array in arrays.items()
    ]


def bad_tensors() -> list[dict[str, Any]]:
    """Returns invalid tensors, and the field that the error must name if the tensor is called "tensor"."""
    one = data_type("float32")
    cases = {
        "no_dtype": (tensors_pb2.Tensor(shape=[1], data=bytes(4)), "tensor.dtype"),
        "unknown_dtype": (tensors_pb2.Tensor(dtype=99, shape=[1], data=bytes(4)), "tensor.dtype"),  # type: ignore[arg-type]
        "too_short": (tensors_pb2.Tensor(dtype=one, shape=[2, 3], data=bytes(20)), "tensor.data"),
        "too_long": (tensors_pb2.Tensor(dtype=one, shape=[2, 3], data=bytes(28)), "tensor.data"),
        "no_data": (tensors_pb2.Tensor(dtype=one, shape=[1]), "tensor.data"),
        "scalar_without_data": (tensors_pb2.Tensor(dtype=one), "tensor.data"),
        "negative_length": (tensors_pb2.Tensor(dtype=one, shape=[-1], data=bytes(4)), "tensor.shape"),
        "two_negative_lengths": (tensors_pb2.Tensor(dtype=one, shape=[-1, -1], data=bytes(4)), "tensor.shape"),
        "product_overflows": (tensors_pb2.Tensor(dtype=one, shape=[2**32, 2**32], data=b""), "tensor.data"),
        "product_overflows_to_a_fit": (
            tensors_pb2.Tensor(dtype=data_type("uint8"), shape=[2**62, 4, 1], data=b""),
            "tensor.data",
        ),
        "too_many_axes": (tensors_pb2.Tensor(dtype=one, shape=[1] * 33, data=bytes(4)), "tensor.shape"),
        "bool_of_two": (tensors_pb2.Tensor(dtype=data_type("bool"), shape=[2], data=b"\1\2"), "tensor.data"),
    }
    return [{"name": name, "message": base64_of(message), "field": field} for name, (message, field) in cases.items()]


def spaces() -> list[dict[str, Any]]:
    """Returns vectors of every kind of space. ``json`` is the canonical JSON form of the message."""
    float32, uint8, int64 = data_type("float32"), data_type("uint8"), data_type("int64")
    box = spaces_pb2.BoxSpace(dtype=float32, shape=[2], low=[-1.5, -math.inf], high=[1.5, math.inf])
    image = spaces_pb2.BoxSpace(dtype=uint8, shape=[84, 84, 4], low=[0], high=[255])
    discrete = spaces_pb2.DiscreteSpace(n=3, start=5, dtype=int64)
    cases = {
        "box": spaces_pb2.Space(box=box),
        "image": spaces_pb2.Space(box=image),
        "scalar_box": spaces_pb2.Space(box=spaces_pb2.BoxSpace(dtype=float32, low=[0], high=[1])),
        "discrete": spaces_pb2.Space(discrete=discrete),
        "discrete_below_zero": spaces_pb2.Space(discrete=spaces_pb2.DiscreteSpace(n=3, start=-1, dtype=int64)),
        "multi_discrete": spaces_pb2.Space(
            multi_discrete=spaces_pb2.MultiDiscreteSpace(nvec=[3, 2], start=[0, -1], shape=[2], dtype=int64)
        ),
        "multi_binary": spaces_pb2.Space(multi_binary=spaces_pb2.MultiBinarySpace(shape=[2, 3])),
        "text": spaces_pb2.Space(
            text=spaces_pb2.TextSpace(
                min_length=1, max_length=32, charset=" abcé", vocabulary=["a", "cab"], max_tokens=8
            )
        ),
        "dict": spaces_pb2.Space(
            dict=spaces_pb2.DictSpace(
                spaces=[
                    spaces_pb2.NamedSpace(key="image", space=spaces_pb2.Space(box=image)),
                    spaces_pb2.NamedSpace(key="goal", space=spaces_pb2.Space(discrete=discrete)),
                ]
            )
        ),
        "tuple": spaces_pb2.Space(
            tuple=spaces_pb2.TupleSpace(spaces=[spaces_pb2.Space(discrete=discrete), spaces_pb2.Space(box=box)])
        ),
    }
    return [_space(name, message) for name, message in cases.items()]


def _space(name: str, message: spaces_pb2.Space) -> dict[str, Any]:
    kind = message.WhichOneof("kind")
    assert kind is not None
    found: dict[str, Any] = {"name": name, "message": base64_of(message), "kind": kind}
    inner = getattr(message, kind)
    if kind in ("box", "multi_discrete", "multi_binary"):
        found["shape"] = list(inner.shape)
    if kind == "discrete":
        found["shape"] = []
    if kind in ("box", "discrete", "multi_discrete"):
        found["dtype"] = tensors_pb2.DataType.Name(inner.dtype).removeprefix("DATA_TYPE_").lower()
    return found | {"json": json_format.MessageToDict(message)}


def distributions() -> list[dict[str, Any]]:
    """Returns vectors of every kind of distribution for a batch, and of one for a single observation."""
    tensors = {
        "categorical": {"probabilities": [[0.25, 0.75], [1.0, 0.0]]},
        "diagonal_gaussian": {"mean": [[0.5, -1.0], [0.0, 2.0]], "stddev": [[1.0, 0.25], [0.5, 4.0]]},
        "multi_categorical": {"probabilities": [[0.5, 0.25, 0.25, 0.125, 0.875]]},
        "multi_bernoulli": {"probabilities": [[0.5, 0.125, 1.0]]},
        "squashed_gaussian": {"mean": [[0.5], [-3.0]], "stddev": [[1.0], [0.25]]},
        "kumaraswamy": {"a": [[0.5, 2.0]], "b": [[1.0, 8.0]]},
    }
    cases = [(kind, kind, parameters) for kind, parameters in tensors.items()]
    structured: dict[str, Any] = {
        "aim.mean": [[0.5, -1.0]],
        "aim.stddev": [[1.0, 0.25]],
        "hands.0.probabilities": [[0.5, 0.125, 1.0]],
        "hands.1.probabilities": [[0.25, 0.75]],
        "move.probabilities": [[0.125, 0.875, 0.0]],
    }
    kinds = {"aim": "diagonal_gaussian", "hands.0": "multi_bernoulli", "hands.1": "categorical", "move": "categorical"}
    cases.append(("structured", "structured", structured))
    cases.append(("categorical_single", "categorical", {"probabilities": [0.25, 0.75]}))  # type: ignore[dict-item]
    found = []
    for name, kind, parameters in cases:
        arrays = {key: np.array(value, np.float32) for key, value in parameters.items()}
        message = policy_pb2.Distribution()
        for key, array in arrays.items():
            path, _, parameter = key.rpartition(".")
            part = message
            for name_of_part in filter(None, path.split(".")):
                part = part.structured.parts[name_of_part]
            getattr(getattr(part, kinds.get(path, kind)), parameter).CopyFrom(tensor(array))
        parts = {key: described(array) for key, array in arrays.items()}
        found.append({"name": name, "message": base64_of(message), "kind": kind, "parameters": parts})
    return found


def errors() -> list[dict[str, Any]]:
    """Returns failed calls: code, message and ``grpc-status-details-bin`` trailer, and the expected typed error."""
    bad = error_details_pb2.BadRequest(
        field_violations=[{"field": "observation", "description": "expected shape [4], got shape [3]"}]
    )
    info = error_details_pb2.ErrorInfo(
        reason="INVALID_FIELD", domain="pgkeras", metadata={"expected": "shape [4]", "got": "shape [3]"}
    )
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2, nanos=500_000_000))
    no_time = {"of_zero": {}, "below_zero": {"seconds": -5}, "just_below_zero": {"nanos": -5}}
    endless = {"that_is_endless": {"seconds": 2**63 - 1}, "of_centuries": {"seconds": 10**10}}
    shape = {"field": "observation", "expected": "shape [4]", "got": "shape [3]"}
    cases: list[tuple[str, str, str, list[Message] | None, dict[str, Any]]] = [
        ("invalid_field", "INVALID_ARGUMENT", "observation: expected shape [4], got shape [3]", [bad, info],
         {"error": "invalid_request", **shape}),
        ("invalid_field_details_in_another_order", "INVALID_ARGUMENT", "observation: expected shape [4], got shape [3]",
         [retry, info, bad], {"error": "invalid_request", **shape}),
        ("invalid_field_of_a_proxy", "INVALID_ARGUMENT", "no", [bad], {"error": "invalid_request",
         "field": "observation", "got": "expected shape [4], got shape [3]"}),
        ("invalid_without_details", "INVALID_ARGUMENT", "no", None,
         {"error": "invalid_request", "field": "request", "got": "no"}),
        ("unknown_policy", "NOT_FOUND", "there is no policy 'x'; there is: a (version 1)", [],
         {"error": "policy_not_found"}),
        ("other_spec", "FAILED_PRECONDITION", "policy 'a' version 1 has spec 12", [], {"error": "spec_mismatch"}),
        ("busy", "RESOURCE_EXHAUSTED", "4 sessions are open, and no more may be", [retry],
         {"error": "server_busy", "retry_after_seconds": 2.5}),
        ("busy_without_details", "RESOURCE_EXHAUSTED", "full", None,
         {"error": "server_busy", "retry_after_seconds": 1.0}),
        ("too_large", "RESOURCE_EXHAUSTED", "Received message larger than max (99 vs. 10)", None,
         {"error": "invalid_request", "field": "message", "got": "Received message larger than max (99 vs. 10)"}),
        ("too_late", "DEADLINE_EXCEEDED", "the answer would have come too late", [], {"error": "deadline_exceeded"}),
        ("draining", "UNAVAILABLE", "the server is stopping", [], {"error": "server_unavailable"}),
        ("draining_with_retry_info", "UNAVAILABLE", "the server is stopping", [retry],
         {"error": "server_unavailable", "retry_after_seconds": 2.5}),
        ("cut_off", "CANCELLED", "", None, {"error": "server_unavailable"}),
        (
            "no_token",
            "UNAUTHENTICATED",
            "this server demands a token",
            [],
            {"error": "unauthenticated"},
        ),
        ("defect", "INTERNAL", "Act failed; the server's log has the reason", [], {"error": "server_failed"}),
        ("not_offered", "UNIMPLEMENTED", "Method not found!", None, {"error": "server_failed"}),
        ("unknown", "UNKNOWN", "?", None, {"error": "server_failed"}),
    ]  # fmt: skip
    # A delay of zero or less counts as none, and none is longer than a year.
    for name, duration in (no_time | endless).items():
        delay = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(**duration))
        seconds = 365 * 24 * 3600.0 if name in endless else None
        busy = {"error": "server_busy", "retry_after_seconds": seconds or 1.0}
        draining = {"error": "server_unavailable"} | ({"retry_after_seconds": seconds} if seconds else {})
        cases.append((f"busy_with_a_delay_{name}", "RESOURCE_EXHAUSTED", "full", [delay], busy))
        cases.append((f"draining_with_a_delay_{name}", "UNAVAILABLE", "the server is stopping", [delay], draining))
    return [_error(*case) for case in cases] + [
        {
            "name": "mangled_details",
            "code": code_pb2.Code.Value("NOT_FOUND"),
            "message": "there is none",
            "status": base64_of(b"\xff\xff\xff"),
            "expected": {"error": "policy_not_found", "message": "there is none"},
        }
    ]


def _error(
    name: str, code: str, message: str, details: list[Message] | None, expected: dict[str, Any]
) -> dict[str, Any]:
    number = code_pb2.Code.Value(code)
    status = status_pb2.Status(code=number, message=message)
    for detail in details or ():
        status.details.add().Pack(detail, deterministic=True)
    return {
        "name": name,
        "code": number,
        "message": message,
        "status": None if details is None else base64_of(status),
        "expected": expected,
    }


def bad_answers() -> list[dict[str, Any]]:
    """Returns malformed responses to a step of a single environment. ``says`` is part of the error message."""

    def answer(**fields: Any) -> service_pb2.PlayResponse:
        return service_pb2.PlayResponse(
            act=service_pb2.ActResponse(**{"action": tensor(np.zeros(1, np.int64)), **fields})
        )

    floats, integers = (tensor(np.zeros(1, dtype)) for dtype in (np.float32, np.int64))
    rows = tensor(np.zeros(2, np.float32))
    probabilities = {"probabilities": tensor(np.full((2, 2), 0.5, np.float32))}
    scalar = tensor(np.zeros((), np.float32))
    hold_of_int64, hold_of_none, hold_of_two = answer(), answer(), answer()
    hold_of_int64.hold.CopyFrom(integers)
    hold_of_none.hold.CopyFrom(tensor(np.zeros((), np.bool_)))
    hold_of_two.hold.CopyFrom(tensor(np.zeros(2, np.bool_)))
    cut = tensors_pb2.Tensor(dtype=data_type("int64"), shape=[1], data=bytes(4))
    cases = {
        "nothing": (service_pb2.PlayResponse(), "neither actions nor an error"),
        "no_action": (service_pb2.PlayResponse(act=service_pb2.ActResponse(log_prob=floats)), "it has no action"),
        "action_of_no_axes": (answer(action=tensor(np.zeros((), np.int64))), "shape []"),
        "action_of_two_rows": (answer(action=tensor(np.zeros(2, np.int64))), "shape [2]"),
        "action_cut_short": (answer(action=cut), "action.data"),
        "log_prob_of_int64": (answer(log_prob=integers), "log_prob"),
        "log_prob_of_no_axes": (answer(log_prob=scalar), "shape []"),
        "log_prob_of_two_rows": (answer(log_prob=rows), "shape [2]"),
        "entropy_of_int64": (answer(entropy=integers), "entropy"),
        "entropy_of_no_axes": (answer(entropy=scalar), "shape []"),
        "entropy_of_two_rows": (answer(entropy=rows), "shape [2]"),
        "greedy_action_of_two_rows": (answer(greedy_action=tensor(np.zeros(2, np.int64))), "shape [2]"),
        "distribution_of_two_rows": (answer(distribution={"categorical": probabilities}), "shape [2, 2]"),
        "hold_of_int64": (hold_of_int64, "hold"),
        "hold_of_no_axes": (hold_of_none, "shape []"),
        "hold_of_two_rows": (hold_of_two, "shape [2]"),
    }
    return [{"name": name, "message": base64_of(message), "says": says} for name, (message, says) in cases.items()]


def generate() -> dict[str, Any]:
    """Returns all vectors."""
    with tempfile.TemporaryDirectory() as scratch:
        policies = Path(scratch) / "policies"
        fixtures.export(policies)
        with serve(policies, Path(scratch)) as server:
            return {
                "about": "Written by python -m conformance.vectors; conformance/README.md explains it.",
                "tensors": tensors(),
                "bad_tensors": bad_tensors(),
                "spaces": spaces(),
                "distributions": distributions(),
                "errors": errors(),
                "bad_answers": bad_answers(),
                "policy": seeded.policy(server.target),
                "calls": seeded.calls(server.target),
                "sessions": seeded.sessions(server.target),
                "structured_observations": seeded.structured_observations(server.target),
            }


def text(vectors: dict[str, Any]) -> str:
    """Formats the file with one vector per line, which makes diffs readable."""
    lines = []
    for section, content in vectors.items():
        if isinstance(content, list):
            body = ",\n".join(f"    {json.dumps(vector, ensure_ascii=True)}" for vector in content)
            lines.append(f"  {json.dumps(section)}: [\n{body}\n  ]")
        else:
            lines.append(f"  {json.dumps(section)}: {json.dumps(content)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def same(a: Any, b: Any) -> bool:
    """Whether two vectors are equal. Floats may differ by rounding, which depends on the processor."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6)
    return type(a) is type(b) and a == b


def main() -> None:
    """Writes the vectors, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="do not write; fail if the file is out of date")
    check = parser.parse_args().check
    vectors = generate()
    if not check:
        FILE.write_text(text(vectors), encoding="utf-8")
    elif not same(json.loads(FILE.read_text(encoding="utf-8")), vectors):
        sys.exit("conformance/vectors.json is out of date: run python -m conformance.vectors")


if __name__ == "__main__":
    main()
