"""A run: the loop over epochs, and what it leaves on disk.

Start with ``training.py``, the loop. ``run.py`` says what a callback is, ``callbacks.py`` and ``stopping.py`` have
those that come with the package. ``counters.py`` is how far a run has come. ``checkpoints.py`` has the files that
``resuming.py`` reads to go on. ``results.py`` has the summary and the exported policy. ``directory.py`` and
``loggers/`` are the run's files, ``plotting.py`` draws its curves. The directory can be read without TensorFlow;
training needs it.
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
