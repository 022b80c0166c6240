"""Structured observations, masks and memory, through a client and a real server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pgkeras import engines
from pgkeras.bundle import bundle
from pgkeras.client import PolicyClient
from pgkeras.engines import Engine, noise
from pgkeras.engines.state import start_over
from pgkeras.errors import InvalidRequestError
from pgkeras.evaluation import EngineActor, RemoteActor
from pgkeras.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Text, Tuple
from pgkeras.spaces.spec import PolicySpec
from tests.serving.conftest import Server, running

CAMERA = Box(np.zeros((6, 5, 3)), np.full((6, 5, 3), 255.0), np.dtype(np.uint8))
WORDS = ("ball", "blue", "go", "key", "the", "to")
RICH = Dict(
    {
        "camera": CAMERA,
        "mission": Text(max_length=40, vocabulary=WORDS, max_tokens=5),
        "body": Tuple((Discrete(4, start=1), Box(np.full(2, -1.0), np.full(2, 1.0), np.dtype(np.float64)))),
    }
)
VECTOR = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float32))
SEVERAL = MultiDiscrete(np.array([3, 2]), np.array([0, 7]))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``rich``, with memory and masks; ``masked``, with several discrete actions; ``lstm``, in two versions."""
    from pgkeras.policy.export import export_policy
    from pgkeras.policy.policy import Policy
    from pgkeras.settings.groups import NetworkSettings

    root = tmp_path_factory.mktemp("structured")

    def export(name: str, space: Space, actions: Any, seed: int, mask_size: int = 0, **settings: Any) -> None:
        policy = Policy(
            space, actions, settings=NetworkSettings(hidden=(8,), **settings), mask_size=mask_size, seed=seed
        )
        generator = np.random.default_rng(seed)
        policy.assign([generator.normal(0, 0.3, w.shape).astype(np.float32) for w in policy.weights()])
        export_policy(policy, root, name, {"env_id": "Test-v0"})

    export("rich", RICH, Discrete(5), 1, memory="gru", memory_units=6, mask_size=5)
    export("masked", VECTOR, SEVERAL, 2, mask_size=5)
    export("lstm", VECTOR, Discrete(3), 3, memory="lstm", memory_units=4)
    export("lstm", VECTOR, Discrete(3), 4, memory="lstm", memory_units=4)
    return root


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(root, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., PolicyClient]]:
    with contextlib.ExitStack() as stack:
        yield lambda policy, **options: stack.enter_context(PolicyClient(server.target, policy, **options))


def local(root: Path, name: str) -> tuple[PolicySpec, Engine]:
    opened = bundle.open_bundle(bundle.find(root / name))
    return opened.spec, engines.load(opened)


def rich(rows: int, seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {
        "camera": generator.integers(0, 256, (rows, 6, 5, 3), np.uint8),
        "mission": [" ".join(generator.choice(WORDS, generator.integers(1, 6))) for _ in range(rows)],
        "body": (generator.integers(1, 5, rows), generator.uniform(-1, 1, (rows, 2))),
    }


def row(batch: dict[str, Any], i: int) -> dict[str, Any]:
    return {
        "camera": batch["camera"][i],
        "mission": batch["mission"][i],
        "body": (batch["body"][0][i], batch["body"][1][i]),
    }


def masks(rows: int, size: int, seed: int = 0) -> NDArray[np.bool_]:
    mask = np.random.default_rng(seed).random((rows, size)) < 0.5
    mask[np.arange(rows), np.arange(rows) % size] = True
    return mask


def test_a_description_contains_spaces_state_and_mask(connect: Callable[..., PolicyClient]) -> None:
    spec = connect("rich").describe().spec
    assert spec.observation_space == RICH
    assert (spec.state_size, spec.mask_size) == (6, 5)
    mission = spec.observation_space.spaces["mission"]
    assert (mission.vocabulary, mission.max_tokens) == (WORDS, 5)


def test_a_server_responds_with_its_engines_outputs(root: Path, connect: Callable[..., PolicyClient]) -> None:
    spec, engine = local(root, "rich")
    client, state, numbers = connect("rich"), b"", np.zeros((3, 6), np.float32)
    for t in range(4):
        observation, mask = rich(3, t), masks(3, 5, t)
        answer = client.act(observation, seed=t, action_mask=mask, state=state)
        batch, _ = spec.observation_space.batched(observation)
        drawn = noise.draw(noise.seeded(t), spec, 3)
        expected = engine.act({"observation": spec.layout.pack(batch, mask), "noise": drawn, "state": numbers})
        np.testing.assert_array_equal(answer.action, expected["action"])
        np.testing.assert_allclose(answer.distribution["probabilities"], expected["probabilities"], atol=1e-6)
        assert (answer.distribution["probabilities"][~mask] == 0).all()
        state, numbers = answer.state, expected["next_state"]


def test_a_single_observation_is_a_batch_of_one(connect: Callable[..., PolicyClient]) -> None:
    client, batch, mask = connect("rich"), rich(2), masks(2, 5)
    together = client.act(batch, "greedy", action_mask=mask)
    alone = client.act(row(batch, 0), "greedy", action_mask=mask[0])
    assert alone.action.shape == ()
    assert alone.action == together.action[0]
    np.testing.assert_allclose(
        alone.distribution["probabilities"], together.distribution["probabilities"][0], atol=1e-6
    )
    piece = len(together.state) // 2
    next_alone = client.act(row(batch, 1), "greedy", state=together.state[:piece]).distribution["probabilities"]
    next_together = client.act(
        {
            "camera": batch["camera"][[1, 1]],
            "mission": [batch["mission"][1]] * 2,
            "body": tuple(part[[1, 1]] for part in batch["body"]),
        },
        "greedy",
        state=bytes(piece) + together.state[:piece],  # a new batch of rows; the first row starts an episode
    ).distribution["probabilities"]
    np.testing.assert_allclose(next_alone, next_together[1], atol=1e-6)
    assert np.abs(next_together[0] - next_together[1]).max() > 1e-4


@pytest.mark.parametrize("mode", ["sample", "greedy"])
def test_no_forbidden_action_is_ever_taken(connect: Callable[..., PolicyClient], mode: Any) -> None:
    client, generator = connect("masked"), np.random.default_rng(0)
    mask = np.concatenate([masks(500, 3), masks(500, 2, 1)], axis=1)
    answer = client.act(
        generator.normal(0, 3, (500, 4)), mode, outputs=("greedy_action", "log_prob", "entropy"), action_mask=mask
    )
    assert answer.greedy_action is not None
    for action in (answer.action, answer.greedy_action):
        assert mask[np.arange(500), action[:, 0]].all()
        assert mask[np.arange(500), 3 + action[:, 1] - 7].all()
    assert np.isfinite(answer.log_prob).all()
    assert np.isfinite(answer.entropy).all()


def test_everything_is_allowed_without_a_mask(connect: Callable[..., PolicyClient]) -> None:
    observations = np.random.default_rng(0).normal(size=(3, 4))
    given = connect("masked").act(observations, seed=1, action_mask=np.ones((3, 5), np.int8))
    without = connect("masked").act(observations, seed=1)
    np.testing.assert_array_equal(given.distribution["probabilities"], without.distribution["probabilities"])
    assert (without.distribution["probabilities"] > 0).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 5), bool), "at least one allowed"),
        (np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]), "for component 1"),
        (np.ones((2, 4), bool), r"shape \[2, 5\]"),
        (np.ones(5, bool), r"shape \[2, 5\]"),
        (np.full((2, 5), 2), "zeros and ones"),
    ],
)
def test_a_wrong_mask_is_refused(connect: Callable[..., PolicyClient], mask: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        connect("masked").act(np.zeros((2, 4)), action_mask=mask)
    assert caught.value.field == "action_mask"


def test_masks_and_states_are_refused_by_policies_without_them(connect: Callable[..., PolicyClient]) -> None:
    with pytest.raises(InvalidRequestError, match="takes no mask"):
        connect("lstm").act(np.zeros((2, 4)), action_mask=np.ones((2, 3), bool))
    with pytest.raises(InvalidRequestError, match="no memory"):
        connect("masked").act(np.zeros((2, 4)), state=b"x")


def test_states_that_the_server_did_not_issue_are_refused(connect: Callable[..., PolicyClient]) -> None:
    newest, older = connect("lstm"), connect("lstm", version=1)
    observations = np.random.default_rng(0).normal(size=(2, 4))
    state = newest.act(observations).state
    forged = bytearray(state)
    forged[-1] ^= 1
    untagged = bytes(16) + state[16:]  # the tag is the first 16 bytes of a row's piece
    others = (older.act(observations).state, state[:-1], state + state, b"\1" * len(state), b"x")
    for bad in (bytes(forged), untagged, *others):
        with pytest.raises(InvalidRequestError) as caught:
            newest.act(observations, state=bad)
        assert caught.value.field == "state"
    newest.act(observations, state=state)
    swapped = state[len(state) // 2 :] + state[: len(state) // 2]
    newest.act(observations, state=swapped)  # a client may reorder rows


def test_every_server_with_the_same_files_accepts_a_state(
    root: Path, connect: Callable[..., PolicyClient], tmp_path: Path
) -> None:
    observations = np.random.default_rng(0).normal(size=(2, 4))
    client = connect("lstm")
    state = client.act(observations, "greedy").state
    expected = client.act(observations, "greedy", state=state)
    with running(root, tmp_path) as other, PolicyClient(other.target, "lstm") as elsewhere:
        answer = elsewhere.act(observations, "greedy", state=state)
    np.testing.assert_array_equal(answer.distribution["probabilities"], expected.distribution["probabilities"])
    assert answer.state == expected.state


def test_a_session_remembers_its_episodes(root: Path, connect: Callable[..., PolicyClient]) -> None:
    spec, engine = local(root, "rich")
    state = np.zeros((2, 6), np.float32)
    over = np.array([True, True])
    generator = np.random.default_rng(5)
    drawn = noise.seeded(9)
    with connect("rich").play(seed=9, outputs=("distribution",)) as session:
        for t in range(12):
            observation, mask = rich(2, t), masks(2, 5, t)
            ended = generator.random(2) < 0.3
            previous = () if t == 0 else (np.ones(2), ended, np.zeros(2, bool))
            action = session.step(observation, *previous, action_mask=mask)
            batch, _ = spec.observation_space.batched(observation)
            # An episode starts with the message after the one that reports the end of the last one.
            expected = engine.act(
                {
                    "observation": spec.layout.pack(batch, mask),
                    "noise": noise.draw(drawn, spec, 2),
                    "state": np.where(over[:, np.newaxis], np.float32(0), state),
                }
            )
            np.testing.assert_array_equal(action, expected["action"])
            assert session.answer is not None
            np.testing.assert_allclose(
                session.answer.distribution["probabilities"], expected["probabilities"], atol=1e-6
            )
            assert session.answer.state == b""
            state = expected["next_state"]
            over = ended & ~over if t else np.zeros(2, bool)


def test_a_remote_actor_keeps_its_memory_like_a_local_one(root: Path, connect: Callable[..., PolicyClient]) -> None:
    spec, engine = local(root, "lstm")
    beside, behind = EngineActor(spec, engine, "greedy"), RemoteActor(connect("lstm"), "greedy")
    generator = np.random.default_rng(6)
    starts = generator.random((8, 3)) < 0.3
    starts[0], starts[1] = True, [True, False, False]
    remembered: list[NDArray[Any]] = []
    sealed: list[NDArray[Any]] = []
    for t in range(8):
        observation, drawn = generator.normal(size=(3, 4)).astype(np.float32), np.zeros((3, 1), np.float32)
        for actor, states in ((beside, remembered), (behind, sealed)):
            state = start_over(states[-1], starts[t]) if states else None
            after = actor.act(observation, drawn, state)[-1]
            assert after is not None
            states.append(after)
        np.testing.assert_allclose(behind.answer["probabilities"], beside.answer["probabilities"], atol=1e-6)


def test_episode_start_resets_the_memory_of_its_rows(connect: Callable[..., PolicyClient]) -> None:
    observations = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    with connect("lstm").play("greedy", outputs=("distribution",)) as session:

        def probabilities(*previous: Any, **options: Any) -> NDArray[Any]:
            session.step(observations, *previous, **options)
            assert session.answer is not None
            return session.answer.distribution["probabilities"]

        first = probabilities()
        none = np.zeros(3, bool)
        second = probabilities(np.zeros(3), none, none)
        assert np.abs(second - first).max(axis=1).min() > 1e-4
        third = probabilities(np.zeros(3), none, none, episode_start=np.array([True, False, False]))
        np.testing.assert_allclose(third[0], first[0], atol=1e-6)
        assert np.abs(third[1:] - first[1:]).max(axis=1).min() > 1e-4


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"camera": np.zeros((2, 6, 5, 2), np.uint8)}, "observation.camera"),
        ({"mission": ["go"]}, "observation.mission"),
        ({"mission": ["go", "x" * 41]}, "observation.mission"),
        ({"body": (np.array([0, 1]), np.zeros((2, 2)))}, "observation.body.0"),
        ({"body": (np.array([1, 1]), np.full((2, 2), np.nan))}, "observation.body.1"),
        ({"body": (np.array([1, 1]),)}, "observation.body.1"),
        ({"body": 1}, "observation.body"),
        ({"surplus": 1}, "observation.surplus"),
    ],
)
def test_an_error_names_the_wrong_part(
    connect: Callable[..., PolicyClient], change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        connect("rich").act({**rich(2), **change})
    assert caught.value.field == field


def test_a_saved_model_has_an_input_for_every_part(root: Path) -> None:
    import tensorflow as tf

    spec, engine = local(root, "rich")
    loaded = tf.saved_model.load(str(bundle.find(root / "rich")))
    batch, _ = spec.observation_space.batched(rich(3))
    mask = masks(3, 5)
    rows = spec.layout.pack(batch, mask)
    state = np.random.default_rng(0).uniform(-1, 1, (3, 6)).astype(np.float32)
    answer = loaded.signatures["serving_default"](
        seed=tf.constant(7, tf.int64),
        observation_camera=batch["camera"],
        observation_mission=tf.constant(rows[:, 90:95], tf.int64),
        observation_body_0=batch["body"]["0"],
        observation_body_1=batch["body"]["1"].astype(np.float32),
        action_mask=mask,
        state=state,
    )
    expected = engine.act({"observation": rows, "noise": np.zeros((3, 1), np.float32), "state": state})
    for name in ("probabilities", "greedy_action", "next_state"):
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-5)
