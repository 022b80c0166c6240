"""Worker processes on one port: they share calls, switch versions together and are replaced when they end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.episodes import EpisodeLog
from pgkeras_serving.telemetry.metrics import Meter
from pgkeras_serving.telemetry.snapshot import Snapshot, VersionSnapshot, merged
from pgkeras_serving.workers.agreement import Agreement
from pgkeras_serving.workers.channel import WorkerLostError
from pgkeras_serving.workers.commands import Report
from pgkeras_serving.workers.process import WorkerProcess
from pgkeras_serving.workers.supervisor import Supervisor

from benchmarks.soak.server import SHIPPED, publish
from pgkeras.bundle import bundle as bundles
from pgkeras.bundle.labels import change_labels
from pgkeras.client import PolicyClient
from pgkeras.errors import ConfigError, ServerUnavailableError
from pgkeras.v1 import policy_pb2, service_pb2
from tests.serving.conftest import DISCRETE_ACTIONS, export, run_cli, running, wait_until
from tests.serving.telemetry.test_metrics import DISCRETE, GAUSSIAN, page_of, samples
from tests.serving.test_draining import _ACT, _RETRY, request

_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def workers_of(server):
    """The process IDs of a server's workers."""
    found = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


def lines_of(server):
    """The JSON lines of a server's log, without the lines that LiteRT writes."""
    return [json.loads(line) for line in server.said().splitlines() if line.startswith("{")]


def figure(page, name, **labels):
    return samples(page).get((f"pgkeras_{name}", *sorted(labels.items())), 0.0)


@pytest.fixture
def root(policies, tmp_path):
    shutil.copytree(policies, tmp_path / "models")
    return tmp_path / "models"


def test_workers_share_connections_and_count_together(root, tmp_path):
    with running(root, tmp_path, "--workers", "2", "--http-port", "0", "--log-access") as server:
        assert server.ready.endswith("by 2 workers")
        page = page_of(server)
        for _ in range(40):
            with PolicyClient(server.target, "discrete") as client:
                client.act(np.zeros(4, np.float32))
        wait_until(lambda: figure(page, "requests_total", method="Act", code="OK") == 40)
        assert figure(page, "observations_total", policy="discrete", version="2") == 40
        assert figure(page, "workers") == 2
        # If each connection goes to either worker with equal probability, one of them gets none with probability 2e-12.
        answered = Counter(line["worker"] for line in lines_of(server) if line.get("method") == "Act")
        assert set(answered) == {1, 2}
        assert answered.total() == 40
        with PolicyClient(server.target, "discrete") as client, client.play() as session:
            session.step(np.zeros((2, 4), np.float32))
            wait_until(lambda: figure(page, "sessions") == 1)
        assert server.stop() == 0
        assert workers_of(server) == []


async def _load(target, over, seen, connections=6):
    """Repeats calls on several connections, with retries; appends (start, end, version or error) to ``seen``."""

    async def call(channel):
        act = channel.unary_unary(_ACT, response_deserializer=service_pb2.ActResponse.FromString)
        while not over.is_set():
            began = time.monotonic()
            try:
                response = await act(request(), timeout=20)
                seen.append((began, time.monotonic(), response.policy.version))
            except grpc.aio.AioRpcError as error:
                seen.append((began, time.monotonic(), f"{error.code().name}: {error.details()}"))

    # The connections of a killed worker are reset. By default gRPC waits for 1 s before it reconnects, which is longer
    # than it retries a call.
    soon = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]
    options = [("grpc.service_config", json.dumps(_RETRY)), *soon, *_OWN_CONNECTION]
    channels = [grpc.aio.insecure_channel(target, options) for _ in range(connections)]
    await asyncio.gather(*(call(channel) for channel in channels))
    await asyncio.gather(*(channel.close() for channel in channels))


def under_load(target, act):
    """Runs ``act`` under load; returns each call's start, end, and version or error."""
    seen: list[tuple[float, float, object]] = []

    async def main():
        over = asyncio.Event()
        load = asyncio.create_task(_load(target, over, seen))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(act)
        await asyncio.sleep(0.3)
        over.set()
        await load

    asyncio.run(main())
    return seen


def test_a_killed_worker_fails_no_call_that_is_retried(root, tmp_path):
    with running(root, tmp_path, "--workers", "2", "--http-port", "0") as server:
        page = page_of(server)
        counts = []

        def kill():
            for restarts in (1, 2):
                victim = workers_of(server)[0]
                before = figure(page, "requests_total", method="Act", code="OK")
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda n=restarts: figure(page, "worker_restarts_total") == n)
                wait_until(lambda: figure(page, "workers") == 2)
                counts.extend([before, figure(page, "requests_total", method="Act", code="OK")])

        seen = under_load(server.target, kill)
        assert {what for *_, what in seen} == {2}, Counter(what for *_, what in seen)
        assert counts == sorted(counts), "no counter decreases"
        assert "ended by signal SIGKILL and is restarted" in server.said()


def test_no_call_gets_an_older_version_than_one_already_seen(root, tmp_path):
    with running(root, tmp_path, "--workers", "2", "--poll-seconds", "0.05") as server:

        def publish():
            for seed in (5, 6):
                path = export(root.parent / "new", "discrete", DISCRETE_ACTIONS, seed=seed)
                number = max(bundles.versions(root / "discrete")) + 1
                shutil.copytree(path, root.parent / f"whole-{number}")
                (root.parent / f"whole-{number}").rename(root / "discrete" / str(number))
                time.sleep(0.4)

        seen = under_load(server.target, publish)
    versions = Counter(version for *_, version in seen)
    assert set(versions) == {2, 3, 4}, versions
    finished = sorted((ended, version) for _, ended, version in seen)
    newest = position = 0
    for began, _, version in sorted(seen):
        while finished[position][0] <= began:
            newest = max(newest, finished[position][1])
            position += 1
        assert version >= newest


def test_a_new_worker_that_finds_fewer_versions_takes_calls_and_is_reported(root, tmp_path):
    change_labels(root / "discrete", {"stable": 1})
    options = ("--workers", "2", "--poll-seconds", "0.05", "--http-port", "0")
    with running(root, tmp_path, *options) as server:
        page = page_of(server)
        # The old worker keeps serving version 2 and the label. The new one cannot load them.
        (root / "discrete" / "2" / bundles.MANIFEST).write_text("{")
        (root / "discrete" / "labels.json").write_text('{"stable": 9}')
        os.kill(workers_of(server)[0], signal.SIGKILL)
        wait_until(lambda: figure(page, "worker_restarts_total") == 1)
        wait_until(lambda: figure(page, "workers") == 2)
        publish(root / "discrete", 3, root / "discrete" / "1")

        def versions():
            found = set()
            for _ in range(8):
                with PolicyClient(server.target, "discrete") as client:
                    found.add(client.act(np.zeros(4, np.float32)).version)
            return found

        wait_until(lambda: 3 in versions())
        assert versions() == {3}
        told = [line["message"] for line in lines_of(server) if "workers differ" in line["message"]]
        (message,) = told
        assert "has discrete/2, label stable of discrete on 1" in message
        assert "has nothing else" in message


def test_workers_switch_despite_a_difference_that_persists():
    same, more = {("p", 1): "p/1"}, {("p", 1): "p/1", ("p", 2): "p/2"}
    agreement = Agreement()
    assert agreement.reached({1: same, 2: same})
    assert agreement.difference == ""
    for found in ({1: more, 2: same}, {1: same, 2: more}, {1: more, 2: same}):  # the directory keeps changing
        assert not agreement.reached(found)
    assert not agreement.reached({1: more, 2: same})
    assert agreement.reached({1: more, 2: same})
    assert agreement.difference == "worker 1 has p/2; worker 2 has nothing else"
    assert agreement.reached({1: more, 2: more})
    assert agreement.difference == ""


def test_labels_move_in_all_workers_together(root, tmp_path):
    change_labels(root / "discrete", {"stable": 1})
    with running(root, tmp_path, "--workers", "2", "--poll-seconds", "0.05") as server:

        def versions():
            found = set()
            for _ in range(8):
                with PolicyClient(server.target, "discrete", label="stable") as client:
                    found.add(client.act(np.zeros(4, np.float32)).version)
            return found

        assert versions() == {1}
        change_labels(root / "discrete", {"stable": 2})
        wait_until(lambda: 2 in versions())
        assert versions() == {2}


def test_workers_end_with_their_supervisor(root, tmp_path):
    with running(root, tmp_path, "--workers", "2") as server:
        workers = workers_of(server)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))


def test_workers_share_a_unix_domain_socket(root, tmp_path):
    path = tmp_path / "policies.sock"
    with running(root, tmp_path, "--workers", "2", "--listen", f"unix:{path}", "--socket-mode", "660") as server:
        assert path.stat().st_mode & 0o777 == 0o660
        for _ in range(6):
            with PolicyClient(f"unix:{path}", "discrete") as client:
                client.act(np.zeros(4, np.float32))
                with client.play() as session:
                    session.step(np.zeros((2, 4), np.float32))
        os.kill(workers_of(server)[0], signal.SIGKILL)
        with PolicyClient(f"unix:{path}", "discrete") as client:
            for _ in range(50):
                client.act(np.zeros(4, np.float32))
        assert server.stop() == 0
    assert not path.exists()


def supervise(action, config, kind=Supervisor):
    """Runs a coroutine with a supervisor in this process, then drains the supervisor."""

    async def main():
        supervisor = kind(config)
        try:
            async with asyncio.timeout(60):
                return await action(supervisor)
        finally:
            await supervisor.drain()

    return asyncio.run(main())


def test_a_failed_start_does_not_remove_another_servers_socket(tmp_path, monkeypatch):
    async def no_worker(*_):
        raise ConfigError("no worker starts")

    monkeypatch.setattr(WorkerProcess, "start", no_worker)
    path, file = tmp_path / "policies.sock", tmp_path / "file"
    file.write_text("not a socket")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        for taken in (path, file):
            with pytest.raises(ConfigError, match="no worker starts"):
                supervise(Supervisor.start, ServerConfig(SHIPPED, listen=f"unix:{taken}", workers=2))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert file.read_text() == "not a socket"


def test_a_start_fails_if_all_workers_end_after_loading():
    class Fragile(Supervisor):
        async def _spawn(self, number):
            worker = await super()._spawn(number)
            worker.kill()
            await worker.ended()
            return worker

    with pytest.raises(WorkerLostError, match="all workers ended while they were starting"):
        supervise(Supervisor.start, ServerConfig(SHIPPED, workers=2, port=0), Fragile)


def test_a_supervisor_with_an_invalid_config_leaves_no_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    Path(tempfile.gettempdir()).mkdir()
    config = ServerConfig(
        SHIPPED, listen=f"unix:{tmp_path / 's'}", workers=2, http_port=0, token_file=tmp_path / "there is none"
    )
    with pytest.raises(ConfigError, match="cannot read the tokens"):
        Supervisor(config)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_startup_errors_are_reported(root, tmp_path):
    cores = len(os.sched_getaffinity(0))
    refused = run_cli("serve", str(root), "--workers", str(cores + 1), "--port", "0")
    assert refused.returncode == 1
    assert f"workers: expected auto or at most {cores}, the number of cores" in refused.stderr
    refused = run_cli("serve", str(root), "--workers", "many")
    assert "'many' is not a whole number" in refused.stderr
    (tmp_path / "empty").mkdir()
    refused = run_cli("serve", str(tmp_path / "empty"), "--workers", "2", "--port", "0")
    assert refused.returncode == 1
    assert "no exported policy at" in refused.stderr
    assert "Traceback" not in refused.stderr
    with running(root, tmp_path, "--workers", "2") as server:
        port = server.target.rpartition(":")[2]
        for workers in ("1", "2"):
            refused = run_cli("serve", str(root), "--workers", workers, "--port", port)
            assert refused.returncode == 1
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in refused.stderr


def test_workers_wait_for_the_first_policy_and_then_serve_it(policies, tmp_path):
    root = tmp_path / "models"
    root.mkdir()
    options = ("--workers", "2", "--wait-for-policies", "--poll-seconds", "0.05", "--http-port", "0")
    with running(root, tmp_path, *options) as server:
        assert "serving no policy yet" in server.ready
        ready = f"{page_of(server)}/readyz"
        assert _status(ready) == 503
        time.sleep(0.3)  # several polls of an empty directory
        shutil.copytree(policies / "gaussian", root / "gaussian")
        with PolicyClient(server.target) as client:
            wait_until(lambda: _is_served(client), seconds=30)
        wait_until(lambda: _status(ready) == 200)
        assert "Traceback" not in server.said()


def _status(url):
    try:
        return urllib.request.urlopen(url).status
    except urllib.error.HTTPError as error:
        return error.code


def _is_served(client):
    with contextlib.suppress(ServerUnavailableError):
        return client.describe().name == "gaussian"
    return False


def test_workers_refuse_to_start_with_only_a_broken_policy(root, tmp_path):
    broken = tmp_path / "broken" / "discrete"
    shutil.copytree(root / "discrete", broken)
    for file in broken.rglob("saved_model.pb"):
        file.write_bytes(b"x")
    refused = run_cli("serve", str(broken.parent), "--workers", "2", "--port", "0")
    assert refused.returncode == 1
    assert re.search(r"no policy under .* can be served: .*saved_model\.pb: expected \d+ bytes", refused.stderr)


def test_the_number_of_workers_can_be_set_by_file_and_option(tmp_path, root):
    assert ServerConfig(root, workers="auto").workers_wanted == len(os.sched_getaffinity(0))
    assert ServerConfig(root).workers_wanted == 1
    for wrong in ("some", 0, 1.5, None, True):
        with pytest.raises(ConfigError, match="workers"):
            ServerConfig(root, workers=wrong)
    file = tmp_path / "serve.toml"
    file.write_text('workers = "auto"\n')
    printed = run_cli("serve", "--config", str(file), "--print-config").stdout
    assert f'workers = "auto"  # {file}' in printed
    printed = run_cli("serve", "--workers", "auto", "--print-config").stdout
    assert 'workers = "auto"  # --workers' in printed


def test_snapshots_add_up(policies):
    spec = bundles.open_bundle(policies / "discrete" / "2").spec

    def snapshot(observations, returns, sessions):
        meter, episodes = Meter(spec), EpisodeLog()
        for _ in range(observations):
            answer = {"entropy": np.array([0.5]), "action": np.array([6])}
            now = time.perf_counter_ns()
            meter.ran(1, 1000)
            meter.answered(answer, False, now - 5000, now - 1000, now)
        for value in returns:
            episodes.record(value, 3)
        meter.sessions = sessions
        meter.settle()
        description = policy_pb2.Policy(name="discrete", version=2)
        version = VersionSnapshot(description, spec, observations, meter, episodes)
        return Snapshot([version], {"discrete": {"a": 2}}, [], sessions, {("Act", "OK"): observations}, [observations])

    one, two, gone = snapshot(3, [1.0, 2.0], 1), snapshot(4, [6.0], 2), snapshot(5, [3.0], 9)
    total = merged([one, two], [gone], restarts=1)
    (version,) = total.versions
    assert total.requests == {("Act", "OK"): 12}
    assert (total.sessions, list(total.processes), total.restarts) == (3, [3, 4], 1)
    assert version.queued == 7
    assert version.meter.sessions == 3, "without the sessions of the worker that has ended"
    assert version.meter.observations == 12
    assert version.meter.seconds.counts.sum() == 12
    assert version.meter.inference.total == 12_000
    assert (
        version.meter.sampled
        == one.versions[0].meter.sampled + two.versions[0].meter.sampled + gone.versions[0].meter.sampled
    )
    assert version.episodes.last_returns() == [1.0, 2.0, 6.0, 3.0], "in the order in which they ended"
    assert version.episodes.sums.count == 4
    assert one.versions[0].meter.observations == 3, "merging does not change its inputs"
    assert merged([], [gone]).versions == ()
    told_nothing = Snapshot(requests={("Act", "UNAVAILABLE"): 1}, processes=[6])
    total = merged([told_nothing, one], [merged([told_nothing, gone])])
    assert [version.meter.observations for version in total.versions] == [8], "no counter decreases"
    assert total.labels == {"discrete": {"a": 2}}
    assert total.requests == {("Act", "OK"): 8, ("Act", "UNAVAILABLE"): 2}


def test_merging_ignores_an_earlier_version_with_other_actions():
    def snapshot(spec, actions):
        meter, now = Meter(spec), time.perf_counter_ns()
        meter.answered({"entropy": np.array([0.5]), "action": np.array(actions)}, False, now, now, now)
        description = policy_pb2.Policy(name="p", version=1, spec_hash=spec.distribution.value)
        return Snapshot([VersionSnapshot(description, spec, 0, meter, EpisodeLog())])

    before, after = snapshot(DISCRETE, [6]), snapshot(GAUSSIAN, [[0.5, 0.25]])
    for alive, ended in (([after], [before]), ([after, before], [])):
        (version,) = merged(alive, ended).versions
        assert version.meter.observations == 1
        mean, _ = version.meter.spread()
        assert mean.tolist() == [0.5, 0.25]


def test_a_worker_that_ends_repeatedly_is_restarted_with_exponential_backoff(monkeypatch):
    pauses, ages = [], iter([60.0, 1.0, 1.0, 1.0, 60.0, 1.0])

    async def pause(seconds):
        pauses.append(seconds)

    class Brief:
        """A worker that has ended at the next of ``ages``; the last worker stays."""

        number, pid, snapshot = 1, 0, Snapshot()

        def __init__(self):
            self.age = next(ages, None)

        async def ended(self):
            if self.age is None:
                over.set()
                await asyncio.Event().wait()
            return "with exit status 1"

    class Starting(Supervisor):
        async def _spawn(self, number):
            self._workers[number] = Brief()
            return self._workers[number]

        async def _agree(self):
            return True

    over = asyncio.Event()

    async def main():
        monkeypatch.setattr(asyncio, "sleep", pause)
        supervisor = Starting(ServerConfig(SHIPPED, workers=2, port=0))
        supervisor._watch(await supervisor._spawn(1))
        await over.wait()
        supervisor._workers.clear()
        await supervisor.drain()

    asyncio.run(main())
    assert pauses == [0.5, 1.0, 2.0, 0.5]


def test_a_worker_that_loads_for_long_does_not_count_as_hung(monkeypatch):
    monkeypatch.setattr("pgkeras_serving.workers.supervisor._REPORT_SECONDS", 0.0)  # before the worker can report
    config = ServerConfig(SHIPPED, workers=2, port=0, drain_delay_seconds=0.0)

    async def main():
        supervisor = Supervisor(config)
        config_of_worker = dataclasses.replace(config, port=supervisor.port)
        worker = await WorkerProcess.start(1, config_of_worker, supervisor._switch)
        supervisor._workers[1] = worker
        worker.reported -= 60.0
        try:
            assert await supervisor._agree()
            await supervisor._collect_reports()
            return await worker.ask(Report())
        finally:
            await supervisor.drain()

    (version,) = asyncio.run(main()).versions
    assert version.name == "cartpole-v1"


def test_a_worker_that_hangs_during_startup_does_not_delay_the_others(monkeypatch):
    monkeypatch.setattr("pgkeras_serving.workers.supervisor._REPORT_SECONDS", 0.1)
    config = ServerConfig(SHIPPED, workers=2, port=0, drain_delay_seconds=0.0)

    async def main():
        supervisor = Supervisor(config)
        config_of_workers = dataclasses.replace(config, port=supervisor.port)
        for number in (1, 2):
            worker = await WorkerProcess.start(number, config_of_workers, supervisor._switch)
            supervisor._workers[number] = worker
        os.kill(worker.pid, signal.SIGSTOP)
        worker.reported -= 60.0
        try:
            agreeing = asyncio.create_task(supervisor._agree())
            await supervisor._collect_reports()
            async with asyncio.timeout(20):
                return await agreeing, [worker.listens for worker in supervisor._workers.values()]
        finally:
            worker.kill()
            await supervisor.drain()

    assert asyncio.run(main()) == (True, [True, False])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGRTMIN + 3], ids=["with a name", "without a name"])
def test_the_signal_that_ended_a_worker_is_reported(number):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        worker = WorkerProcess(1, process, None)
        process.send_signal(number)
        return await worker.ended()

    assert asyncio.run(main()) == ("by signal SIGKILL" if number == signal.SIGKILL else f"by signal {int(number)}")


def test_a_hung_worker_does_not_delay_shutdown(monkeypatch):
    monkeypatch.setattr("pgkeras_serving.workers.supervisor._LATE_SECONDS", 0.1)
    config = ServerConfig(SHIPPED, workers=2, port=0, drain_delay_seconds=0.0, drain_seconds=0.0)

    async def main():
        supervisor = Supervisor(config)
        worker = supervisor._workers[1] = await WorkerProcess.start(1, config, supervisor._switch)
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(20):
                await supervisor.drain()
        finally:
            worker.kill()
        return await worker.ended()

    assert asyncio.run(main()) == "by signal SIGKILL"


@pytest.mark.slow
def test_a_hung_worker_is_replaced(root, tmp_path):
    with running(root, tmp_path, "--workers", "2", "--http-port", "0") as server:
        page = page_of(server)
        victim = workers_of(server)[0]
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: figure(page, "worker_restarts_total") == 1, seconds=60)
        assert victim not in workers_of(server)
        wait_until(lambda: figure(page, "workers") == 2)
        assert "hangs and is killed" in server.said()
