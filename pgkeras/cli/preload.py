"""Imports what a run needs, in the process that runs are forked from: see :mod:`pgkeras.cli.background`."""

from __future__ import annotations

import contextlib

from pgkeras.cli.lean_imports import lean_imports
from pgkeras.cli.native_output import quiet

# What fails here fails in the runs, too, which import it again and say why.
with contextlib.suppress(Exception), quiet(), lean_imports():
    import pgkeras.runs.training  # noqa: F401
