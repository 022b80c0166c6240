"""The documentation site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]  # --strict: a broken link or anchor is an error
    return out


def test_every_document_is_a_page_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for document in (ROOT / "docs").rglob("*.md"):
        name = document.relative_to(ROOT / "docs").with_suffix("")
        name = name.parent if name.name in ("index", "README") else name
        page = site / name / "index.html"
        assert page.exists(), document
        assert f'href="{name}/"' in index or str(name) == ".", f"{document} is not in the navigation"
    for page in ("changelog", "contributing", "threats"):
        assert (site / page / "index.html").exists()


def test_the_reference_contains_docstrings(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "reference" / "index.html").read_text(encoding="utf-8"))
    for name in ("discounted_returns", "reinforce_loss", "TrainStep", "PolicyClient", "clipped_surrogate"):
        assert name in text
    assert "averaged over episodes" in text


def test_pages_load_no_external_resource(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|link|iframe)[^>]+(?:src|href)="(https?://[^"]+)"', text)
        assert not loaded, page
