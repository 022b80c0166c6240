"""Fairness: slow policies and large backlogs delay only their own callers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pgkeras_serving.settings.config import ServerConfig

from benchmarks.soak.server import serving
from pgkeras.client import PolicyClient
from pgkeras.cores import available
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import service_pb2, service_pb2_grpc
from tests.reliability.conftest import ONE
from tests.serving.conftest import wait_until

BATCH = np.zeros((2048, 4), np.float32)
FLOOD = 10
# Batches that may finish first: one running and one queued per engine, one of the flood's own turn, and one that
# finishes before the count is read.
AHEAD = 2 * min(ServerConfig().max_engines, available()) + 2


@pytest.fixture(scope="module")
def slow(slow_root, tmp_path_factory):
    """A server of a slow and a fast policy."""
    undivided = ("--max-batch-size", str(len(BATCH)))  # each request is a batch of its own
    with serving(slow_root, tmp_path_factory.mktemp("server"), *undivided) as server:
        yield server


def test_a_slow_policy_holds_up_neither_a_fast_one_nor_a_health_check(slow):
    with (
        PolicyClient(slow.target, "slow", timeout=120.0) as busy,
        PolicyClient(slow.target, "fast") as fast,
        grpc.insecure_channel(slow.target) as channel,
        ThreadPoolExecutor(4) as pool,
    ):
        check = health_pb2_grpc.HealthStub(channel).Check
        fast.act(ONE)
        calls = [pool.submit(busy.act, BATCH) for _ in range(4)]
        beside = 0
        with fast.play() as session:
            session.step(ONE)
            while not calls[0].done() and not calls[1].done():
                fast.act(ONE)
                session.step(ONE, 0.0, False, False)
                assert check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
                beside += 1
        assert beside >= 3, "small calls finish while one batch runs"
        assert [call.result().action.shape for call in calls] == [(len(BATCH),)] * 4


def test_one_connections_flood_does_not_make_another_wait_for_all_of_it(slow):
    answered = []
    modest = service_pb2.ActRequest(policy={"name": "slow"})
    modest.observation.tensor.CopyFrom(encode_tensor(ONE))
    with (
        PolicyClient(slow.target, "slow", timeout=120.0) as flooding,
        grpc.insecure_channel(slow.target, [("grpc.use_local_subchannel_pool", 1)]) as another,
        ThreadPoolExecutor(FLOOD) as pool,
    ):
        act = service_pb2_grpc.PolicyServiceStub(another).Act
        act(modest, timeout=120)
        flood = [pool.submit(lambda: answered.append(flooding.act(BATCH).version)) for _ in range(FLOOD)]
        wait_until(lambda: bool(answered))  # the others are queued
        before = len(answered)
        act(modest, timeout=120)
        after = len(answered)
        for call in flood:
            call.result()
    assert after <= before + AHEAD, "the call waits only for batches that are already dispatched"


def test_a_session_does_not_wait_for_all_calls_of_its_own_connection(slow):
    answered = []
    with PolicyClient(slow.target, "slow", timeout=120.0) as client, ThreadPoolExecutor(FLOOD) as pool:
        with client.play() as session:
            session.step(ONE)
            flood = [pool.submit(lambda: answered.append(client.act(BATCH).version)) for _ in range(FLOOD)]
            wait_until(lambda: bool(answered))
            before = len(answered)
            session.step(ONE, 0.0, False, False)
            after = len(answered)
        for call in flood:
            call.result()
    assert after <= before + AHEAD, "the session waits only for batches that are already dispatched"
