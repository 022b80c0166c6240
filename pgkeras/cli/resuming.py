"""Message that shows how to resume an interrupted run."""

from __future__ import annotations

import shlex
from pathlib import Path

__all__ = ["resume_hint"]


def resume_hint(directory: Path, options: str = "") -> str:
    """Returns a sentence with the command that resumes a run; ``options`` are appended to it."""
    return f"Resume with: pgkeras train --resume {shlex.quote(str(directory))}{options}"
