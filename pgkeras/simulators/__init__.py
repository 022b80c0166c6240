"""Simulators that connect: a run's episodes come from sessions of Play, in whatever language they are played.

``hub.py`` is where to start: it knows the sessions, and plays batches of episodes with them. ``session.py`` is one
simulator's session, message by message; ``batch.py`` the episodes that are to be played, and who plays them;
``listener.py`` the server around them, in a thread of its own; ``source.py`` what a run sees of it all, and
``nobody.py`` what it sees where nobody is to play. Nothing here imports TensorFlow: what acts is an
:class:`~pgkeras.environments.collect.Actor`.
"""
