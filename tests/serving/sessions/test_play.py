"""Play over a real socket, through PlaySession and as a bare stream."""

from __future__ import annotations

import asyncio
import dataclasses
import queue
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2, error_details_pb2
from pgkeras_serving.policies.store import Store
from pgkeras_serving.server import serving
from pgkeras_serving.sessions.play import Session
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.episodes import EpisodeSummary

from benchmarks.soak.server import SHIPPED
from pgkeras.client import PolicyClient
from pgkeras.engines import noise
from pgkeras.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    PolicyNotFoundError,
    ServerBusyError,
    ServerUnavailableError,
    SpecMismatchError,
)
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import policy_pb2, service_pb2, service_pb2_grpc, spaces_pb2, tensors_pb2
from tests.serving.conftest import DISCRETE_ACTIONS, OBSERVATIONS, running, wait_until

GENERATOR = np.random.default_rng(5)
ROWS = GENERATOR.normal(0, 2, (20, 3, 4)).astype(np.float32)
ZEROS, FALSE = np.zeros(3, np.float32), np.zeros(3, np.bool_)


def play(session, rows=ROWS):
    first, *rest = rows
    return [session.step(first), *(session.step(row, ZEROS, FALSE, FALSE) for row in rest)]


def message(number, observation=ROWS[0], previous=True, **fields):
    outcome = {"reward": ZEROS, "terminated": FALSE, "truncated": FALSE} if previous else {}
    tensors = {name: encode_tensor(np.asarray(array)) for name, array in (outcome | fields).items()}
    value = tensors_pb2.Value(tensor=encode_tensor(observation))
    policy = policy_pb2.PolicyRef(name="discrete")
    return service_pb2.PlayRequest(id=number, policy=policy, observation=value, **tensors)


@pytest.mark.parametrize("policy", ["discrete", "gaussian"])
def test_a_seeded_session_uses_the_noise_of_its_seed_in_order(connect, policy):
    client = connect(policy)
    outputs = ["distribution", "greedy_action", "log_prob", "entropy"]
    generator = noise.seeded(7)
    with client.play(seed=7, outputs=outputs) as session:
        for i, row in enumerate(ROWS):
            action = session.step(row, *(() if i == 0 else (ZEROS, FALSE, FALSE)))
            drawn = noise.draw(generator, client.describe().spec, len(row))
            unary = client.act(row, outputs=outputs)
            for name, array in unary.distribution.items():
                np.testing.assert_allclose(session.answer.distribution[name], array, atol=1e-6)
            if policy == "discrete":
                expected = (np.cumsum(unary.distribution["probabilities"], axis=1) <= drawn).sum(axis=1) + 5
                np.testing.assert_array_equal(action, expected)
            else:
                mean, stddev = unary.distribution["mean"], unary.distribution["stddev"]
                np.testing.assert_allclose(action, mean + stddev * drawn.reshape(mean.shape), atol=1e-5)
            np.testing.assert_allclose(session.answer.greedy_action, unary.greedy_action, atol=1e-6)
            assert session.answer.log_prob.shape == session.answer.entropy.shape == (3,)


def test_equal_seeds_reproduce_a_session_and_unseeded_sessions_differ(connect):
    client = connect()
    runs = []
    for seed in (3, 3, 4, None, None):
        with client.play(seed=seed) as session:
            runs.append(np.concatenate(play(session)).tolist())
    assert runs[0] == runs[1]
    assert len(set(map(tuple, runs))) == 4


def test_a_greedy_session_takes_the_mode_and_returns_only_actions_by_default(connect):
    client = connect()
    with client.play("greedy") as session:
        actions = play(session)
        answer = session.answer
    for row, action in zip(ROWS, actions, strict=True):
        np.testing.assert_array_equal(action, client.act(row, "greedy").action)
    assert (answer.log_prob, answer.entropy, answer.greedy_action, answer.distribution) == (None, None, None, {})
    assert (answer.policy, answer.version) == ("discrete", 2)


@pytest.mark.parametrize("policy", ["discrete", "gaussian"])
def test_a_single_environment_has_no_batch_axis(connect, policy):
    client = connect(policy)
    with client.play(seed=1, outputs=["distribution"]) as one, client.play(seed=1) as batch:
        single = one.step(ROWS[0, 0].tolist())
        np.testing.assert_array_equal(single, batch.step(ROWS[0, :1])[0])
        assert single.shape == client.describe().spec.action_space.shape
        assert single.dtype == client.describe().spec.action_space.dtype
        assert {a.ndim for a in one.answer.distribution.values()} == {single.ndim or 1}
        again = one.step(ROWS[1, 0], 1.5, False, np.bool_(True))
        np.testing.assert_array_equal(again, batch.step(ROWS[1, :1], [1.5], [False], [True])[0])
        one.step(ROWS[2, 0])  # the first observation of the next episode, without an outcome


def test_messages_can_be_pipelined_and_ids_are_echoed(stub):
    requests = [message(7 * i, row, previous=i > 0) for i, row in enumerate(ROWS)]
    for request in requests:
        request.seed = 5
    answers = list(stub.Play(iter(requests), timeout=20))
    assert [answer.id for answer in answers] == [7 * i for i in range(20)]
    assert {field.name for field, _ in answers[0].act.ListFields()} == {"action", "policy"}
    again = list(stub.Play(iter(requests), timeout=20))
    assert again == answers


BAD = {
    "reward at first": (0, message(1), "reward", "nothing in a session's first message"),
    "not all start": (0, message(1, previous=False, episode_start=FALSE), "episode_start", "true everywhere"),
    "no batch axis": (0, message(1, ROWS[0, 0], previous=False), "observation", "a batch, with a leading axis"),
    "nan": (1, message(1, ROWS[0] * np.float32(np.nan)), "observation", "finite"),
    "other size": (1, message(1, ROWS[0, :2]), "observation", "3 observations, as in"),
    "no outcome": (1, message(1, previous=False), "reward", "what the previous actions led to"),
    "no outcome, one starts": (
        1,
        message(1, previous=False, episode_start=np.array([1, 0, 1], bool)),
        "reward",
        "what the previous actions led to",
    ),
    "nan reward": (1, message(1, reward=ZEROS + np.float32(np.nan)), "reward", "finite numbers"),
    "infinite reward": (1, message(1, reward=ZEROS - np.float32(np.inf)), "reward", "finite numbers"),
    "no bool": (
        1,
        message(1, terminated=np.array([0, 2, 0], np.uint8).view(np.bool_)),
        "terminated.data",
        "bytes of 0 or 1 for a bool",
    ),
    "reward dtype": (1, message(1, reward=np.zeros(3)), "reward", "dtype float32"),
    "reward shape": (1, message(1, reward=np.zeros((3, 1), np.float32)), "reward", "shape [3]"),
    "terminated dtype": (1, message(1, terminated=np.zeros(3, np.int64)), "terminated", "dtype bool"),
    "truncated shape": (1, message(1, truncated=FALSE[:2]), "truncated", "shape [3]"),
    "start shape": (1, message(1, episode_start=FALSE[:1]), "episode_start", "shape [3]"),
    "mask": (1, message(1, action_mask=np.ones((3, 3), bool)), "action_mask", "takes no mask"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_refused_with_its_id_and_changes_nothing(stub, name):
    before, bad, field, expected = BAD[name]
    good = [message(i + 10, row, previous=i > 0) for i, row in enumerate(ROWS)]
    for request in [bad, *good]:
        request.seed = 5
    bad.id = 99
    undisturbed = list(stub.Play(iter(good), timeout=20))
    answers = list(stub.Play(iter([*good[:before], bad, *good[before:]]), timeout=20))
    refusal = answers.pop(before)
    assert refusal.id == 99
    assert refusal.error.code == code_pb2.INVALID_ARGUMENT
    assert refusal.error.message.startswith(f"{field}: expected ")
    assert expected in refusal.error.message
    violation = error_details_pb2.BadRequest()
    assert refusal.error.details[0].Unpack(violation)
    assert violation.field_violations[0].field == field
    assert answers == undisturbed


def test_errors_are_typed_and_the_session_continues(connect):
    client = connect()
    with client.play(seed=9) as session:
        expected = play(session)
    with client.play(seed=9) as session:
        with pytest.raises(InvalidRequestError, match="reward: expected nothing"):
            session.step(ROWS[0], ZEROS, FALSE, FALSE)
        actions = [session.step(ROWS[0])]
        for row in ROWS[1:]:
            for arguments, field in (
                ((row,), "reward"),
                ((row[:2], ZEROS[:2], FALSE[:2], FALSE[:2]), "observation"),
                ((row, ["a"], FALSE, FALSE), "reward"),
                ((row, ZEROS, [1, 0, 1], FALSE), "terminated"),
                ((row, [[1.0], [2.0, 3.0]], FALSE, FALSE), "reward"),
                ((row, [1e39, 0, 0], FALSE, FALSE), "reward"),
            ):
                with pytest.raises(InvalidRequestError) as caught:
                    session.step(*arguments)
                assert caught.value.field == field
            actions.append(session.step(row, ZEROS, FALSE, FALSE))
    np.testing.assert_array_equal(actions, expected)


def test_rewards_whose_squares_overflow_are_accepted(stub):
    requests = [message(0, previous=False), message(1, reward=ZEROS + np.float32(3e38))]
    assert [answer.WhichOneof("result") for answer in stub.Play(iter(requests), timeout=20)] == ["act", "act"]


def test_an_invalid_policy_mode_seed_or_spec_ends_the_session(connect):
    for policy, version in (("nobody", None), ("discrete", 9)):
        with pytest.raises(PolicyNotFoundError, match="there is: discrete"):
            connect(policy, version=version).play()
    client = connect()
    with pytest.raises(InvalidRequestError, match="mode: expected one of sample, greedy"):
        client.play("best")
    with pytest.raises(InvalidRequestError, match="seed"):
        client.play(seed=-1)
    other = connect("gaussian")
    other._info = client.describe()  # a description that no longer matches the policy
    session = other.play()
    for _ in range(2):
        with pytest.raises(SpecMismatchError, match="describe the policy again"):
            session.step(ROWS[0])


def test_a_closed_session_and_a_closed_client_raise(connect):
    client = connect()
    session = client.play()
    session.step(ROWS[0])
    session.close()
    session.close()
    with pytest.raises(ServerUnavailableError, match="has been closed"):
        session.step(ROWS[0])
    open_session = client.play()
    open_session.step(ROWS[0])
    client.close()
    with pytest.raises(ServerUnavailableError):
        open_session.step(ROWS[0], ZEROS, FALSE, FALSE)
    with pytest.raises(ServerUnavailableError, match="has been closed"):
        client.play()


def test_closing_ends_a_session_whose_server_does_not_respond():
    cut = threading.Event()

    class Silent(service_pb2_grpc.PolicyServiceServicer):
        def Play(self, request_iterator, context):
            context.add_callback(cut.set)
            cut.wait(30)
            return iter(())

    server = grpc.server(ThreadPoolExecutor(1))
    service_pb2_grpc.add_PolicyServiceServicer_to_server(Silent(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    before = threading.active_count()
    try:
        with PolicyClient(f"127.0.0.1:{port}") as client:
            session = client.play(observation_space=OBSERVATIONS, action_space=DISCRETE_ACTIONS)
            with pytest.raises(DeadlineExceededError):
                session.step(ROWS[0], timeout=0.1)
            session.close()
            assert cut.wait(5)
            wait_until(lambda: threading.active_count() <= before + 1)  # gRPC keeps one thread
    finally:
        server.stop(0).wait()


def test_sessions_leak_no_threads(connect):
    client = connect()
    before = threading.active_count()
    for _ in range(5):
        with client.play() as session:
            session.step(ROWS[0])
    wait_until(lambda: threading.active_count() <= before + 1)


def test_concurrent_sessions_do_not_mix(connect):
    client = connect()
    alone = []
    for seed in range(16):
        with client.play(seed=seed) as session:
            alone.append(np.concatenate(play(session)).tolist())
    together = {}

    def one(seed):
        with client.play(seed=seed) as session:
            together[seed] = np.concatenate(play(session)).tolist()

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [together[seed] for seed in range(16)] == alone


def test_an_idle_session_expires_and_a_busy_one_does_not(policies, tmp_path):
    with (
        running(policies, tmp_path, "--session-idle-seconds", "0.5") as server,
        PolicyClient(server.target, "discrete") as client,
    ):
        idle, busy = client.play(), client.play()
        idle.step(ROWS[0])
        busy.step(ROWS[0])
        stop = threading.Event()
        for _ in range(15):
            stop.wait(0.1)
            busy.step(ROWS[0], ZEROS, FALSE, FALSE)
        for _ in range(2):
            with pytest.raises(DeadlineExceededError, match=r"nothing was sent or received for 0\.5 s"):
                idle.step(ROWS[0], ZEROS, FALSE, FALSE)
        never_sent = client._stub.Play(iter(queue.Queue().get, None))
        with pytest.raises(grpc.RpcError) as caught:
            next(never_sent)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert server.stop() == 0


def test_sessions_are_limited_and_a_closed_one_frees_its_slot(policies, tmp_path):
    with (
        running(policies, tmp_path, "--max-sessions", "2") as server,
        PolicyClient(server.target, "discrete") as client,
    ):
        sessions = [client.play(), client.play()]
        for session in sessions:
            session.step(ROWS[0])
        with pytest.raises(ServerBusyError, match="2 sessions are open") as caught:
            client.play().step(ROWS[0])
        assert caught.value.retry_after > 0
        assert client.act(ROWS[0]).action.shape == (3,)
        sessions[0].close()
        wait_until(lambda: steps(client))


def test_is_over_is_right_after_each_kind_of_error(policies, tmp_path):
    with (
        running(policies, tmp_path, "--session-idle-seconds", "0.8", "--max-sessions", "1") as server,
        PolicyClient(server.target, "discrete") as client,
    ):
        first, second = client.play(), client.play()
        first.step(ROWS[0])
        with pytest.raises(ServerBusyError):
            second.step(ROWS[0])
        assert second.is_over
        with pytest.raises(InvalidRequestError):
            first.step(ROWS[0][:, :3], ZEROS, FALSE, FALSE)
        with pytest.raises(DeadlineExceededError, match="no answer"):
            first.step(ROWS[0], ZEROS, FALSE, FALSE, timeout=0)
        assert not first.is_over
        time.sleep(1.2)  # it expires within 1.25 times the limit
        with pytest.raises(DeadlineExceededError, match="nothing was sent or received"):
            first.step(ROWS[0], ZEROS, FALSE, FALSE)
        assert first.is_over
        closed = client.play()
        assert not closed.is_over
        closed.close()
        assert closed.is_over


@pytest.fixture
def shipped():
    """The shipped policy, loaded in this process."""
    store = Store(ServerConfig(SHIPPED))
    store.load()
    yield store.policies()[0]
    store.close()


def first_message(rows):
    return message(1, rows, previous=False).SerializeToString()


def test_a_refused_first_message_leaves_the_session_unopened(shipped):
    class Busy:
        async def submit(self, *arguments):
            self.submit = shipped.batcher.submit
            raise ServerBusyError("all workers are busy", 1.0)

    async def main():
        session = Session(dataclasses.replace(shipped, batcher=Busy()), seed=3)
        later = message(2, ROWS[2][:2], reward=ZEROS[:2], terminated=FALSE[:2], truncated=FALSE[:2])
        asked = [first_message(ROWS[0]), first_message(ROWS[1][:2]), later.SerializeToString()]
        answers = [await session.answer(each) for each in asked]
        undisturbed = Session(shipped, seed=3)
        return answers, [await undisturbed.answer(each) for each in asked[1:]]

    (refusal, *answers), expected = asyncio.run(main())
    assert refusal[1] == code_pb2.RESOURCE_EXHAUSTED
    assert {code for _, code in answers} == {code_pb2.OK}
    assert answers == expected, "the same as in a session without the refusal"


def test_an_internal_error_is_logged_and_reported_without_its_reason(shipped, caplog):
    class Defect:
        async def submit(self, *arguments):
            raise ZeroDivisionError("a secret")

    session = Session(dataclasses.replace(shipped, batcher=Defect()), seed=3)
    answer, code = asyncio.run(session.answer(first_message(ROWS[0])))
    error = service_pb2.PlayResponse.FromString(answer).error
    assert code == error.code == code_pb2.INTERNAL
    assert error.message == "this message failed; the server's log has the reason"
    assert "ZeroDivisionError: a secret" in caplog.text


def test_an_idle_session_with_memory_does_not_keep_its_batch_alive(shipped):
    batches = []

    class Joining:
        """Returns a slice of a large batch, as if many requests had been joined."""

        async def submit(self, inputs, *_):
            batch = np.ones((500, 4), np.float32)
            batches.append(weakref.ref(batch))
            return {"action": np.zeros(3, np.int32), "entropy": np.zeros(3, np.float32), "next_state": batch[7:10]}

    async def main():
        spec = dataclasses.replace(shipped.spec, state_size=4)
        session = Session(dataclasses.replace(shipped, spec=spec, batcher=Joining()), seed=3)
        _, code = await session.answer(first_message(ROWS[0]))
        return code, session

    code, session = asyncio.run(main())
    assert code == code_pb2.OK
    assert [batch() for batch in batches] == [None], "the session keeps a copy of its own rows"
    assert session.version == ("cartpole-v1", 1)


def steps(client):
    with client.play() as session:
        try:
            session.step(ROWS[0])
        except ServerBusyError:
            return False
        return True


def test_draining_tells_sessions_to_connect_again(policies, tmp_path):
    with running(policies, tmp_path, "--drain-seconds", "60") as server:
        with PolicyClient(server.target, "discrete") as client:
            sessions = [client.play() for _ in range(5)]
            for session in sessions:
                session.step(ROWS[0])
            assert server.stop() == 0
            for session in sessions:
                with pytest.raises(ServerUnavailableError, match="connect again and open a new one"):
                    session.step(ROWS[0], ZEROS, FALSE, FALSE)
        assert "Traceback" not in server.said()


def test_draining_answers_a_sessions_message_in_flight(slow_policy, tmp_path):
    batch = np.zeros((4096, 4), np.float32)
    with (
        running(slow_policy, tmp_path, "--drain-seconds", "60") as server,
        PolicyClient(server.target, timeout=60) as client,
    ):
        client.describe()
        answers = []
        stepping = threading.Thread(target=lambda: answers.append(session.step(batch)))
        with client.play() as session:
            stepping.start()
            with pytest.raises(DeadlineExceededError):  # the engine is busy, so the session's message has arrived
                client.act(batch, timeout=0.05)
            assert server.stop() == 0
            stepping.join(30)
            assert answers[0].shape == (4096,)
            with pytest.raises(ServerUnavailableError, match="connect again"):
                session.step(batch, np.zeros(4096), np.zeros(4096, bool), np.zeros(4096, bool))


def test_a_late_response_fails_only_its_own_step(slow_policy, tmp_path):
    batch = np.random.default_rng(0).normal(size=(2, 4096, 4)).astype(np.float32)
    with running(slow_policy, tmp_path) as server, PolicyClient(server.target, timeout=60) as client:
        expected = [client.act(rows, "greedy", timeout=60).action for rows in batch]
        with client.play("greedy") as session:
            with pytest.raises(DeadlineExceededError, match=r"within 0\.01 s"):
                session.step(batch[0], timeout=0.01)
            action = session.step(batch[1], np.zeros(4096), np.zeros(4096, bool), np.zeros(4096, bool))
            np.testing.assert_array_equal(action, expected[1])


def test_a_killed_server_is_unavailable(policies, tmp_path):
    with running(policies, tmp_path) as server, PolicyClient(server.target, "discrete") as client:
        session = client.play()
        session.step(ROWS[0])
        server.process.kill()
        server.process.wait()
        for _ in range(2):
            with pytest.raises(ServerUnavailableError):
                session.step(ROWS[0], ZEROS, FALSE, FALSE)


def test_returns_are_recorded_per_version(policies):
    async def main():
        async with (
            serving(ServerConfig(policies, port=0)) as server,
            grpc.aio.insecure_channel(server.target) as channel,
        ):
            play = service_pb2_grpc.PolicyServiceStub(channel).Play
            for version, reward in ((1, 2.0), (2, 5.0)):
                requests = [message(i, row, previous=i > 0) for i, row in enumerate(ROWS[:4])]
                requests[0].policy.version = version
                for request in requests[1:]:
                    request.reward.CopyFrom(encode_tensor(ZEROS + np.float32(reward)))
                requests[3].truncated.CopyFrom(encode_tensor(np.array([True, True, False])))
                answers = [answer async for answer in play(iter(requests), timeout=20)]
                assert {answer.act.policy.version for answer in answers} == {version}
            served = [policy for policy in server.store.policies() if policy.version.name == "discrete"]
            return {policy.version.version: policy.episodes.summary() for policy in served}

    assert asyncio.run(main()) == {1: EpisodeSummary(2, 6.0, 3.0), 2: EpisodeSummary(2, 15.0, 3.0)}


def test_sessions_still_expire_after_a_time_without_any(policies, tmp_path):
    options = ("--session-idle-seconds", "0.3")
    with running(policies, tmp_path, *options) as server, PolicyClient(server.target, "discrete") as client:
        with client.play() as session:
            session.step(ROWS[0])
        time.sleep(0.3)
        idle = client.play()
        idle.step(ROWS[0])
        time.sleep(0.6)
        with pytest.raises(DeadlineExceededError, match="nothing was sent or received"):
            idle.step(ROWS[0], ZEROS, FALSE, FALSE)


def test_the_size_of_declared_spaces_is_checked_before_they_are_built(server):
    huge = spaces_pb2.Space(box=spaces_pb2.BoxSpace(dtype=9, shape=[2**26], low=[0], high=[1]))
    request = service_pb2.PlayRequest(policy={"name": "discrete"}, simulator={"observation_space": huge})
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError) as caught:
        list(service_pb2_grpc.PolicyServiceStub(channel).Play(iter([request]), timeout=60))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "got one of 67108864 numbers" in caught.value.details()
