"""Metrics for operators: build, failed versions, queue and sessions."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil

import numpy as np
from pgkeras_serving.pages.prometheus import Exposition, _by_version
from pgkeras_serving.policies.store import Store
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.snapshot import Snapshot, VersionSnapshot

import pgkeras
from pgkeras.client import PolicyClient
from tests.serving.conftest import running, wait_until
from tests.serving.telemetry.test_metrics import of, page_of, samples


def test_build_failures_queue_and_sessions_are_exposed(policies, tmp_path):
    root = tmp_path / "models"
    shutil.copytree(policies, root)
    (root / "gaussian" / "9").mkdir()
    (root / "gaussian" / "9" / "saved_model.pb").write_bytes(b"broken")
    with running(root, tmp_path, "--http-port", "0") as server, PolicyClient(server.target, "discrete") as client:
        page = page_of(server)
        found = samples(page)
        build = {"version": pgkeras.__version__, "python": platform.python_version()}
        assert found["pgkeras_build_info", *sorted(build.items())] == 1
        assert found["pgkeras_versions_failed",] == 1
        assert of(found, "queued_observations") == of(found, "policy_sessions") == 0
        with client.play() as first, client.play() as second:
            for session in (first, second):
                session.step(np.zeros((1, 4), np.float32))
            assert of(samples(page), "policy_sessions") == 2
            assert of(samples(page), "policy_sessions", version="1") == 0
        wait_until(lambda: of(samples(page), "policy_sessions") == 0)


def test_collecting_metrics_yields_to_the_event_loop(policies, tmp_path):
    root = tmp_path / "models"
    for i in range(20):
        shutil.copytree(policies / "gaussian" / "1", root / f"policy-{i}" / "1")
    store = Store(ServerConfig(root))
    store.load()

    async def main():
        turns = 0

        async def heart():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beating = asyncio.create_task(heart())
        now = Snapshot(
            [VersionSnapshot(p.description, p.spec, 0, p.meter, p.episodes) for p in store.policies()],
            processes=[os.getpid()],
        )
        await _by_version(now)
        collecting = turns
        text = await Exposition(lambda: now).text()
        beating.cancel()
        return collecting, turns - collecting, text.decode()

    collecting, writing, text = asyncio.run(main())
    store.close()
    assert collecting >= 20, "it yields between policies"
    assert writing > collecting, "it yields more often while the text is written"
    assert {f'policy="policy-{i}"' in text for i in range(20)} == {True}
    assert "process_resident_memory_bytes" in text
