"""Simulators that connect: a run's episodes come from sessions of Play, in whatever language they are played.

``hub.py`` is where to start: it knows the sessions, and plays batches of episodes with them. ``session.py`` is one
simulator's session, message by message; ``slots.py`` which of its environments play; ``declaration.py`` the spaces that
they declare; ``batch.py`` the episodes that are to be played, and who plays them. ``source.py`` is what a run sees of
it all, with the server around the sessions in a thread of its own, ``no_simulators.py`` what it sees where nobody is to
play, and ``dry_run.py`` tries a simulator with random actions. Nothing here imports TensorFlow: what acts is an
:class:`~pgkeras.environments.collect.Actor`.
"""
