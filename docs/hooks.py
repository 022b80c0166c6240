"""MkDocs hooks: add pages from outside docs/, and rewrite links to files outside docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
# Files outside docs/ that are pages of the site.
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "threats.md"}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(```.*?```)", re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages from outside docs/."""
    for file, page in PAGES.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_linked(text, file)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrites the links of a page."""
    source = page.file.src_uri
    return markdown if source in PAGES.values() else _linked(markdown, f"docs/{source}")


def _linked(markdown: str, path: str) -> str:
    """Rewrites links to files outside docs/: to their page if there is one, else to the path as code."""

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if file in PAGES:
            return f"[{label}]({_relative(PAGES[file], path)}{anchor})"
        if file.startswith("docs/") and file != "docs":
            return f"[{label}]({_relative(file.removeprefix('docs/'), path)}{anchor})"
        return label if label.startswith("`") else f"{label} (`{file}`)"

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def _relative(page: str, path: str) -> str:
    folder = posixpath.dirname(path.removeprefix("docs/")) if path.startswith("docs/") else ""
    return posixpath.relpath(page, folder or ".")
