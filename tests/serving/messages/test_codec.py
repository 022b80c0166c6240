"""PolicyCodec: cached layouts never accept a bad request and never change a response."""

from __future__ import annotations

import numpy as np
import pytest
from pgkeras_serving.messages.act import PolicyCodec

from pgkeras.errors import InvalidRequestError
from pgkeras.protocol.wire import decode_tensor, encode_tensor
from pgkeras.spaces import Box, Discrete, Space
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2, tensors_pb2

VERSION = policy_pb2.PolicyVersion(name="p", version=3, spec_hash="h")


def box(dtype: str, high: float = np.inf) -> Box:
    return Box(np.full(4, 0.0 if high < np.inf else -np.inf), np.full(4, high), np.dtype(dtype))


def codec(space: Space) -> PolicyCodec:
    return PolicyCodec(
        PolicySpec(space, Discrete(2, dtype=np.dtype(np.int32)), DistributionKind.CATEGORICAL), VERSION, 8
    )


def request(array, **fields):
    return service_pb2.ActRequest(observation=tensors_pb2.Value(tensor=encode_tensor(array)), **fields)


def recalled(known, message):
    return known.recall(message.SerializeToString())


def learn(known, message):
    return known.decode(message, message.SerializeToString())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32"])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (8, 4)])
def test_a_request_with_a_cached_layout_is_decoded_like_an_uncached_one(dtype, shape):
    known = codec(box(dtype, 255.0))
    array = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    learn(known, request(np.zeros(shape, dtype), outputs=[1, 3], mode=2))
    message = request(array, outputs=[1, 3], mode=2)
    first, second = codec(box(dtype, 255.0)).decode(message), recalled(known, message)
    if known.decode(message).inputs["observation"].dtype != dtype:
        assert second is None, "an observation that needs a cast is never recalled"
        return
    np.testing.assert_array_equal(first.inputs["observation"], second.inputs["observation"])
    np.testing.assert_array_equal(second.inputs["observation"], array.reshape(-1, 4))
    assert first.inputs["observation"].dtype == second.inputs["observation"].dtype
    assert first[1:] == second[1:]
    assert second.has_batch_axis == (len(shape) == 2)
    assert second.greedy


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", range(2))
def test_a_cached_layout_is_still_checked_for_nan(bad, row):
    known = codec(box("float32"))
    array = np.ones((2, 4), np.float32)
    learn(known, request(array))
    array[row, 2] = bad
    assert recalled(known, request(array)) is None
    with pytest.raises(InvalidRequestError, match=rf"finite numbers, got .* at index \[{row}, 2\]"):
        known.decode(request(array))


@pytest.mark.filterwarnings("ignore:overflow encountered in dot")
def test_finite_numbers_whose_squares_overflow_are_accepted():
    known = codec(box("float32"))
    array = np.full(4, 3e38, np.float32)
    learn(known, request(array))
    assert recalled(known, request(array)) is None, "the fast check defers to the full one"
    np.testing.assert_array_equal(known.decode(request(array)).inputs["observation"], array[None])


def test_numbers_beyond_the_graphs_range_are_refused():
    with pytest.raises(InvalidRequestError, match=r"numbers within the range of float32, got 1e\+300"):
        codec(box("float64")).decode(request(np.full(4, 1e300)))


def test_a_cached_layout_with_the_wrong_length_is_refused():
    known = codec(box("float32"))
    learn(known, request(np.zeros(4, np.float32)))
    message = request(np.zeros(4, np.float32))
    message.observation.tensor.data = bytes(12)
    assert recalled(known, message) is None
    with pytest.raises(InvalidRequestError, match=r"expected 16 bytes .*got 12 bytes"):
        known.decode(message)


def test_only_a_request_with_a_cached_layout_is_recalled():
    known = codec(box("float32"))
    learn(known, request(np.zeros(4, np.float32)))
    assert recalled(known, request(np.ones(4, np.float32))) is not None
    for other in (
        request(np.zeros(4, np.int32)),
        request(np.zeros((1, 4), np.float32)),
        request(np.zeros(4, np.float32), mode=2),
        request(np.zeros(4, np.float32), spec_hash="h"),
        request(np.zeros(4, np.float32), outputs=[3]),
    ):
        assert recalled(known, other) is None


@pytest.mark.parametrize(("seed", "like"), [(1, 0), (127, 5), (300, 200), (2**32 + 1, 2**32), (2**64 - 1, 2**63)])
def test_a_recalled_seed_draws_what_a_parsed_one_does(seed, like):
    known = codec(box("float32"))
    learn(known, request(np.zeros((3, 4), np.float32), seed=like))
    message = request(np.ones((3, 4), np.float32), seed=seed)
    np.testing.assert_array_equal(recalled(known, message).inputs["noise"], known.decode(message).inputs["noise"])


def test_discrete_observations_are_checked_every_time():
    known = codec(Discrete(3, start=5))
    assert known.decode(request(np.int64(5)[()] + np.zeros((), np.int64))).inputs["observation"].tolist() == [5]
    for value in (4, 8):
        with pytest.raises(InvalidRequestError, match="integers from 5 to 7"):
            known.decode(request(np.array(value)))


def test_fresh_noise_never_repeats_and_a_seeds_noise_always_does():
    known = codec(box("float32"))
    message = request(np.zeros((8, 4), np.float32))
    drawn = np.concatenate([known.decode(message).inputs["noise"] for _ in range(400)])
    assert drawn.shape == (3200, 1)
    assert len(np.unique(drawn)) > 3190, "apart from a few equal float32 values"
    message.seed = 1
    np.testing.assert_array_equal(known.decode(message).inputs["noise"], known.decode(message).inputs["noise"])


def test_a_cached_response_template_contains_the_new_values():
    known = codec(box("float32"))
    for rows in (None, 2, 2, None, 3):
        query = known.decode(request(np.zeros((4,) if rows is None else (rows, 4), np.float32), mode=2))
        size = rows or 1
        p = np.random.default_rng(size).dirichlet([1, 1], size).astype(np.float32)
        answer = {
            "action": np.zeros(size, np.int64),
            "greedy_action": p.argmax(axis=1),
            "log_prob": np.zeros(size, np.float32),
            "entropy": np.arange(size, dtype=np.float32),
            "probabilities": p,
        }
        response = service_pb2.ActResponse.FromString(known.encode(query, answer))
        shape = () if rows is None else (rows,)
        action = decode_tensor(response.action, "action")
        assert (action.shape, action.dtype) == (shape, np.int32)
        np.testing.assert_array_equal(action.ravel(), p.argmax(axis=1))
        np.testing.assert_allclose(decode_tensor(response.log_prob, "x").ravel(), np.log(p.max(axis=1)))
        assert decode_tensor(response.distribution.categorical.probabilities, "x").shape == (*shape, 2)
        assert response.policy == VERSION
