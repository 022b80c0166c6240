"""Tokens: creation, hashing, authentication and withdrawal."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pgkeras_serving.transport.tokens import Tokens, create_token, hashed_line, read_tokens

from pgkeras.client import PolicyClient
from pgkeras.client.connection import Endpoint
from pgkeras.errors import ConfigError, UnauthenticatedError
from pgkeras.v1 import service_pb2, service_pb2_grpc
from tests.serving.conftest import run_cli, running, wait_until

ONE = np.zeros(4, np.float32)


@pytest.fixture(scope="module")
def token():
    return create_token()


@pytest.fixture(scope="module")
def guarded(policies, token, tmp_path_factory):
    """A server that requires a token, and its token file, which a test may change if it restores it."""
    scratch = tmp_path_factory.mktemp("guarded")
    file = scratch / "tokens"
    file.write_text(hashed_line("robot-7", token) + "\n")
    with running(policies / "discrete", scratch, "--token-file", str(file)) as server:
        yield server, file


def refused(target, token, call=lambda client: client.act(ONE)):
    with PolicyClient(target, token=token) as client, pytest.raises(UnauthenticatedError) as raised:
        call(client)
    return str(raised.value)


def test_only_a_known_token_is_accepted(guarded, token):
    server, _ = guarded
    with PolicyClient(server.target, token=token) as client, client.play() as session:
        assert session.step(ONE) in (5, 6, 7)
        assert client.act(ONE).action in (5, 6, 7)
    assert "this server demands a token" in refused(server.target, None)
    for wrong in (create_token(), token[:-1], token + "x", token.swapcase(), "x" * 10_000):
        assert "the token is not one that this server knows" in refused(server.target, wrong)


def test_a_refused_call_is_logged_with_its_caller(policies, token, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(hashed_line("robot-7", token) + "\n")
    wrong = create_token()
    with running(policies / "discrete", tmp_path, "--token-file", str(file), "--log-access") as server:
        refused(server.target, wrong)
        wait_until(lambda: "pgkeras.access" in server.log.read_text())
        lines = [json.loads(line) for line in server.said().splitlines() if line.startswith("{")]
        (line,) = (line for line in lines if line["logger"] == "pgkeras.access")
        assert (line["method"], line["code"]) == ("GetPolicy", "UNAUTHENTICATED")
        assert line["peer"].startswith("ipv4:127.0.0.1:")
        assert "policy" not in line
        assert wrong not in server.said()


def test_every_call_demands_it_but_a_health_check(guarded):
    server, _ = guarded
    with grpc.insecure_channel(server.target) as channel:
        stub = service_pb2_grpc.PolicyServiceStub(channel)
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        for call in (
            lambda: stub.Act(service_pb2.ActRequest(), timeout=10),
            lambda: list(stub.Play(iter([service_pb2.PlayRequest()]), timeout=10)),
            lambda: stub.GetPolicy(service_pb2.GetPolicyRequest(), timeout=10),
            lambda: stub.ListPolicies(service_pb2.ListPoliciesRequest(), timeout=10),
            lambda: list(reflection.ServerReflectionInfo(asked, timeout=10)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "authorization: Bearer" in caught.value.details()
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_a_session_without_a_token_ends_even_if_it_sends_nothing(guarded):
    server, _ = guarded
    with grpc.insecure_channel(server.target) as channel:
        silent = service_pb2_grpc.PolicyServiceStub(channel).Play(iter(lambda: time.sleep(60), None), timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            next(silent)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_tokens_are_withdrawn_and_added_without_a_restart(guarded, token):
    server, file = guarded
    before, added = file.read_text(), create_token()
    with PolicyClient(server.target, token=token) as old, PolicyClient(server.target, token=added) as new:
        old.act(ONE)
        file.write_text(hashed_line("robot-8", added))
        wait_until(lambda: _lets_in(new))
        assert not _lets_in(old)
        file.write_text("robot-9 a plain token\n")  # an invalid file changes nothing
        wait_until(lambda: _lets_in(new) and "tokens stay as they were" in server.log.read_text())
        file.write_text(before)
        wait_until(lambda: _lets_in(old))
    assert "a plain token" not in server.said()


def test_the_file_holds_hashes_that_anybody_can_check(tmp_path, token):
    file = tmp_path / "tokens"
    file.write_text(f"# who may call\n\n{hashed_line('a', token)}\n  {hashed_line('b', 'other')}\n")
    assert read_tokens(file) == {hashlib.sha256(token.encode()).digest(): "a", hashlib.sha256(b"other").digest(): "b"}
    tokens = Tokens(file)
    assert tokens.authenticate([("x", "y"), ("authorization", f"Bearer {token}")]) == "a"
    assert tokens.authenticate([("authorization", "bearer other")]) == "b"
    for value in (token, f"Basic {token}", "Bearer ", b"\xff", f"Bearer {read_tokens(file)}"):
        with pytest.raises(UnauthenticatedError):
            tokens.authenticate([("authorization", value)])


@pytest.mark.parametrize("line", ["robot", "robot sha256:12", "ro bot sha256:" + "0" * 64, "robot md5:" + "0" * 64])
def test_a_wrong_line_is_named_but_not_shown(tmp_path, line):
    file = tmp_path / "tokens"
    file.write_text(f"# tokens\n{line}\n")
    with pytest.raises(ConfigError, match=r"tokens, line 2: expected NAME sha256:HASH") as raised:
        Tokens(file)
    assert line not in str(raised.value)


def test_tokens_are_long_and_never_the_same():
    made = {create_token() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(token) for token in made} == {47}


def test_the_command_makes_a_token_and_adds_its_hash(policies, tmp_path, monkeypatch):
    file = tmp_path / "tokens"
    first = run_cli("token", "robot-7", "--file", str(file))
    assert first.returncode == 0
    assert first.stderr == ""
    token = first.stdout.strip()
    assert file.read_text() == hashed_line("robot-7", token) + "\n"
    assert file.stat().st_mode & 0o077 == 0
    assert "has a token named 'robot-7'" in run_cli("token", "robot-7", "--file", str(file)).stderr
    second = run_cli("token", "robot-8", "--file", str(file)).stdout.strip()
    assert set(read_tokens(file).values()) == {"robot-7", "robot-8"}
    shown = run_cli("token", "robot-9")
    assert hashed_line("robot-9", shown.stdout.strip()) in shown.stderr
    assert "is not a valid name for a token" in run_cli("token", "robot 9").stderr
    with running(policies / "discrete", tmp_path, "--token-file", str(file)) as server:
        call = ("act", "--target", server.target, "--observation", "[0, 0, 0, 0]")
        assert run_cli(*call, "--token", second).returncode == 0
        refused_call = run_cli(*call)
        assert refused_call.returncode == 1
        assert "this server demands a token" in refused_call.stderr
        monkeypatch.setenv("PGKERAS_TOKEN", token)
        assert run_cli(*call).returncode == 0


def test_a_token_never_travels_unencrypted_to_another_machine(token):
    for target in ("example.org:50051", "192.0.2.1:50051", "dns:///example.org:1"):
        with pytest.raises(ConfigError, match="unencrypted") as raised:
            PolicyClient(target, token=token)
        assert token not in str(raised.value)
    for target in ("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/tmp/socket"):
        PolicyClient(target, token=token).close()


@pytest.mark.parametrize("wrong", ["", " x", "x\n", "ä", "x\x00"])
def test_a_malformed_token_is_refused_by_the_client(wrong):
    with pytest.raises(ConfigError, match="printable ASCII"):
        PolicyClient("127.0.0.1:1", token=wrong)


def test_a_missing_token_file_is_an_error_at_startup(policies, tmp_path):
    finished = run_cli("serve", str(policies), "--port", "0", "--token-file", str(tmp_path / "none"))
    assert finished.returncode == 1
    assert "Error: cannot read the tokens in" in finished.stderr


def _lets_in(client):
    try:
        client.act(ONE)
    except UnauthenticatedError:
        return False
    return True


def test_the_file_keeps_its_mode_and_place(tmp_path):
    file, link = tmp_path / "tokens", tmp_path / "link"
    assert run_cli("token", "first", "--file", str(file)).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600, "a new file is private to its owner"
    file.chmod(0o640)
    link.symlink_to(file)
    assert run_cli("token", "second", "--file", str(link)).returncode == 0
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(lambda i: run_cli("token", f"robot-{i}", "--file", str(link)), range(4))
    assert [one.returncode for one in done] == [0] * 4
    assert sorted(read_tokens(file).values()) == ["first", *(f"robot-{i}" for i in range(4)), "second"]


def test_a_token_is_neither_looked_up_by_its_hash_nor_shown(tmp_path):
    file, token = tmp_path / "tokens", create_token()
    file.write_text(hashed_line("a", token))
    one, other = (Tokens(file)._names.value for _ in range(2))
    assert not one.keys() & other.keys(), "each instance hashes with a random key of its own"
    assert token not in repr(Endpoint("localhost:1", token=token))


def test_a_token_file_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "tokens"
    assert run_cli("token", "first", "--file", str(file)).returncode == 0
    with file.open() as before:
        text = before.read()
        assert run_cli("token", "second", "--file", str(file)).returncode == 0
        before.seek(0)
        assert before.read() == text, "an open reader still reads the old file"
