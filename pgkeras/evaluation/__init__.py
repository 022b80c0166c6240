"""Evaluation of exported policies: returns, videos and statistics. Does not need TensorFlow.

Start with ``evaluation.py``, which plays episodes. ``actors.py`` acts in this process or through a server.
``recording.py`` records videos with the pictures of ``frames.py`` and ``densities.py``. ``statistics.py`` has means and
intervals over runs.
"""

from typing import TYPE_CHECKING

from pgkeras.lazy import lazy_attributes

if TYPE_CHECKING:
    from pgkeras.evaluation.actors import AnsweringActor, EngineActor, FirstSteps, RemoteActor
    from pgkeras.evaluation.evaluation import Evaluation, evaluate
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
        "AnsweringActor": "pgkeras.evaluation.actors",
        "EngineActor": "pgkeras.evaluation.actors",
        "Evaluation": "pgkeras.evaluation.evaluation",
        "FirstSteps": "pgkeras.evaluation.actors",
        "RemoteActor": "pgkeras.evaluation.actors",
        "evaluate": "pgkeras.evaluation.evaluation",
        "Recording": "pgkeras.evaluation.recording",
        "record": "pgkeras.evaluation.recording",
    },
)
