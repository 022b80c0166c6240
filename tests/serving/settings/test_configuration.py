"""The server's settings: options, environment variables, the file, and their precedence."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from pathlib import Path

import pytest
from pgkeras_serving.policies.store import Store
from pgkeras_serving.settings.config import PER_POLICY, ServerConfig, settings
from pgkeras_serving.settings.sources import as_toml, resolve, variable

from benchmarks.soak.server import SHIPPED
from pgkeras.errors import ConfigError
from pgkeras.settings.fields import range_of
from pgkeras.v1 import policy_pb2
from tests.serving.conftest import ROOT, run_cli, running, wait_until

NAMES = [setting.name for setting in settings()]
HINTS = typing.get_type_hints(ServerConfig)
# A value other than the default for every setting, as a flag passes it.
OTHER = {
    "root": Path("elsewhere"),
    "host": "::1",
    "port": 1,
    "port_file": Path("port"),
    "listen": "unix:/tmp/socket",
    "socket_mode": "660",
    "tls_cert": Path("crt"),
    "tls_key": Path("key"),
    "tls_client_ca": Path("ca"),
    "token_file": Path("tokens"),
    "insecure": True,
    "http_host": "::1",
    "engine": "litert",
    "workers": "auto",
}
OTHER["http_port"] = 1
OTHER |= {"wait_for_policies": True, "compression": True, "traces": True}
OTHER |= {"log_format": "json", "log_level": "debug", "log_access": True, "log_observations": True}
OTHER |= {name: 2000 for name in NAMES if HINTS[name] is int and name not in OTHER}
OTHER |= {name: 7.5 for name in NAMES if HINTS[name] is float}
# Settings that some settings require.
TLS = {"tls_cert": "crt", "tls_key": "key"}
NEEDS = {"tls_cert": TLS, "tls_key": TLS, "tls_client_ca": TLS, "log_observations": {"log_access": True}}


def written(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def toml(**values):
    return "".join(
        f"{name} = {written(v) if not isinstance(v, str | Path) else repr(str(v))}\n" for name, v in values.items()
    )


def test_other_covers_every_setting():
    assert set(OTHER) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_can_come_from_each_source(tmp_path, name):
    file, value = tmp_path / "server.toml", OTHER[name]
    needs = NEEDS.get(name, {})
    others = {other: v for other, v in needs.items() if other != name}
    default = resolve({}, {})
    assert default.origins[name] == "default"
    assert getattr(default.config, name) == getattr(ServerConfig(), name) != value
    file.write_text(toml(**others, **{name: value}))
    from_file = resolve({}, {}, file)
    assert (getattr(from_file.config, name), from_file.origins[name]) == (value, str(file))
    from_variable = resolve({}, {variable(name): written(value)} | {variable(n): written(v) for n, v in others.items()})
    assert (getattr(from_variable.config, name), from_variable.origins[name]) == (value, variable(name))
    flag = "--" + name.replace("_", "-")
    from_flag = resolve(needs | {name: value}, {})
    assert (getattr(from_flag.config, name), from_flag.origins[name]) == (value, flag)


def test_flags_override_variables_and_variables_override_the_file(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text("port = 1\nmax_queued = 1\nmax_sessions = 1\ninsecure = true\n")
    environment = {"PGKERAS_SERVE_PORT": "2", "PGKERAS_SERVE_MAX_QUEUED": "2", "PGKERAS_SERVE_HOST": ""}
    found = resolve({"port": 3, "max_queued": None, "insecure": False}, environment, file)
    config = found.config
    assert (config.port, config.max_queued, config.max_sessions, config.insecure) == (3, 2, 1, False)
    assert [found.origins[name] for name in ("port", "max_queued", "max_sessions", "host")] == [
        "--port",
        "PGKERAS_SERVE_MAX_QUEUED",
        str(file),
        "default",
    ]
    assert resolve({}, {**environment, "PGKERAS_SERVE_CONFIG": str(file)}).config.max_sessions == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = 65536", r"port: expected a whole number from 0 to 65,535, got 65536 \(given by .*server.toml\)"),
        ("port = '50051'", r"port: expected a whole number, got '50051' \(given by"),
        ("port = true", r"port: expected a whole number, got True"),
        ("insecure = 1", r"insecure: expected true or false, got 1"),
        ("engine = 'gpu'", r"engine: expected one of auto, litert, tensorflow; got 'gpu'"),
        ("prot = 1", r"server.toml: prot: there is no such setting; did you mean .*port"),
        ("x = 1\nport = ,", r"server.toml is no TOML: .*line 2"),
        ("listen = 'tcp:1'", r"listen: expected unix:PATH"),
        ("listen = 'unix:/x'\nsocket_mode = '999'", r"socket_mode: expected permissions in octal"),
        ("[policies.a]\nport = 1", r"policies.a: port: there is no such setting; .* \(given by .*server.toml\)"),
        ("[policies.a]\nmax_queued = 0", r"policies.a: max_queued: expected a whole number from 1 to .*, got 0"),
        ("policies = 1", r"policies: expected a table, got 1"),
        ("[policies]\na = 1", r"policies.a: expected a table, got 1"),
    ],
)
def test_an_error_names_the_file_and_the_wrong_setting(tmp_path, text, message):
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        resolve({}, {}, file)


def test_a_byte_order_mark_is_skipped(tmp_path):
    file = tmp_path / "server.toml"
    file.write_bytes(b"\xef\xbb\xbfport = 7\n")
    assert resolve({}, {}, file).config.port == 7


def test_an_error_names_the_wrong_variable():
    with pytest.raises(ConfigError, match=r"port: expected a whole number, got 'x' \(given by PGKERAS_SERVE_PORT\)"):
        resolve({}, {"PGKERAS_SERVE_PORT": "x"})
    with pytest.raises(ConfigError, match=r"port: .* got 99999 \(given by PGKERAS_SERVE_PORT\)"):
        resolve({}, {"PGKERAS_SERVE_PORT": "99999"})
    with pytest.raises(ConfigError, match=r"cannot read the configuration nowhere.toml: No such file"):
        resolve({}, {"PGKERAS_SERVE_CONFIG": "nowhere.toml"})
    (advice,) = resolve({}, {"PGKERAS_SERVE_PROT": "1", "PGKERAS_TOKEN": "x"}).unknown
    assert advice.startswith("PGKERAS_SERVE_PROT: did you mean ")
    assert "PGKERAS_SERVE_PORT" in advice


def test_some_settings_can_be_set_per_policy(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text("max_queued = 5\n[policies.'slow.one']\nmax_batch_size = 2\nmax_queue_seconds = 1\n")
    config = resolve({}, {}, file).config
    assert config.of_policy("other") is config
    own = config.of_policy("slow.one")
    assert (own.max_batch_size, own.max_queue_seconds, own.max_queued) == (2, 1.0, 5)
    same = {field.name for field in dataclasses.fields(config)} - {*PER_POLICY, "policies"}
    assert all(getattr(own, name) == getattr(config, name) for name in same)


def test_the_printed_configuration_is_a_file_with_the_same_settings(tmp_path):
    first = tmp_path / "first.toml"
    first.write_text("port = 1\n[policies.'a.\"b']\nmax_queued = 2\n")
    found = resolve({"root": Path('ä "quoted"\\'), "insecure": True}, {"PGKERAS_SERVE_POLL_SECONDS": "1e-2"}, first)
    text = as_toml(found)
    assert tomllib.loads(text)["poll_seconds"] == 0.01
    lines = text.splitlines()
    assert "insecure = true  # --insecure" in lines
    assert "poll_seconds = 0.01  # PGKERAS_SERVE_POLL_SECONDS" in lines
    assert f"port = 1  # {first}" in lines
    assert "# tls_cert is not set  (default)" in lines
    second = tmp_path / "second.toml"
    second.write_text(text)
    assert resolve({}, {}, second).config == found.config


def test_the_command_prints_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("PGKERAS_SERVE_MAX_SESSIONS", "7")
    printed = run_cli("serve", str(tmp_path), "--port", "9", "--no-insecure", "--print-config")
    assert printed.returncode == 0
    found = tomllib.loads(printed.stdout)
    assert (found["root"], found["port"], found["max_sessions"]) == (str(tmp_path), 9, 7)
    assert "insecure = false  # --insecure" in printed.stdout
    wrong = run_cli("serve", "--max-sessions", "0", "--print-config")
    assert wrong.returncode == 1
    assert "max_sessions: expected a whole number from 1 to" in wrong.stderr
    assert "got 0 (given by --max-sessions)" in wrong.stderr


def test_options_parse_whole_numbers_like_files_and_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("PGKERAS_SERVE_MAX_SESSIONS", "2e3")
    printed = run_cli("serve", str(tmp_path), "--max-queued", "1e3", "--print-config")
    found = tomllib.loads(printed.stdout)
    assert (found["max_queued"], found["max_sessions"]) == (1000, 2000)
    for command in (["serve", "--max-queued"], ["bench", "--target", "localhost:1", "--connections"]):
        wrong = run_cli(*command, "1.5")
        assert wrong.returncode == 2
        assert f"Invalid value for '{command[-1]}': '1.5' is not a whole number" in wrong.stderr


def test_settings_without_effect_are_reported(policies, tmp_path, monkeypatch):
    monkeypatch.setenv("PGKERAS_SERVE_PROT", "1")
    printed = run_cli("serve", str(policies), "--print-config")
    assert printed.returncode == 0
    assert "unknown environment variable: PGKERAS_SERVE_PROT" in printed.stderr
    file = tmp_path / "own.toml"
    file.write_text("[policies.discrete]\nmax_queued = 9\n[policies.nobody]\nmax_queued = 9\n")
    with running(policies, tmp_path, "--config", str(file)) as server:
        wait_until(lambda: "no such policy is served" in server.log.read_text())
        text = server.said()
    assert "policies.nobody: no such policy is served; there is: discrete, gaussian" in text
    assert text.count("no such policy is served") == 1


@pytest.mark.parametrize(
    "name", ["max_batch_size", "max_queued", "max_sessions", *(name for name in NAMES if name.endswith("_seconds"))]
)
def test_the_largest_value_of_a_limit_fits_its_message_and_a_larger_one_is_refused(name):
    most = 2**63 - 1 if HINTS[name] is int else 315_576_000_000.0
    store = Store(ServerConfig(SHIPPED, **{name: most}))
    store.load()
    (policy,) = store.policies()
    assert store.describe(policy_pb2.PolicyRef()).limits == policy.limits
    store.close()
    larger = most + 1 if HINTS[name] is int else math.nextafter(most, math.inf)
    with pytest.raises(ConfigError, match=f"{name}: expected a .* number from .* to "):
        ServerConfig(SHIPPED, **{name: larger})


def test_the_documentation_has_a_table_of_all_settings():
    rows = ["| setting | default | range | description |", "| --- | --- | --- | --- |"]
    for setting in settings():
        default = "" if setting.default is None else f"`{written(setting.default)}`"
        rows.append(
            f"| `{setting.name}` | {default} | {range_of(setting).removeprefix('of ')} | {setting.metadata['help']} |"
        )
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    expected = "\n".join(rows)
    assert expected in text, f"put this into docs/serving.md:\n{expected}"
