"""Imports what a run needs, in the process that runs are forked from: see :mod:`pgkeras.cli.background`."""

from __future__ import annotations

import contextlib
import signal

from pgkeras.cli.lean_imports import lean_imports
from pgkeras.cli.native_output import quiet

# Ctrl-C in the terminal is for the process that has started this one, which has blocked the signal for it so far.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

# What fails here fails in the runs, too, which import it again and say why.
with contextlib.suppress(Exception), quiet(), lean_imports():
    import pgkeras.runs.training  # noqa: F401
