"""How to go on with a run that was interrupted."""

from __future__ import annotations

import shlex
from pathlib import Path

__all__ = ["resume_hint"]


def resume_hint(directory: Path, options: str = "") -> str:
    """The command that goes on with a run, in a sentence; ``options`` are what it needs beside the directory."""
    return f"Go on with: pgkeras train --resume {shlex.quote(str(directory))}{options}"
