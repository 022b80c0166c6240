"""The pages of --http-port: their content, their access control and malformed requests, partly in a real browser."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from html.parser import HTMLParser

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pgkeras_serving.pages.charts import drawn
from pgkeras_serving.pages.overview import Status, VersionStatus
from pgkeras_serving.pages.page import render
from pgkeras_serving.pages.web import Web
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.episodes import EpisodeSummary
from pgkeras_serving.telemetry.last_minute import Recent
from pgkeras_serving.telemetry.snapshot import Snapshot
from pgkeras_serving.transport.tokens import create_token, hashed_line

from benchmarks.soak.server import SHIPPED
from pgkeras.client import PolicyClient
from pgkeras.errors import ConfigError
from tests.serving.conftest import run_cli, running, wait_until
from tests.serving.telemetry.test_metrics import page_of
from tests.serving.transport.certificates import Authority

ONE = np.zeros(4, np.float32)
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def served(policies, tmp_path_factory):
    """A server whose policies have answered calls, and the address of its pages."""
    root = tmp_path_factory.mktemp("pages") / "policies"
    shutil.copytree(policies, root)
    (root / "discrete" / "3").mkdir()
    (root / "discrete" / "3" / "saved_model.pb").write_text("half a copy")
    assert run_cli("label", "discrete", "stable=1", "canary=2", "--root", str(root)).returncode == 0
    with running(root, tmp_path_factory.mktemp("served"), "--http-port", "0") as server:
        for name in ("discrete", "gaussian"):
            with PolicyClient(server.target, name) as client, client.play() as session:
                session.step(ONE)
                for i in range(30):
                    session.step(ONE, 1.5, i % 3 == 2, False)
        yield server, page_of(server)


def ask(page, path="/", **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(page + path, headers=headers), timeout=10) as response:
            return response.status, response.read().decode(), dict(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def raw(page, data, finish=True):
    """Sends bytes and returns what the server sends until it closes the connection."""
    host, port = page.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass
        return received


class Text(HTMLParser):
    """Collects the texts and tags of a page, in order. An unclosed tag is an error."""

    VOID = ("meta",)

    def __init__(self, page):
        super().__init__()
        self.texts, self.tags, self.open = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)


def test_the_page_shows_policies_versions_labels_and_statistics(served):
    server, page = served
    status, text, headers = ask(page)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    found = Text(text)
    for expected in ("serving", server.target, "discrete", "gaussian", "stable", "canary", "Not served"):
        assert expected in found.texts
    assert any("discrete/3" in part for part in found.texts)
    assert any("Discrete(3, start=5), categorical" in part for part in found.texts)
    assert {"2", "1"} <= set(found.texts)
    assert "last 10: 3 to 4.5" in found.texts  # 1.5 per step: the first episode has 3 steps, later ones 2 and a reset
    shares = [float(part.rstrip("%")) for part in found.texts if part.endswith("%")]
    assert len(shares) == 3  # actions 5, 6 and 7
    assert sum(shares) == pytest.approx(100.0, abs=0.2)
    assert sum(tag == "svg" for tag, _ in found.tags) >= 3


def test_two_versions_in_use_are_compared(policies, tmp_path):
    with running(policies, tmp_path, "--http-port", "0") as server:
        for name, version in (("discrete", 1), ("discrete", 2), ("gaussian", 1)):
            with PolicyClient(server.target, name, version) as client, client.play() as session:
                session.step(ONE)
                for i in range(20):
                    session.step(ONE, 1.0 + version, i % 4 == 3, False)
        page = page_of(server)
        _, text, _ = ask(page)
        found = Text(text)
        shares = [float(part.rstrip("%")) for part in found.texts if part.endswith("%")]
        assert [sum(shares[i::2]) for i in (0, 1)] == pytest.approx([100.0, 100.0], abs=0.2)  # versions 1 and 2
        assert len(shares) == 2 * 3
        assert found.texts.count("v1") == found.texts.count("v2") == 3  # charts
        assert "last 5: 6 to 12" in found.texts  # the first episode has 4 steps, later ones 3 and a reset
        assert "mean 6.4 and 9.6" in found.texts
        hues = [attributes.get("class") for tag, attributes in found.tags if tag == "g"]
        assert hues == ["hue0", "hue1", "hue0", "hue1", "hue0", "hue0"]  # rates, returns; then the same of gaussian
        pixels = browsed(page, tmp_path)
        assert drawn_in(pixels, (0x25, 0x63, 0xA8)) > 2_000
        assert drawn_in(pixels, (0xC0, 0x56, 0x21)) > 2_000


def test_the_newest_versions_in_use_are_drawn():
    def version(rate, returns):
        recent = Recent(rate, rate, 1.0, 1.0, [0.0, rate])
        return VersionStatus(None, [], recent, EpisodeSummary(len(returns), 0.0, 0.0), returns)

    idle, asked, played = version(0.0, []), version(1.0, []), version(0.0, [3.0])
    assert drawn([idle]) == [(idle, "hue0")]
    assert drawn([asked, idle]) == [(asked, "hue0")]
    assert drawn([idle, asked, idle, played]) == [(asked, "hue0"), (played, "hue1")]
    assert [one.hue for one in drawn([asked] * 6)] == ["hue0", "hue1", "hue2", "hue3"]


def test_the_page_asks_for_nothing_from_elsewhere_and_runs_no_script(served):
    _, text, headers = ask(served[1])
    found = Text(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in found.tags}
    for _, attributes in found.tags:
        assert not {"src", "href", "onclick", "onload"} & set(attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert any(tag == "meta" and attributes.get("http-equiv") == "refresh" for tag, attributes in found.tags)


def test_whatever_it_shows_is_escaped():
    evil = "<script>alert(1)</script>&\"'"
    page = render(Status(evil, evil, 1.0, evil, 0, {(evil, evil): 1}, [evil], [])).decode()
    found = Text(page)
    assert "script" not in {tag for tag, _ in found.tags}
    assert found.texts.count(evil) >= 4


def browser(tmp_path):
    """The command that starts a headless browser with an empty profile."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None and os.environ.get("CI") != "true":
        pytest.skip("no Chromium here; CI installs it")
    assert found is not None
    options = ["headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update"]
    options += ["disable-sync", "no-first-run", f"user-data-dir={tmp_path}/d"]
    return [found, *(f"--{option}" for option in options)]


def browsed(page, tmp_path):
    """The pixels of a page in a browser's window, [1000, 1100, 3]."""
    picture = tmp_path / "page.png"
    shot = [*browser(tmp_path), "--window-size=1100,1000", f"--screenshot={picture}", page]
    subprocess.run(shot, capture_output=True, timeout=120, check=True)
    matplotlib = pytest.importorskip("matplotlib.image")
    return (matplotlib.imread(picture)[..., :3] * 255).astype(int)


def drawn_in(pixels, color):
    return int((np.abs(pixels - np.array(color)).max(axis=-1) <= 2).sum())


def test_a_browser_draws_it(served, tmp_path):
    start = [*browser(tmp_path), "--dump-dom", served[1]]
    dom = subprocess.run(start, capture_output=True, text=True, timeout=120, check=True)
    assert "Return per episode, version 2" in dom.stdout
    pixels = browsed(served[1], tmp_path)
    assert pixels.shape == (1000, 1100, 3)
    assert drawn_in(pixels, (0xF7, 0xF7, 0xF5)) > 100_000  # the background
    assert drawn_in(pixels, (0xFF, 0xFF, 0xFF)) > 200_000  # the cards, which only the style sheet makes white
    assert drawn_in(pixels, (0x25, 0x63, 0xA8)) > 2_000  # the bars


def test_probes_report_ready_and_draining(slow_policy, tmp_path):
    with running(slow_policy, tmp_path, "--http-port", "0", "--drain-seconds", "60") as server:
        page = page_of(server)
        assert ask(page, "/healthz")[:2] == (200, "ok\n")
        assert ask(page, "/readyz")[:2] == (200, "serving\n")
        with PolicyClient(server.target) as client, client.play() as session:
            session.step(ONE)
            server.process.terminate()
            wait_until(lambda: _code(page) != 200)
        assert server.process.wait(20) == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400"),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example:80\r\n\r\n", b"421"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    ],
)
def test_a_bad_request_gets_its_status(served, data, status):
    response = raw(served[1], data)
    assert response.startswith(b"HTTP/1.1 " + status), response[:100]
    assert b"Traceback" not in response
    assert raw(served[1], GET).startswith(b"HTTP/1.1 200")


def test_a_head_response_has_no_body(served):
    response = raw(served[1], b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200")
    assert response.endswith(b"\r\n\r\n")


def test_random_bytes_end_no_page(served):
    server, page = served
    generator = np.random.default_rng(0)
    for _ in range(200):
        raw(page, generator.bytes(int(generator.integers(0, 300))) + b"\r\n\r\n")
    assert ask(page)[0] == 200
    assert "Traceback" not in server.said()


def test_connections_that_send_no_request_are_closed_after_a_while(tmp_path):
    prelude = "from pgkeras_serving.pages import http\nhttp._SECONDS = 1.0"
    with (
        running(SHIPPED, tmp_path, "--http-port", "0", prelude=prelude) as server,
        contextlib.ExitStack() as stack,
    ):
        page = page_of(server)
        host, port = page.removeprefix("http://").split(":")
        limit = 64
        silent = [stack.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(limit)]
        for connection in silent[:10]:
            connection.sendall(b"GET / HT")
        with contextlib.suppress(ConnectionError):
            assert raw(page, GET) == b"", "all slots are taken"
        for connection in silent:
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        wait_until(lambda: raw(page, GET).startswith(b"HTTP/1.1 200"), 20)
        assert "Traceback" not in server.said()


def test_with_tokens_the_pages_require_one_and_the_probes_do_not(policies, tmp_path):
    token = create_token()
    (tmp_path / "tokens").write_text(hashed_line("me", token))
    options = ("--http-port", "0", "--token-file", str(tmp_path / "tokens"))
    with running(policies / "discrete", tmp_path, *options) as server:
        page = page_of(server)
        assert ask(page, "/readyz")[0] == ask(page, "/healthz")[0] == 200
        basic = base64.b64encode(f"me:{token}".encode()).decode()
        for path in ("/", "/metrics"):
            status, _, headers = ask(page, path)
            assert status == 401
            assert headers["WWW-Authenticate"].startswith("Basic ")
            assert ask(page, path, Authorization=f"Bearer {token}")[0] == 200
            assert ask(page, path, Authorization=f"Basic {basic}")[0] == 200  # as a browser sends it
            for wrong in ("Bearer x", "Basic x", "Basic bWU6eA==", f"Basic {token}"):
                assert ask(page, path, Authorization=wrong)[0] == 401


def test_with_tls_the_pages_use_it_too(policies, tmp_path):
    ca = Authority(tmp_path)
    certificate, key = ca.issue("server")
    options = ("--http-port", "0", "--http-host", "0.0.0.0", "--tls-cert", str(certificate), "--tls-key", str(key))
    with running(policies / "discrete", tmp_path, *options) as server:
        page = page_of(server)
        assert page.startswith("https://0.0.0.0:")
        url = page.replace("0.0.0.0", "localhost") + "/healthz"
        context = ssl.create_default_context(cafile=ca.file)
        with urllib.request.urlopen(url, timeout=10, context=context) as response:
            assert response.read() == b"ok\n"
        ca.issue("server", days=(-3, -1))
        wait_until(lambda: _expired(url, context))
        ca.issue("server")
        wait_until(lambda: not _expired(url, context))


def test_a_renewed_client_authority_applies_to_the_pages_too(policies, tmp_path):
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    certificate, key = ca.issue("server")
    (tmp_path / "clients.pem").write_bytes(ca.file.read_bytes())
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(tmp_path / "clients.pem"))
    with running(policies / "discrete", tmp_path, "--http-port", "0", *options) as server:
        url = page_of(server) + "/healthz"
        ours, theirs = (ssl.create_default_context(cafile=ca.file) for _ in range(2))
        ours.load_cert_chain(*ca.issue("client"))
        theirs.load_cert_chain(*other.issue("client"))
        assert (_is_let_in(url, ours), _is_let_in(url, theirs)) == (True, False)
        (tmp_path / "clients.pem").write_bytes(other.file.read_bytes())
        wait_until(lambda: _is_let_in(url, theirs))
        assert not _is_let_in(url, ours)


def test_unusable_key_files_are_an_error_when_only_the_pages_read_them(policies, tmp_path):
    certificate, _ = Authority(tmp_path).issue("server")
    key = tmp_path / "encrypted.key"
    secret = load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    secret_pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    key.write_bytes(secret_pem)

    def start():
        config = ServerConfig(SHIPPED, http_port=0, tls_cert=certificate, tls_key=key)
        asyncio.run(Web(config, None, Snapshot).start())  # as a supervisor does before its workers start

    with pytest.raises(ConfigError, match="are not a certificate chain and its private key in PEM"):
        start()
    key.write_text("x")
    with pytest.raises(ConfigError, match="are not a certificate chain and its private key in PEM"):
        start()


def test_a_connection_that_never_speaks_tls_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr("pgkeras_serving.pages.web._HANDSHAKE_SECONDS", 0.1, raising=False)
    certificate, key = Authority(tmp_path).issue("server")

    async def main():
        web = Web(ServerConfig(SHIPPED, http_port=0, tls_cert=certificate, tls_key=key), None, Snapshot)
        await web.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
        await web.stop()

    asyncio.run(main())


def test_a_failed_snapshot_is_logged_and_the_next_one_is_taken(caplog):
    snapshots = 0

    def snapshot():
        nonlocal snapshots
        snapshots += 1
        if snapshots == 1:
            raise RuntimeError("this one fails")
        return Snapshot()

    async def main():
        web = Web(ServerConfig(http_port=0), None, snapshot)
        await web.start()
        async with asyncio.timeout(20):
            while snapshots < 2:
                await asyncio.sleep(0.01)
        await web.stop()

    asyncio.run(main())
    assert "this one fails" in caplog.text


def test_beyond_this_machine_the_pages_need_tls_and_a_free_port(policies, served):
    port = served[1].rpartition(":")[2]
    for options, message in (
        (("--http-port", "0", "--http-host", "0.0.0.0"), "not showing the status on 0.0.0.0:0 without TLS"),
        (("--http-port", "0", "--http-host", "::"), "not showing the status on [::]:0 without TLS"),
        (("--http-port", port), "Address already in use; choose another --http-port"),
    ):
        finished = run_cli("serve", str(policies), "--port", "0", *options)
        assert finished.returncode == 1
        assert message in finished.stderr
        assert "Traceback" not in finished.stderr


def _code(page):
    try:
        return ask(page, "/readyz")[0]
    except OSError:
        return None


def _is_let_in(url, context):
    try:
        with urllib.request.urlopen(url, timeout=10, context=context) as response:
            return response.status == 200
    except OSError:
        return False


def _expired(url, context):
    try:
        with urllib.request.urlopen(url, timeout=10, context=context):
            return False
    except urllib.error.URLError as error:
        return "expired" in str(error)


def test_an_open_connection_at_shutdown_is_no_error():
    errors = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        web = Web(ServerConfig(http_port=0), None, Snapshot)
        await web.start()
        tasks = len(asyncio.all_tasks())
        client = socket.create_connection(("127.0.0.1", web.port))
        while len(asyncio.all_tasks()) == tasks:
            await asyncio.sleep(0.001)
        await web.stop()
        return client

    asyncio.run(main()).close()
    assert errors == []


def test_with_mutual_tls_the_pages_require_a_certificate_too(policies, tmp_path):
    ca = Authority(tmp_path)
    certificate, key = ca.issue("server")
    given = {"http-port": 0, "tls-cert": certificate, "tls-key": key, "tls-client-ca": ca.file}
    options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    with running(policies / "discrete", tmp_path, *options) as server:
        url = page_of(server).replace("127.0.0.1", "localhost") + "/metrics"
        context = ssl.create_default_context(cafile=ca.file)
        with pytest.raises(OSError, match=r"certificate required|reset|closed|EOF"):
            urllib.request.urlopen(url, timeout=60, context=context).read()
        context.load_cert_chain(*ca.issue("client"))
        with urllib.request.urlopen(url, timeout=60, context=context) as response:
            assert b"pgkeras_observations" in response.read()


def test_connections_beyond_the_limit_are_closed(policies, tmp_path):
    with running(policies / "discrete", tmp_path, "--http-port", "0") as server, contextlib.ExitStack() as stack:
        page = page_of(server)
        host, port = page.removeprefix("http://").split(":")
        for _ in range(64):
            stack.enter_context(socket.create_connection((host, int(port))))
        with contextlib.suppress(ConnectionError):  # a reset is fine, too
            assert raw(page, GET) == b""
        stack.close()
        wait_until(lambda: raw(page, GET).startswith(b"HTTP/1.1 200"))
