"""Policies with structured actions: responses compared with the outputs of the policy's own graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgkeras.bundle import bundle
from pgkeras.cli import text
from pgkeras.client import PolicyClient
from pgkeras.client.conversion import read_actions
from pgkeras.engines import load, noise
from pgkeras.errors import InvalidRequestError, ServerFailedError, UnsupportedSpaceError
from pgkeras.evaluation.actors import RemoteActor
from pgkeras.protocol.wire import decode_spec, encode_spec, encode_tensor
from pgkeras.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from pgkeras.spaces.masks import mask_size_of
from pgkeras.spaces.spec import PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2, service_pb2_grpc
from tests.serving.conftest import OBSERVATIONS, export_random, running

GAME = Dict(
    {
        "aim": Box(np.array([-1.0, 0.1]), np.array([1.0, 0.7]), np.dtype(np.float64)),
        "hands": Tuple((MultiBinary((3,)), MultiDiscrete(np.array([2, 4]), np.array([0, -1])))),
        "move": Discrete(5, -2),
    }
)
PAIR = Tuple((Discrete(3), Box(np.full((2, 2), -np.inf), np.full((2, 2), np.inf), np.dtype(np.float32))))
POLICIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "game": (GAME, {}),
    "squashed": (GAME, {"distribution": "squashed_gaussian"}),
    "pair": (PAIR, {"memory": "gru", "memory_units": 3}),
}
OUTPUTS = ("log_prob", "entropy", "distribution", "greedy_action")
ROWS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Policies of random weights. Read only."""
    path = tmp_path_factory.mktemp("structured")
    generator = np.random.default_rng(0)
    for name, (space, settings) in POLICIES.items():
        export_random(path, name, space, generator, mask_size_of(space) if name == "game" else 0, **settings)
    return path


@pytest.fixture(scope="module")
def target(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of all these policies."""
    with running(root, tmp_path_factory.mktemp("server")) as started:
        yield started.target


def expected_of(root: Path, name: str, seed: int, mask: Any = None) -> tuple[Any, dict[str, Any]]:
    found = bundle.open_bundle(bundle.find(root / name))
    drawn = noise.draw(noise.seeded(seed), found.spec, len(ROWS))
    inputs = {"observation": found.spec.layout.pack(ROWS, mask), "noise": drawn}
    if found.spec.state_size:
        inputs["state"] = np.zeros((len(ROWS), found.spec.state_size), np.float32)
    return found.spec, load(found, "tensorflow").act(inputs)


@pytest.mark.parametrize("name", POLICIES)
def test_all_outputs_are_those_of_the_graph(root: Path, target: str, name: str) -> None:
    spec, expected = expected_of(root, name, 7)
    with PolicyClient(target, name) as client:
        assert client.describe().spec == spec
        answer = client.act(ROWS, seed=7, outputs=OUTPUTS)
        single = client.act(ROWS[0], seed=7, outputs=OUTPUTS)
        greedy = client.act(ROWS, mode="greedy", outputs=OUTPUTS)
        bare = client.act(ROWS, seed=7, outputs=())
    close(spec.to_graph(answer.action), expected["action"])
    close(spec.to_graph(bare.action), expected["action"])
    close(spec.to_graph(answer.greedy_action), expected["greedy_action"])
    close(spec.to_graph(greedy.action), expected["greedy_action"])
    close(answer.log_prob, expected["log_prob"])
    close(single.log_prob, expected["log_prob"][0])
    close(single.entropy, expected["entropy"][0])
    assert bare.greedy_action is None
    assert bare.distribution == {}
    for part in spec.parts:
        own, alone, action = answer.distribution, single.distribution, single.action
        for key in part.path:
            own, alone = own[key], alone[key]
            action = action[int(key)] if isinstance(action, tuple) else action[key]
        assert (action.dtype, action.shape) == (part.space.dtype, part.space.shape)
        for parameter, output in part.outputs.items():
            close(own[parameter], expected[output])
            close(alone[parameter], expected[output][0])
    shown = text.actions(answer, spec.action_space)
    assert all(line in shown for line in ({" move", " hands"} if isinstance(spec.action_space, Dict) else {" 0", " 1"}))
    assert text.actions_json(single)["action"]
    assert "<table>" in single._repr_html_()


def test_the_greedy_log_probability_is_the_sum_of_its_parts(root: Path, target: str) -> None:
    with PolicyClient(target, "game") as client:
        answer = client.act(ROWS, mode="greedy", outputs=OUTPUTS)
    found = answer.distribution
    bits, choices = (found["hands"][key]["probabilities"] for key in ("0", "1"))
    expected = np.log(found["move"]["probabilities"].max(axis=1)) + np.log(np.maximum(bits, 1 - bits)).sum(axis=1)
    expected += np.log(choices[:, :2].max(axis=1)) + np.log(choices[:, 2:].max(axis=1))
    expected += -np.log(found["aim"]["stddev"]).sum(axis=1) - np.log(2 * np.pi)
    close(answer.log_prob, expected)


def test_masks_follow_the_action_space(root: Path, target: str) -> None:
    masks = {"move": [[True, False, False, True, False]] * 50, "hands": (None, [[1, 0, 0, 1, 1, 0]] * 50)}
    flat = np.array([[1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0]] * 50)
    spec, expected = expected_of(root, "game", 3, flat)
    with PolicyClient(target, "game") as client:
        for mask in (masks, flat):
            answer = client.act(ROWS, seed=3, action_mask=mask)
            close(spec.to_graph(answer.action), expected["action"])
            assert set(answer.action["move"]) <= {-2, 1}
        one = client.act(ROWS[0], seed=3, action_mask={"move": [1, 0, 0, 0, 0]})
        assert one.action["move"] == -2
        with pytest.raises(InvalidRequestError, match="at least one allowed action for move"):
            client.act(ROWS[0], action_mask={"move": [0, 0, 0, 0, 0]})
        with pytest.raises(InvalidRequestError, match="cannot depend on the others"):
            client.act(ROWS[0], action_mask={"hands": (None, np.ones((2, 4), bool))})


@pytest.mark.parametrize("name", POLICIES)
def test_a_session_responds_like_calls(root: Path, target: str, name: str) -> None:
    spec, expected = expected_of(root, name, 5)
    with PolicyClient(target, name) as client, client.play(seed=5, outputs=OUTPUTS) as session:
        action = session.step(ROWS)
        assert session.answer is not None
        close(spec.to_graph(action), expected["action"])
        close(session.answer.log_prob, expected["log_prob"])
        session.step(ROWS, np.zeros(50), np.zeros(50, bool), np.zeros(50, bool))
    with PolicyClient(target, name) as client, client.play(seed=5, outputs=OUTPUTS) as session:
        one = session.step(ROWS[0])
        close(spec.to_graph(with_batch(one))[0], expected["action"][0])


def test_a_remote_actor_plays_like_the_graph(root: Path, target: str) -> None:
    with PolicyClient(target, "game") as client:
        actor = RemoteActor(client, "greedy")
        spec, expected = expected_of(root, "game", 0)
        _, action, _ = actor.act(spec.layout.pack(ROWS), np.zeros((50, spec.noise_size), np.float32), None)
        close(action, expected["greedy_action"])
        for output in spec.parameter_outputs:
            close(actor.answer[output], expected[output])


def test_a_message_has_only_the_structured_fields(target: str) -> None:
    import grpc

    from pgkeras.protocol.wire import write_tensor

    with grpc.insecure_channel(target) as channel:
        request = service_pb2.ActRequest()
        request.policy.name = "game"
        write_tensor(request.observation.tensor, ROWS[:1])
        answer = service_pb2_grpc.PolicyServiceStub(channel).Act(request)
    assert not answer.HasField("action")
    assert not answer.HasField("structured_greedy_action")
    assert set(answer.structured_action.fields.fields) == {"aim", "hands", "move"}
    assert list(answer.structured_action.fields.fields["aim"].tensor.shape) == [1, 2]
    assert answer.distribution.WhichOneof("kind") == "structured"
    inner = answer.distribution.structured.parts["hands"].structured.parts["1"]
    assert inner.WhichOneof("kind") == "multi_categorical"


def with_batch(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: with_batch(part) for key, part in value.items()}
    return tuple(map(with_batch, value)) if isinstance(value, tuple) else np.asarray(value)[np.newaxis]


def close(got: Any, expected: Any) -> None:
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_response_without_a_part_is_an_error_that_names_the_part() -> None:
    answer = service_pb2.ActResponse()
    answer.structured_action.fields.fields["move"].tensor.CopyFrom(encode_tensor(np.zeros(1, np.int64)))
    with pytest.raises(ServerFailedError, match="structured_action has no part called 'aim'"):
        read_actions(answer, GAME)
    with pytest.raises(ServerFailedError, match="it has no structured_action"):
        read_actions(service_pb2.ActResponse(), GAME)
    with pytest.raises(ServerFailedError, match="it has no action"):
        read_actions(service_pb2.ActResponse(), Discrete(2))


def test_unknown_kinds_of_distributions_are_refused() -> None:
    message = encode_spec(PolicySpec.by_default(OBSERVATIONS, GAME))
    assert decode_spec(message) == PolicySpec.by_default(OBSERVATIONS, GAME)
    message.part_distributions[1] = policy_pb2.DISTRIBUTION_KIND_UNSPECIFIED
    with pytest.raises(UnsupportedSpaceError, match="does not know distribution kind 0"):
        decode_spec(message)
    message.action_space.dict.spaces[0].space.text.max_length = 3
    message.part_distributions[1] = policy_pb2.DISTRIBUTION_KIND_MULTI_BERNOULLI
    with pytest.raises(UnsupportedSpaceError, match="does not handle actions of"):
        decode_spec(message)
