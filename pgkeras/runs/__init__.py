"""A run: the loop over epochs, and what it leaves on disk.

Start with ``training.py`` (the loop) and ``run_state.py`` (what a run is between two epochs). ``callbacks.py`` has
what watches a run, ``checkpoints.py`` what it resumes from, ``directory.py`` and ``loggers.py`` its files,
``plotting.py`` its curves. The directory can be read without TensorFlow; training needs it.
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
