"""Push and pull, with the Hub's own library against a stub of its HTTP: the same bundle comes back, or nothing does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgkeras.bundle import bundle
from pgkeras.bundle.bundle import MANIFEST
from tests.cli.conftest import ROOT
from tests.hub.stub import TOKEN, Hub, commit_id, running

SHIPPED = ROOT / "saved_models" / "cartpole-v1" / "1"  # `make quickstart` adds versions beside it
REPO = "me/cartpole-v1"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as found:
        yield found


def pgkeras(*arguments: object, hub: Hub | None, cwd: Path, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    address = "http://127.0.0.1:9" if hub is None else hub.address
    environ = {**os.environ, "HF_ENDPOINT": address, "HF_TOKEN": token, "HF_HOME": str(cwd / "hf")}
    environ |= {"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "pgkeras", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)


def test_what_is_pushed_comes_back_the_same(hub: Hub, tmp_path: Path) -> None:
    pushed = pgkeras("push", SHIPPED, REPO, "--license", "apache-2.0", hub=hub, cwd=tmp_path)
    assert pushed.returncode == 0, pushed.stderr
    assert f"Pushed: {hub.address}/{REPO}/commit/" in pushed.stdout
    (files,) = hub.commits[REPO]
    here = bundle.open_bundle(SHIPPED)
    assert set(files) == {*here.files, MANIFEST.as_posix(), "README.md"}
    card = files["README.md"].decode()
    for expected in ("license: apache-2.0", "type: mean_reward", "value: 479.59", f"pgkeras pull {REPO}", "`gamma`"):
        assert expected in card

    pulled = pgkeras("pull", REPO, hub=hub, cwd=tmp_path)
    assert pulled.returncode == 0, pulled.stderr
    there = bundle.open_bundle(tmp_path / "saved_models" / "cartpole-v1" / "1")
    assert {file: (there.path / file).read_bytes() for file in there.files} == {
        file: (here.path / file).read_bytes() for file in here.files
    }
    assert there.spec_hash == here.spec_hash
    assert there.provenance.pop("pulled") == {"source": REPO, "commit": commit_id(REPO, 0)}
    assert there.provenance == here.provenance


def test_a_commit_is_pulled_once_and_a_new_one_is_a_new_version(hub: Hub, tmp_path: Path) -> None:
    for expected in (1, 1, 2):
        if expected == 2 or REPO not in hub.commits:
            pushed = pgkeras("push", SHIPPED, REPO, "--private", hub=hub, cwd=tmp_path)
            assert pushed.returncode == 0, pushed.stderr
            hub.commits[REPO][-1]["README.md"] += b" "  # or the library would see nothing to commit
        pulled = pgkeras("pull", REPO, "--to", "served", "--name", "mine", hub=hub, cwd=tmp_path)
        assert pulled.returncode == 0, pulled.stderr
        assert f"Pulled: {Path('served') / 'mine' / str(expected)}" in pulled.stdout
    assert hub.private == {REPO}
    old = pgkeras("pull", REPO, "--revision", commit_id(REPO, 0), "--to", "old", hub=hub, cwd=tmp_path)
    assert old.returncode == 0, old.stderr


def test_a_film_of_the_policy_before_does_not_stay(hub: Hub, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"a film")
    for options in (("--film", film), ()):
        pushed = pgkeras("push", SHIPPED, REPO, *options, hub=hub, cwd=tmp_path)
        assert pushed.returncode == 0, pushed.stderr
        assert hub.commits[REPO][-1].get("replay.mp4") == (b"a film" if options else None)
    assert len(hub.commits[REPO]) == 2


def test_what_was_pulled_and_is_broken_is_pulled_again(hub: Hub, tmp_path: Path) -> None:
    assert pgkeras("push", SHIPPED, REPO, hub=hub, cwd=tmp_path).returncode == 0
    assert pgkeras("pull", REPO, hub=hub, cwd=tmp_path).returncode == 0
    policy = tmp_path / "saved_models" / "cartpole-v1"
    graph = policy / "1" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1])
    for _ in range(2):  # the second time, version 2 is found
        again = pgkeras("pull", REPO, hub=hub, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert f"Pulled: {Path('saved_models') / 'cartpole-v1' / '2'}" in again.stdout
    assert bundle.versions(policy) == [1, 2]
    assert bundle.open_bundle(policy / "2").provenance["pulled"]["source"] == REPO


def test_a_name_that_leads_elsewhere_is_refused(hub: Hub, tmp_path: Path) -> None:
    assert pgkeras("push", SHIPPED, REPO, hub=hub, cwd=tmp_path).returncode == 0
    assert pgkeras("pull", REPO, "--to", "served", "--name", "mine", hub=hub, cwd=tmp_path).returncode == 0
    (tmp_path / "other").mkdir()
    elsewhere = pgkeras("pull", REPO, "--to", "other", "--name", "../served/mine", hub=hub, cwd=tmp_path)
    assert elsewhere.returncode == 1
    assert "policy name '../served/mine': expected" in elsewhere.stderr


def test_what_is_no_bundle_or_was_changed_is_not_published(hub: Hub, tmp_path: Path) -> None:
    assert pgkeras("push", SHIPPED, REPO, hub=hub, cwd=tmp_path).returncode == 0
    whole = hub.commits[REPO][0]
    hub.commits[REPO].append({**whole, "saved_model.pb": whole["saved_model.pb"][:-1] + b"x"})
    hub.commits["me/other"] = [{"README.md": b"nothing here"}]
    for repo, told in ((REPO, "SHA-256 mismatch"), ("me/other", "holds no policy of pgkeras")):
        pulled = pgkeras("pull", repo, hub=hub, cwd=tmp_path)
        assert pulled.returncode == 1
        assert told in pulled.stderr
    assert not bundle.policy_names(tmp_path / "saved_models")


def test_a_file_that_the_hub_does_not_give_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.commits[REPO] = [{"saved_model.pb": b"graph"}]
    hub.lost = {"saved_model.pb"}
    pulled = pgkeras("pull", REPO, hub=hub, cwd=tmp_path)
    assert pulled.returncode == 1
    assert f"cannot pull {REPO}" in pulled.stderr
    assert "410" in pulled.stderr  # the reason, and not that the file is in no cache
    assert "Traceback" not in pulled.stderr


@pytest.mark.parametrize(
    ("command", "token", "there", "told"),
    [
        (("pull", "me/nothing"), TOKEN, True, "hf auth login"),
        (
            ("pull", "not a name!"),
            TOKEN,
            True,
            "not a name!: expected a repository of the Hugging Face Hub as USER/NAME",
        ),
        (("push", SHIPPED, REPO), "hf_wrong", True, "Invalid username or password"),
        (("push", SHIPPED, REPO), TOKEN, False, f"cannot push to {REPO}: http://127.0.0.1:9 does not answer ("),
        (("pull", REPO), TOKEN, False, f"cannot pull {REPO}: http://127.0.0.1:9 does not answer ("),
    ],
)
def test_a_hub_that_refuses_or_is_not_there_is_told(
    command: tuple[object, ...], token: str, there: bool, told: str, hub: Hub, tmp_path: Path
) -> None:
    result = pgkeras(*command, hub=hub if there else None, cwd=tmp_path, token=token)
    assert result.returncode == 1
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert REPO not in hub.commits


def test_a_folder_in_place_of_the_hub(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"a film")
    written = pgkeras("push", SHIPPED, REPO, "--to-folder", "out", "--film", film, hub=None, cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "out" / "replay.mp4").read_bytes() == b"a film"
    assert pgkeras("push", SHIPPED, REPO, "--to-folder", "out", hub=None, cwd=tmp_path).returncode == 1
    for command in (("pull", "out", "--revision", "main"), ("push", SHIPPED, REPO, "--to-folder", "out2", "--private")):
        refused = pgkeras(*command, hub=None, cwd=tmp_path)
        assert refused.returncode in (1, 2)
        assert "leave it" in refused.stderr or "remove --private" in refused.stderr
    pulled = pgkeras("pull", "out", hub=None, cwd=tmp_path)
    assert pulled.returncode == 0, pulled.stderr
    assert bundle.policy_names(tmp_path / "saved_models") == ["cartpole-v1"]


@pytest.mark.parametrize("place", [SHIPPED, SHIPPED.parent, "copy"])
def test_a_directory_is_pulled_once_until_it_changes(place: Path | str, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "copy" / "7")
    for _ in range(2):
        pulled = pgkeras("pull", place, "--to", "served", hub=None, cwd=tmp_path)
        assert pulled.returncode == 0, pulled.stderr
        assert f"Pulled: {Path('served') / 'cartpole-v1' / '1'}" in pulled.stdout
    manifest = tmp_path / "copy" / "7" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"provenance": {', '"provenance": {"note": "new",', 1))
    if place == "copy":
        pulled = pgkeras("pull", place, "--to", "served", hub=None, cwd=tmp_path)
        assert f"Pulled: {Path('served') / 'cartpole-v1' / '2'}" in pulled.stdout


def test_a_link_in_what_is_pulled_is_refused(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "evil")
    secret = tmp_path / "secret"
    shutil.copy(tmp_path / "evil" / "saved_model.pb", secret)
    (tmp_path / "evil" / "saved_model.pb").unlink()
    (tmp_path / "evil" / "saved_model.pb").symlink_to(secret)
    pulled = pgkeras("pull", "evil", hub=None, cwd=tmp_path)
    assert pulled.returncode == 1
    assert "symbolic link" in pulled.stderr


def test_nothing_but_the_bundle_is_downloaded_and_nothing_of_an_older_one_stays(hub: Hub, tmp_path: Path) -> None:
    assert pgkeras("push", SHIPPED, REPO, hub=hub, cwd=tmp_path).returncode == 0
    hub.commits[REPO][-1] |= {"checkpoint.zip": b"large", "variables/older": b"x"}
    hub.lost = {"checkpoint.zip"}
    assert pgkeras("pull", REPO, hub=hub, cwd=tmp_path).returncode == 0
    hub.commits[REPO][-1]["README.md"] += b" "
    assert pgkeras("push", SHIPPED, REPO, hub=hub, cwd=tmp_path).returncode == 0
    assert "variables/older" not in hub.commits[REPO][-1]
    assert "checkpoint.zip" in hub.commits[REPO][-1]
