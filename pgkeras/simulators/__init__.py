"""Simulators that connect: a run collects its episodes from Play sessions of simulators in any language.

Start with ``hub.py``: it holds the sessions and plays batches of episodes with them. ``session.py`` handles the
messages of one simulator; ``slots.py`` tracks which of its environments play; ``declaration.py`` has the spaces that
simulators declare; ``batch.py`` assigns the episodes of a batch to sessions. ``source.py`` is the run's interface, with
the server in a separate thread; ``no_simulators.py`` replaces it if no episodes are needed; ``dry_run.py`` tests a
simulator with random actions. Nothing here imports TensorFlow: an :class:`~pgkeras.environments.collect.Actor` chooses
the actions.
"""
