"""A run: the training loop over epochs, and the files that it writes.

Start with ``training.py``, the loop. ``run.py`` defines the callback interface; ``callbacks.py`` and ``stopping.py``
contain the built-in callbacks. ``counters.py`` counts epochs, steps and episodes. ``checkpoints.py`` writes the files
from which ``resuming.py`` restores a run. ``results.py`` builds the summary and exports the policy. ``directory.py``
and ``loggers/`` write the run's other files, ``plotting.py`` draws its curves. Reading a run directory does not need
TensorFlow; training does.
"""

from pgkeras.runs.directory import (
    RunDirectory,
    default_directory,
    read_config,
    read_evaluations,
    read_metrics,
    read_summary,
)

__all__ = ["RunDirectory", "default_directory", "read_config", "read_evaluations", "read_metrics", "read_summary"]
