"""The conformance program of the Python client. ``conformance/README.md`` specifies it."""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.client import PolicyClient, Tls
from pgkeras.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    PolicyNotFoundError,
    PolicyServiceError,
    ServerBusyError,
    ServerUnavailableError,
    UnauthenticatedError,
)
from pgkeras.protocol.values import flattened, taken
from pgkeras.spaces import Box, Discrete

ROW = np.array([0.0, 0.1, 0.0, -0.1], np.float32)


class Skip(Exception):  # noqa: N818
    """Raised by a scenario that cannot be run. The message says why."""


class Scenarios:
    """The scenarios of ``conformance/scenarios.md``, one method each.

    Args:
        options: The program's flags.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.vectors = json.loads(Path(options.vectors).read_text(encoding="utf-8"))
        self.client = PolicyClient(options.target, "cartpole-v1")

    def describe(self) -> None:
        info, expected = self.client.describe(), self.vectors["policy"]
        spec = info.spec
        assert isinstance(spec.observation_space, Box)
        assert isinstance(spec.action_space, Discrete)
        got = {
            "name": info.name,
            "version": info.version,
            "spec_hash": info.spec_hash,
            "observation_shape": list(spec.observation_space.shape),
            "observation_dtype": spec.observation_space.dtype.name,
            "actions": spec.action_space.n,
            "distribution": spec.distribution.value,
        }
        check(got == expected, f"{got}, not {expected}")
        limits = info.limits
        check(limits is not None and limits.max_batch_size > 0, "no max_batch_size")
        check(limits is not None and limits.max_receive_message_bytes > 0, "no max_receive_message_bytes")
        check(limits is not None and limits.max_send_message_bytes > 0, "no max_send_message_bytes")
        check(info.name in [policy.name for policy in self.client.policies()], "not in the list of policies")

    def single(self) -> None:
        answer = self.client.act(ROW, "greedy")
        shapes = [np.shape(array) for array in (answer.action, answer.log_prob, answer.entropy)]
        check(shapes == [(), (), ()], f"shapes {shapes}")
        probabilities = answer.distribution["probabilities"]
        check(probabilities.shape == (2,), f"probabilities of shape {probabilities.shape}")
        close(probabilities.sum(), 1.0)
        check((answer.policy, answer.version) == ("cartpole-v1", 1), f"{answer.policy} {answer.version}")

    def batch(self) -> None:
        rows = (np.arange(256, dtype=np.float32).reshape(64, 4) - 128) / 256
        answer = self.client.act(rows, "greedy")
        check(answer.action.shape == (64,), f"actions of shape {answer.action.shape}")
        check(answer.distribution["probabilities"].shape == (64, 2), "wrong shape of probabilities")
        assert answer.log_prob is not None
        for i in (0, 31, 63):
            alone = self.client.act(rows[i], "greedy")
            check(alone.action == answer.action[i], f"row {i}: {answer.action[i]}, alone {alone.action}")
            close(answer.log_prob[i], alone.log_prob)

    def seeded_calls(self) -> None:
        for vector in self.vectors["calls"]:
            seed = None if vector["seed"] is None else int(vector["seed"])
            for _ in range(2):
                answer = self.client.act(read(vector["observation"]), vector["mode"], seed)
                check(answer.action.tolist() == vector["action"], f"{vector['name']}: {answer.action.tolist()}")
                close(answer.log_prob, vector["log_prob"])
                close(answer.entropy, vector["entropy"])
                close(answer.distribution["probabilities"], vector["probabilities"])

    def seeded_sessions(self) -> None:
        for vector in self.vectors["sessions"]:
            with self.client.play(seed=int(vector["seed"])) as session:
                for i, step in enumerate(vector["steps"]):
                    outcome = [step[name] for name in ("reward", "terminated", "truncated") if name in step]
                    action = session.step(read(step["observation"]), *outcome)
                    check(action.tolist() == step["action"], f"{vector['name']}: step {i}: {action.tolist()}")

    def session_goes_on(self) -> None:
        with self.client.play("greedy") as session:
            session.step(ROW)
            error = failure(InvalidRequestError, lambda: session.step(ROW[:3], 1.0, False, False))
            check(error.field == "observation", f"field {error.field}")
            check(not session.is_over, "the session is over")
            check(session.step(ROW, 1.0, False, False).shape == (), "no response after the error")

    def unknown_policy(self) -> None:
        with PolicyClient(self.options.target, "no-such-policy") as client:
            error = failure(PolicyNotFoundError, lambda: client.act(ROW))
        check("cartpole-v1" in str(error), f"message {error}")

    def bad_shape(self) -> None:
        error = failure(InvalidRequestError, lambda: self.client.act(ROW[:3]))
        check(error.field == "observation" and "[4]" in error.expected, f"{error.field}: {error.expected}")

    def image(self) -> None:
        client = self._fixture("image")
        image = (np.arange(8 * 2**20) % 251).astype(np.uint8).reshape(1024, 2048, 4)
        answer = client.act(image)
        check(answer.action in (0, 1, 2), f"action {answer.action}")
        close(answer.distribution["probabilities"].sum(), 1.0)

    def masks(self) -> None:
        zeros = np.zeros((32, 4), np.float32)
        with self._fixture("masked") as client, client.play(seed=3, outputs=("distribution",)) as session:
            self._masks(lambda mask: client.act(zeros, seed=3, action_mask=mask))

            def step(mask: NDArray[np.bool_]) -> Any:
                ends = np.zeros(32, np.bool_)
                outcome = () if session.answer is None else (np.zeros(32), ends, ends)
                session.step(zeros, *outcome, action_mask=mask)
                return session.answer

            self._masks(step)

    @staticmethod
    def _masks(ask: Callable[[NDArray[np.bool_]], Any]) -> None:
        rows = np.arange(32) % 5
        only = ask(rows[:, np.newaxis] == np.arange(5))
        check((only.action == rows).all(), f"actions {only.action}")
        odd = ask(np.tile(np.arange(5) % 2 == 1, (32, 1)))
        check((odd.action % 2 == 1).all(), f"actions {odd.action}")
        probabilities = odd.distribution["probabilities"]
        check((probabilities[:, ::2] < 1e-6).all(), f"probabilities {probabilities}")
        error = failure(InvalidRequestError, lambda: ask(np.zeros((32, 5), np.bool_)))
        check(error.field == "action_mask", f"field {error.field}")

    def memory(self) -> None:
        ones = np.ones(4, np.float32)
        with self._fixture("memory") as client:
            first = client.act(ones, "greedy")
            second = client.act(ones, "greedy", state=first.state)
            third = client.act(ones, "greedy")
            expected = [answer.distribution["probabilities"] for answer in (first, second, third)]
            check(np.abs(expected[1] - expected[0]).max() > 1e-4, "the state changes nothing")
            close(expected[2], expected[0])
            with client.play("greedy", outputs=("distribution",)) as session:
                for i, probabilities in enumerate(expected):
                    outcome = (1.0, False, False) if i else ()
                    session.step(ones, *outcome, episode_start=i != 1)
                    assert session.answer is not None
                    close(session.answer.distribution["probabilities"], probabilities)

    def structured(self) -> None:
        zeros, rows = np.zeros((32, 4), np.float32), np.arange(32)[:, np.newaxis]
        mask = np.concatenate([rows % 4 == np.arange(4), rows % 3 == np.arange(3)], axis=1)
        outputs: Any = ("log_prob", "entropy", "distribution", "greedy_action")
        with self._fixture("structured") as client:
            self._structured(client.act(zeros, seed=3, action_mask=mask, outputs=outputs))
            with client.play(seed=3, outputs=outputs) as session:
                session.step(zeros, action_mask=mask)
                self._structured(session.answer)
            with client.play(seed=3) as session:
                action = session.step(zeros[0])
                shapes = action["aim"].shape, action["move"].shape
                check(shapes == ((2,), ()), f"shapes {shapes} for a single observation")

    @staticmethod
    def _structured(answer: Any) -> None:
        rows = np.arange(32)
        for action in (answer.action, answer.greedy_action):
            aim, (bits, choice), move = action["aim"], action["hands"], action["move"]
            check(aim.dtype == np.float32 and aim.shape == (32, 2) and (np.abs(aim) <= 1).all(), f"aim {aim}")
            check(bits.dtype == np.int8 and bits.shape == (32, 3) and np.isin(bits, (0, 1)).all(), f"hands.0 {bits}")
            check(choice.dtype == np.int64 and (choice == rows % 4).all(), f"hands.1 {choice}")
            check(move.dtype == np.int64 and (move == rows % 3).all(), f"move {move}")
        found = flattened(answer.distribution)
        names = ["aim.mean", "aim.stddev", "hands.0.probabilities", "hands.1.probabilities", "move.probabilities"]
        check(sorted(found) == names, f"parameters {sorted(found)}")
        close(found["move.probabilities"], rows[:, np.newaxis] % 3 == np.arange(3))

    def structured_observations(self) -> None:
        vector = self.vectors["structured_observations"]
        seed = int(vector["seed"])
        batch = {
            "camera": (np.arange(16 * 48) % 251).astype(np.uint8).reshape(16, 4, 4, 3),
            "hands": ((np.arange(16 * 3) % 2).astype(np.int8).reshape(16, 3), np.arange(16) % 4),
            "position": ((np.arange(16 * 4) % 9 - 4) / 4).astype(np.float32).reshape(16, 4),
        }

        def judge(answer: Any, rows: Any = ...) -> None:
            expected = np.array(vector["action"])[rows]
            check((answer.action == expected).all(), f"actions {answer.action}, not {expected}")
            close(answer.distribution["probabilities"], np.array(vector["probabilities"])[rows])

        with self._fixture("parts") as client:
            judge(client.act(batch, seed=seed))
            self._wrong_parts(client.act, batch)
            with client.play(seed=seed, outputs=("distribution",)) as session:
                session.step(batch)
                judge(session.answer)
            with client.play(seed=seed, outputs=("distribution",)) as alone:
                alone.step(taken(batch, 0))
                judge(alone.answer, 0)
                self._wrong_parts(lambda wrong: alone.step(wrong, 1.0, False, False), taken(batch, 1))
                check(not alone.is_over, "the session is over")
                for row in range(1, 16):
                    alone.step(taken(batch, row), 1.0, False, False)
                    judge(alone.answer, row)

    @staticmethod
    def _wrong_parts(ask: Callable[[Any], Any], observation: dict[str, Any]) -> None:
        error = failure(InvalidRequestError, lambda: ask(observation | {"hands": observation["hands"][:1]}))
        check(error.field == "observation.hands.1", f"field {error.field}")
        error = failure(InvalidRequestError, lambda: ask(observation | {"position": observation["position"][..., :3]}))
        check(error.field == "observation.position" and "[4]" in error.expected, f"{error.field}: {error.expected}")

    def deadline(self) -> None:
        with PolicyClient(self._flag("slow_target"), "cartpole-v1", timeout=20) as client:
            begin = time.monotonic()
            failure(DeadlineExceededError, lambda: client.act(ROW, timeout=0.3))
            check(time.monotonic() - begin < 0.9, "it came too late")
            client.act(ROW)
            with client.play() as session:
                failure(DeadlineExceededError, lambda: session.step(ROW, timeout=0.3))

    def nobody(self) -> None:
        target = self._flag("dead_target")
        with PolicyClient(target, timeout=2) as client:
            begin = time.monotonic()
            error = failure((ServerUnavailableError, DeadlineExceededError), lambda: client.act(ROW))
            check(time.monotonic() - begin < 4, "it came too late")
            check(target in str(error), f"message {error}")

    def busy(self) -> None:
        with PolicyClient(self._flag("busy_target"), "cartpole-v1") as client:
            with client.play() as first:
                first.step(ROW)
                with client.play() as second:
                    error = failure(ServerBusyError, lambda: second.step(ROW))
                    check(second.is_over and not first.is_over, "the second session is not over, or the first one is")
                check(error.retry_after > 0, f"retry after {error.retry_after}")
            for _ in range(10):
                time.sleep(error.retry_after)
                try:
                    with client.play() as third:
                        third.step(ROW)
                    return
                except ServerBusyError as again:
                    error = again
        raise AssertionError("still busy after ten tries")

    def tls_and_token(self) -> None:
        target, token = self._flag("tls_target"), self._flag("token")
        tls = Tls(ca=self._flag("ca"))
        with PolicyClient(target, "cartpole-v1", tls=tls, token=token) as client, client.play() as session:
            client.act(ROW)
            session.step(ROW)
        with PolicyClient(target, "cartpole-v1", tls=tls) as client:
            failure(UnauthenticatedError, lambda: client.act(ROW))
        with PolicyClient(target, "cartpole-v1", token=token) as client:
            failure(PolicyServiceError, lambda: client.act(ROW))

    def restart(self) -> None:
        with self.client.play("greedy") as session:
            self._steps(session)
            print("WAIT restart", flush=True)
            sys.stdin.readline()
            failure(ServerUnavailableError, lambda: self._steps(session))
        self.client.act(ROW, timeout=30)
        with self.client.play("greedy") as session:
            self._steps(session)

    @staticmethod
    def _steps(session: Any) -> None:
        for i in range(10):
            session.step(ROW, *((1.0, False, False) if i or session.answer is not None else ()))

    def _flag(self, name: str) -> str:
        value = getattr(self.options, name)
        if value is None:
            raise Skip(f"no --{name.replace('_', '-')}")
        return str(value)

    def _fixture(self, policy: str) -> PolicyClient:
        client = PolicyClient(self.options.target, policy)
        try:
            client.describe()
        except PolicyNotFoundError:
            raise Skip(f"the server has no policy {policy}") from None
        return client


def check(right: bool, complaint: str) -> None:
    if not right:
        raise AssertionError(complaint)


def close(got: Any, expected: Any) -> None:
    check(np.allclose(got, expected, rtol=1e-5, atol=1e-5), f"{got}, not {expected}")


def failure(kind: Any, call: Callable[[], Any]) -> Any:
    try:
        answer = call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind}, got {answer}")


def read(observation: dict[str, Any]) -> NDArray[np.float32]:
    array = np.frombuffer(base64.b64decode(observation["data"]), "<f4").reshape(observation["shape"])
    check(array.ravel().tolist() == observation["values"], "data and values differ")
    return array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("target", "vectors", "slow-target", "dead-target", "busy-target", "tls-target", "ca", "token", "only"):
        parser.add_argument(f"--{flag}", required=flag in ("target", "vectors"))
    options, _ = parser.parse_known_args()
    scenarios = Scenarios(options)
    failed = False
    for name, scenario in vars(Scenarios).items():
        if name.startswith("_") or options.only not in (None, name):
            continue
        try:
            scenario(scenarios)
            print(f"PASS {name}", flush=True)
        except Skip as reason:
            print(f"SKIP {name}: {reason}", flush=True)
        except (AssertionError, PolicyServiceError) as error:
            failed = True
            print(f"FAIL {name}: {error!r}".replace("\n", " "), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
