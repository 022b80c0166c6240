"""Pushes bundles to the Hugging Face Hub and pulls them from it, through its own library.

Which hub and whose account is the matter of that library: ``hf auth login``, ``HF_TOKEN`` and ``HF_ENDPOINT``.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pgkeras.bundle.bundle import EXTRA, MANIFEST, Bundle, check_name, draft, find, open_bundle, versions
from pgkeras.errors import BundleError, BundleNotFoundError, ConfigError, HubError, RunError, extra_needed
from pgkeras.hub.card import FILM, card

__all__ = ["pull", "push", "stage"]

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
# Whatever else a repository holds is not downloaded.
_OF_A_BUNDLE = ["saved_model.pb", "fingerprint.pb", "variables/*", "assets/*", f"{EXTRA.as_posix()}/*"]


def push(
    bundle: Bundle, repo: str, *, license_id: str | None = None, film: Path | None = None, private: bool = False
) -> str:
    """Uploads a bundle with its card, in one commit, and gives the address of that commit.

    The repository is made if need be; what it held of an older bundle is replaced, and stays in its history.

    Args:
        bundle: The bundle.
        repo: Where to, as ``user/name``.
        license_id: Identifier of its licence, such as ``apache-2.0``.
        film: A film of the policy in MP4, to be shown with the card.
        private: Whether a repository that is made is private.

    Raises:
        ConfigError: The repository's name is none.
        HubError: The hub refuses, or does not answer; nothing was uploaded.
        MissingExtraError: huggingface_hub is not installed.
    """
    _check_repository(repo)
    with extra_needed("hub", "push policies"):
        from huggingface_hub import HfApi
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        stage(bundle, folder, repo, license_id=license_id, film=film)
        with _told(f"cannot push to {repo}"):
            api = HfApi()
            api.create_repo(repo, exist_ok=True, private=private)
            message = f"{bundle.name} version {bundle.version}"
            done = api.upload_folder(
                repo_id=repo, folder_path=folder, commit_message=message, delete_patterns=[*_OF_A_BUNDLE, FILM]
            )
    return str(done.commit_url)


def stage(bundle: Bundle, folder: Path, repo: str, *, license_id: str | None = None, film: Path | None = None) -> None:
    """Writes what :func:`push` uploads into a new directory: the bundle's files, ``README.md`` and the film.

    Args:
        bundle: The bundle.
        folder: The directory; it must not be there yet.
        repo: Where it is going to be, as ``user/name``.
        license_id: Identifier of its licence, such as ``apache-2.0``.
        film: A film of the policy in MP4.

    Raises:
        ConfigError: The film is not there, or no MP4.
        MissingExtraError: huggingface_hub is not installed.
        RunError: The directory is there already, or cannot be written.
    """
    if film is not None and (film.suffix.lower() != ".mp4" or not film.is_file()):
        raise ConfigError(f"{film}: expected a file that ends in .mp4; make one with: pgkeras record {bundle.path}")
    text = card(bundle, repo, license_id)
    try:
        folder.mkdir(parents=True)
        for file in (*bundle.files, MANIFEST.as_posix()):
            _copy(bundle.path / file, folder / file)
        if film is not None:
            _copy(film, folder / FILM)
        (folder / "README.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error}; name a directory that is not there yet") from error


def pull(source: str, root: Path, *, name: str | None = None, revision: str | None = None) -> Bundle:
    """Publishes a bundle of the hub, or of a directory, as the next version of its policy.

    Every file is checked against the bundle's digests before anything is published. What was pulled already, at the
    same commit or with the same digests, is not published again.

    Args:
        source: A repository of the hub, as ``user/name``, or a directory, as :func:`find` takes it.
        root: Directory of policies.
        name: The policy's name; the bundle's own when None.
        revision: A branch, tag or commit of the repository; its main branch when None.

    Raises:
        BundleError: It holds no bundle, or a broken one, or the new version cannot be written.
        ConfigError: The name is not valid, or a directory has no revision.
        HubError: The hub refuses, or does not answer.
        MissingExtraError: huggingface_hub is not installed.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise ConfigError(f"revision: {source} is a directory, which has no revisions; leave it")
        bundle = open_bundle(find(Path(source)), ignore_added=True)
        return _publish(bundle, root, name, source, {"manifest_sha256": bundle.digest.hex()})
    _check_repository(source)
    with extra_needed("hub", "pull policies"):
        from huggingface_hub import HfApi, snapshot_download
    with tempfile.TemporaryDirectory() as folder, _told(f"cannot pull {source}"):
        commit = HfApi().repo_info(source, revision=revision).sha
        snapshot_download(source, revision=commit, local_dir=folder, allow_patterns=_OF_A_BUNDLE)
        try:
            bundle = open_bundle(Path(folder), ignore_added=True)
        except BundleNotFoundError as error:
            raise BundleNotFoundError(f"{source} holds no policy of pgkeras: {MANIFEST} is missing") from error
        return _publish(bundle, root, name, source, {"commit": commit})


def _check_repository(repo: str) -> None:
    if not _REPOSITORY.fullmatch(repo):
        raise ConfigError(f"{repo}: expected a repository of the Hugging Face Hub as USER/NAME, such as me/cartpole-v1")


def _publish(bundle: Bundle, root: Path, name: str | None, source: str, state: dict[str, str | None]) -> Bundle:
    """Publishes a bundle, if it is not there already in the same state."""
    name = check_name(name or bundle.name)
    pulled = {"source": source, **state}
    for version in reversed(versions(root / name)):
        try:
            there = open_bundle(root / name / str(version))
        except BundleError:  # a broken version is no reason not to get a whole one
            continue
        if there.provenance.get("pulled") == pulled:
            return there
    with draft(root, name, bundle.spec) as work:
        work.provenance = {**bundle.provenance, "pulled": pulled}
        for file in bundle.files:
            _copy(bundle.path / file, work.path / file)
    assert work.bundle is not None
    return work.bundle


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, to)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Raises what the hub's library raises as HubError."""
    from huggingface_hub import constants, errors

    http: Any = errors.HTTPError  # type: ignore[attr-defined] # of the HTTP library that this version uses
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise HubError(
            f"{what}: the hub has no such repository or revision, or does not show it to you; check the name, or log "
            "in with: hf auth login"
        ) from error
    except errors.EntryNotFoundError as error:  # it says that no cache has the file, and its cause what the hub said
        raise HubError(f"{what}: {str(error.__cause__ or error).strip()}") from error
    except (http, ConnectionError) as error:
        why = str(error).strip() or type(error).__name__
        if getattr(error, "response", None) is None:  # whose address would be in the error
            why = f"{constants.ENDPOINT} does not answer ({why})"
        raise HubError(f"{what}: {why}") from error
    except (errors.HFValidationError, errors.LocalTokenNotFoundError) as error:
        raise HubError(f"{what}: {str(error).strip()}") from error
