"""The README's commands, run in order in an empty directory with only the port changed; and the examples."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import pytest
import trustme

from pgkeras.cli import _COMMANDS, _pgkeras
from pgkeras.errors import ConfigError
from pgkeras.settings.config import assignments, resolve
from tests.serving.conftest import running, wait_until

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "conformance").glob("*.md"),
    *(ROOT / "clients").glob("*/README.md"),
]
_BLOCK = re.compile(r"<!-- run -->\n```(sh|python)\n(.*?)```", re.DOTALL)


def test_readme_commands(tmp_path: Path) -> None:
    blocks = _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 5
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])  # the README's port may be in use
    script = ["set -euo pipefail", "trap 'kill $(jobs -p)' EXIT"]
    for i, (language, text) in enumerate(blocks):
        code = text.replace("50051", port)
        script.append(f'echo "== block {i}"')
        if language == "python":
            (tmp_path / f"block{i}.py").write_text(code, encoding="utf-8")
            script.append(f"python block{i}.py")
            continue
        script.append(code)
        if "pgkeras serve" in code:  # waits for the server, as a reader would
            channel = f'grpc.insecure_channel("127.0.0.1:{port}")'
            script.append(f"python -c 'import grpc; grpc.channel_ready_future({channel}).result(60)'")
    result = _run(["bash", "-c", "\n".join(script)], tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    outputs = result.stdout.split("== block ")[1:]
    assert "Solved" in outputs[0]
    assert "mean return" in outputs[0]
    assert "chosen" in outputs[2]
    assert '"probabilities"' in outputs[2]
    assert sorted(p.name for p in (tmp_path / "saved_models" / "cartpole-v1").iterdir()) == ["1", "2"]


def test_every_other_command_of_the_readme_is_a_make_target_or_an_install() -> None:
    text = _BLOCK.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    rest = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert rest == ["make quickstart"]


def test_make_quickstart_is_the_command_that_tests_run() -> None:
    # The packages are already installed here. tests/cli/test_processes.py runs the command itself.
    dry = _run(["make", "--dry-run", "--silent", "quickstart"], ROOT)
    assert dry.stdout.splitlines()[-1] == ".venv/bin/pgkeras quickstart", dry.stderr


def test_links_in_the_documents_resolve() -> None:
    texts = {d: re.sub(r"```.*?```|`[^`]*`", "", d.read_text(encoding="utf-8"), flags=re.DOTALL) for d in DOCUMENTS}
    links = [(d, link) for d, text in texts.items() for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
    assert len(links) > 10
    assert [f"{d.name}: {link}" for d, link in links if not (d.parent / link).exists()] == []


def _commands() -> list[tuple[str, str]]:
    """Every pgkeras command line in the documents and in the commands' help texts, with its location."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
            found += [(document.name, line) for line in block.replace("\\\n", " ").splitlines()]
    for name in _COMMANDS:
        text = _pgkeras.get_command(click.Context(_pgkeras), name).help or ""  # type: ignore[union-attr]
        found += [(f"pgkeras {name} --help", line) for line in text.splitlines()]
    return [
        (where, command) for where, line in found for command in re.findall(r"(?:^ *|\()(pgkeras [a-z][^)&]*)", line)
    ]


def test_every_file_named_in_a_package_docstring_exists() -> None:
    packages = [*ROOT.glob("pgkeras/**/__init__.py"), *ROOT.glob("serving/pgkeras_serving/**/__init__.py")]
    named = [
        (package.parent, name)
        for package in packages
        for name in re.findall(r"``([\w/]+(?:\.py|/))``", ast.get_docstring(ast.parse(package.read_text())) or "")
    ]
    assert len(named) > 50
    assert [f"{folder}/{name}" for folder, name in named if not (folder / name).exists()] == []


def test_every_command_in_the_documents_parses() -> None:
    commands = _commands()
    assert len(commands) > 40
    for where, line in commands:
        name, *arguments = shlex.split(line, comments=True)[1:]
        command = _pgkeras.get_command(click.Context(_pgkeras), name)
        assert command is not None, f"{where}: {line}"
        try:
            given = command.make_context(name, arguments).params
            resolve(given.get("env_id") or "CartPole-v1", given.get("preset"), assignments(given.get("pairs", ())))
        except (click.ClickException, ConfigError) as error:
            pytest.fail(f"{where}: {line}: {error}")


def test_own_environment(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "corridor.py", tmp_path)
    result = _run(["pgkeras", "train", "corridor:Corridor-v0", "--seed", "0"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Solved" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("example", ["own_network.py", "reinforce_in_100_lines.py"])
def test_examples(example: str, tmp_path: Path) -> None:
    result = _run([sys.executable, str(ROOT / "examples" / example)], tmp_path)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split()[-1]) >= 475


# Code that runs before a block of the documents, because the block assumes it.
_CARTPOLE = """
import gymnasium
environment = gymnasium.make("CartPole-v1")
"""
_CLIENT = """
import pgkeras
client = pgkeras.PolicyClient("127.0.0.1:50051")
observation, _ = environment.reset(seed=1)
"""
_SHORT = """
import functools, pgkeras
pgkeras.train = functools.partial(pgkeras.train, steps=4_000)
"""
_NETWORK = """
import keras
state = keras.Input((4,))
my_keras_model = keras.Model(state, keras.layers.Dense(16, activation="tanh")(state))
"""
_TWICE = """
class Playing:
    left = 2
    def __bool__(self):
        self.left -= 1
        return self.left >= 0
playing, next_observation = Playing(), observation
"""
_GAME = """
class Game:
    steps = 0
    def reset(self):
        return environment.reset()[0]
    def step(self, action):
        self.steps += 1
        if self.steps == 60:
            raise SystemExit
        return environment.step(action)[:4]
game = Game()
"""
_BEFORE = {
    "exported-policies.md": ["", ""],
    "observations.md": [_SHORT + _NETWORK, _CARTPOLE + _CLIENT + _TWICE],
    "runs.md": [_SHORT],
    "security.md": ["", "from pgkeras import PolicyClient, Tls"],
    "serving.md": ["", _CARTPOLE + _CLIENT],
    "simulators.md": [_CARTPOLE + _GAME],
}


def _python_blocks() -> list[tuple[str, int, str]]:
    found = []
    for document in sorted((ROOT / "docs").rglob("*.md")):
        blocks = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
        found += [(document.name, i, block) for i, block in enumerate(blocks)]
    return found


def test_every_python_block_of_the_documents_is_run() -> None:
    counted = Counter(document for document, *_ in _python_blocks())
    assert counted == {document: len(before) for document, before in _BEFORE.items()}


@pytest.mark.parametrize(("document", "number", "block"), _python_blocks(), ids=lambda value: str(value)[:20])
def test_python_blocks(document: str, number: int, block: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        code = f"{_BEFORE[document][number]}\n{block}"
        if "127.0.0.1:50051" in code:
            serves = "simulators" if document == "simulators.md" else "policies"
            target = stack.enter_context(_listening(tmp_path) if serves == "simulators" else _serving(tmp_path))
            code = code.replace("127.0.0.1:50051", target)
        if "saved_models/" in code:
            (tmp_path / "saved_models").symlink_to(ROOT / "saved_models")
        authority = trustme.CA()
        robot = authority.issue_cert("robot-7")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        robot.cert_chain_pems[0].write_to_path(tmp_path / "robot-7.crt")
        robot.private_key_pem.write_to_path(tmp_path / "robot-7.key")
        result = _run([sys.executable, "-c", code], tmp_path)
    assert result.returncode == 0, result.stderr


@contextmanager
def _serving(scratch: Path) -> Iterator[str]:
    with running(ROOT / "saved_models", scratch) as server:
        yield server.target


@contextmanager
def _listening(scratch: Path) -> Iterator[str]:
    """Starts a run that learns from simulators; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = f"127.0.0.1:{listening.getsockname()[1]}"
    command = [sys.executable, "-m", "pgkeras", "train", "--listen", target, "--name", "game", "--out", "run"]
    process = subprocess.Popen([*command, "--no-export"], cwd=scratch, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(target))
        yield target
    finally:
        process.terminate()
        process.wait()


def _answers(target: str) -> bool:
    host, port = target.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "serving")])}
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def test_every_security_claim_names_existing_tests() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 25
    for file, test in named:
        assert test, f"{file}: name one of its tests"
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {test}"
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`tests/" in line]
    claims = list(text.split("## What is not claimed")[0].split("and its tests")[1].splitlines())
    unproven = [
        line
        for line in claims
        if line.startswith("| ") and line not in rows and not line.startswith(("| claim", "| ---"))
    ]
    assert not unproven
