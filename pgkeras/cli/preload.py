"""Imports the modules of a run in the process from which runs are forked; see :mod:`pgkeras.cli.background`."""

from __future__ import annotations

import contextlib
import signal

from pgkeras.cli.lean_imports import lean_imports
from pgkeras.cli.native_output import quiet

# The parent process handles Ctrl-C. It has kept the signal blocked in this process until now.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

# If an import fails here, the run repeats it and reports the error.
with contextlib.suppress(Exception), quiet(), lean_imports():
    import pgkeras.runs.training  # noqa: F401
