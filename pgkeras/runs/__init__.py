"""A run: the loop over epochs, and what it leaves on disk.

Start with ``training.py``, the loop. ``run.py`` says what a callback is, ``callbacks.py`` and ``stopping.py`` have
those that come with the package. ``counters.py`` is how far a run has come, ``checkpoints.py`` what it resumes from,
``directory.py`` and ``loggers/`` are its files, ``plotting.py`` its curves. The directory can be read without
TensorFlow; training needs it.
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
