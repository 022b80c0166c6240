"""TLS and mutual TLS: real handshakes with a real server process."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from pgkeras import certificates
from pgkeras.client import PolicyClient, Tls
from pgkeras.errors import ConfigError, ServerUnavailableError, TlsError
from tests.serving.conftest import run_cli, running, wait_until
from tests.serving.transport.certificates import Authority

ONE = np.zeros(4, np.float32)
EXPIRED = (-3, -1)
FUTURE = (1, 3)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module")
def secured(policies, ca, tmp_path_factory):
    """A server with TLS. A test may replace its certificate if it restores a valid one."""
    certificate, key = ca.issue("server")
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with running(policies / "discrete", tmp_path_factory.mktemp("secured"), *options) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(policies, ca, tmp_path_factory):
    """A server that requires client certificates."""
    certificate, key = ca.issue("mutual")
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(ca.file))
    with running(policies / "discrete", tmp_path_factory.mktemp("mutual"), *options) as server:
        yield server


@contextlib.contextmanager
def restoring(server, ca):
    """Restores the server's certificate at the end and checks that the server uses it."""
    try:
        yield ca.file.parent / "server.crt", ca.file.parent / "server.key"
    finally:
        ca.issue("server")
        assert act(server, Tls(ca=ca.file)).shape == ()


def act(server, tls, target=None):
    with PolicyClient(target or server.target, tls=tls, timeout=20) as client:
        with client.play() as session:
            session.step(ONE)
        return client.act(ONE, seed=1).action


def refusal(server, tls, target=None):
    with pytest.raises(TlsError) as raised:
        act(server, tls, target)
    return str(raised.value)


def test_calls_and_sessions_over_tls(secured, ca):
    assert act(secured, Tls(ca=ca.file)) == act(secured, Tls(ca=str(ca.file)))
    assert act(secured, Tls(ca=ca.file), secured.target.replace("127.0.0.1", "localhost")).shape == ()


def test_an_unknown_authority_is_the_reported_reason(secured, foreign):
    for tls in (True, Tls(ca=foreign.file)):
        assert "not signed by an authority that is trusted" in refusal(secured, tls)


def test_an_error_without_tls_suggests_that_the_server_uses_tls(secured):
    assert "probably speaks TLS" in refusal(secured, False)


def test_an_error_with_tls_says_that_the_server_does_not_use_tls(server, ca):
    assert "does not speak TLS" in refusal(server, Tls(ca=ca.file))


def test_an_error_from_an_http_port_suggests_the_status_page():
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        with PolicyClient(f"127.0.0.1:{page.server_port}") as client, pytest.raises(ServerUnavailableError) as raised:
            client.policies()
        page.shutdown()
    assert "does not speak gRPC; is it the port of the status page?" in str(raised.value)


@pytest.mark.parametrize("target", ["localhost", "http://localhost:50051", "https://localhost:50051/"])
def test_an_address_without_a_port_or_with_a_scheme_is_refused(target):
    with pytest.raises(ConfigError, match=rf"^{target}: expected HOST:PORT.*such as localhost:50051(;|$)"):
        PolicyClient(target)


def test_a_refused_connection_is_no_tls_error(ca):
    with PolicyClient("127.0.0.1:1", tls=Tls(ca=ca.file)) as client, pytest.raises(ServerUnavailableError) as raised:
        client.act(ONE)
    assert type(raised.value) is ServerUnavailableError


@pytest.mark.parametrize(
    ("days", "hosts", "message"),
    [
        (EXPIRED, (), "its certificate has expired"),
        (FUTURE, (), "its certificate is not yet valid"),
        ((-1, 1), ("elsewhere.example",), "its certificate is for another name"),
    ],
)
def test_a_renewed_certificate_is_used_and_its_faults_are_reported(secured, ca, days, hosts, message):
    with restoring(secured, ca), PolicyClient(secured.target, tls=Tls(ca=ca.file)) as connected:
        connected.act(ONE)
        ca.issue("server", *hosts, days=days)
        assert message in refusal(secured, Tls(ca=ca.file))
        if hosts:
            assert act(secured, Tls(ca=ca.file, server_name=hosts[0])).shape == ()
        assert connected.act(ONE).action.shape == ()  # an open connection is not affected


def test_a_foreign_certificate_of_the_server_is_refused(secured, ca, foreign):
    with restoring(secured, ca) as files:
        for file, replacement in zip(files, foreign.issue("server"), strict=True):
            file.write_bytes(replacement.read_bytes())
        assert "not signed by an authority that is trusted" in refusal(secured, Tls(ca=ca.file))
        assert act(secured, Tls(ca=foreign.file)).shape == ()


def test_half_of_a_renewal_changes_nothing(secured, ca):
    with restoring(secured, ca) as (certificate, _):
        certificate.write_bytes(ca.issue("another")[0].read_bytes())  # without its key
        assert act(secured, Tls(ca=ca.file)).shape == ()
        wait_until(lambda: "the certificate stays as it was: the key in" in secured.log.read_text())


def test_mutual_tls_lets_in_only_those_with_a_certificate_of_the_authority(mutual, ca, foreign):
    with_pair = lambda pair: Tls(ca=ca.file, cert=pair[0], key=pair[1])  # noqa: E731
    assert act(mutual, with_pair(ca.issue("client", "robot-7"))).shape == ()
    assert "probably demands a client's certificate" in refusal(mutual, Tls(ca=ca.file))
    assert "is refused: certificate has expired" in refusal(mutual, with_pair(ca.issue("late", days=EXPIRED)))
    assert "is refused: certificate is not yet valid" in refusal(mutual, with_pair(ca.issue("early", days=FUTURE)))
    assert "probably not signed by an authority that the server trusts" in refusal(
        mutual, with_pair(foreign.issue("client"))
    )


def test_concurrent_calls_succeed_while_the_certificate_is_renewed(secured, ca):
    failures = []

    def call():
        try:
            for _ in range(5):
                act(secured, Tls(ca=ca.file))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ca.issue("server")
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_command_line_connects_by_options_and_by_variables(mutual, ca, monkeypatch):
    certificate, key = ca.issue("cli")
    options = ("--tls-ca", str(ca.file), "--tls-cert", str(certificate), "--tls-key", str(key))
    call = ("act", "--target", mutual.target, "--observation", "[0, 0, 0, 0]")
    assert run_cli(*call, *options).returncode == 0
    finished = run_cli(*call)
    assert finished.returncode == 1
    assert finished.stderr.startswith("Error: ")
    assert "speaks TLS" in finished.stderr
    unknown = run_cli(*call, "--tls")
    assert "not signed by an authority" in unknown.stderr
    assert len(unknown.stderr.splitlines()) == 1  # without gRPC's own log lines
    for flag, value in zip(options[::2], options[1::2], strict=True):
        monkeypatch.setenv("PGKERAS_" + flag.strip("-").replace("-", "_").upper(), value)
    assert run_cli(*call).returncode == 0
    assert run_cli("info", mutual.target).returncode == 0


def test_a_certificate_that_has_expired_starts_with_a_warning(policies, ca, tmp_path):
    certificate, key = ca.issue("stale", days=EXPIRED)
    with running(policies / "discrete", tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        wait_until(lambda: "clients will refuse this server" in server.log.read_text())
        assert "certificate has expired" in server.said()


def test_beyond_this_machine_it_listens_only_with_tls_or_when_told(policies, ca, tmp_path):
    finished = run_cli("serve", str(policies), "--host", "0.0.0.0", "--port", "0")
    assert finished.returncode == 1
    assert "Error: not listening on 0.0.0.0:0 without TLS" in finished.stderr
    certificate, key = ca.issue("open")
    for options in (("--insecure",), ("--tls-cert", str(certificate), "--tls-key", str(key))):
        with running(policies / "discrete", tmp_path, "--host", "0.0.0.0", *options) as server:
            assert act(server, Tls(ca=ca.file) if len(options) > 1 else False).shape == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tls-cert", "{ca}"), "tls_cert and tls_key must be set together"),
        (("--tls-client-ca", "{ca}"), "client certificates require TLS"),
        (("--tls-cert", "{cert}", "--tls-key", "{other}"), "does not match the certificate in"),
        (("--tls-cert", "{cert}", "--tls-key", "nowhere"), "cannot read nowhere: No such file or directory"),
        (("--tls-cert", "{text}", "--tls-key", "{key}"), "not a certificate chain and its private key in PEM"),
        (("--tls-cert", "{cert}", "--tls-key", "{key}", "--tls-client-ca", "{text}"), "contains no certificate in PEM"),
    ],
)
def test_unusable_tls_files_are_an_error_at_startup(policies, ca, tmp_path, options, message):
    certificate, key = ca.issue("good")
    text = tmp_path / "text"
    text.write_text("hello")
    names = {"ca": ca.file, "cert": certificate, "key": key, "other": ca.issue("other")[1], "text": text}
    finished = run_cli("serve", str(policies), "--port", "0", *(option.format(**names) for option in options))
    assert finished.returncode == 1
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_clients_unusable_tls_files_are_an_error(ca, tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        PolicyClient("localhost:1", tls=Tls(ca=tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="give both or none"):
        Tls(cert=ca.file)


def test_fault_checks_only_dates(ca, foreign):
    assert certificates.fault(*ca.issue("fine")) is None
    assert certificates.fault(*foreign.issue("fine", "elsewhere.example")) is None
    assert certificates.fault(*ca.issue("past", days=EXPIRED)) == "certificate has expired"
