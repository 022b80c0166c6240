"""Playing an exported policy: returns, films and statistics. No TensorFlow.

``evaluation.py`` plays episodes in this process or through a server; start there. ``recording.py`` films them, with
the pictures of ``frames.py`` and ``densities.py``. ``statistics.py`` has means and intervals over runs.
"""

from typing import TYPE_CHECKING

from pgkeras.lazy import lazy_attributes

if TYPE_CHECKING:
    from pgkeras.evaluation.evaluation import AnsweringActor, EngineActor, Evaluation, FirstSteps, RemoteActor, evaluate
    from pgkeras.evaluation.recording import Recording, record

__all__ = [
    "AnsweringActor",
    "EngineActor",
    "Evaluation",
    "FirstSteps",
    "Recording",
    "RemoteActor",
    "evaluate",
    "record",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "AnsweringActor": "pgkeras.evaluation.evaluation",
        "EngineActor": "pgkeras.evaluation.evaluation",
        "Evaluation": "pgkeras.evaluation.evaluation",
        "FirstSteps": "pgkeras.evaluation.evaluation",
        "RemoteActor": "pgkeras.evaluation.evaluation",
        "evaluate": "pgkeras.evaluation.evaluation",
        "Recording": "pgkeras.evaluation.recording",
        "record": "pgkeras.evaluation.recording",
    },
)
