"""Collecting on Ray: the episodes of a run, played by actors on one machine or many.

Start reading at :mod:`~pgkeras.cluster.source`, the driver's side: :mod:`~pgkeras.cluster.actors` of its play each
:mod:`~pgkeras.cluster.batch`. :mod:`~pgkeras.cluster.player` is an actor's side.
Nothing here imports TensorFlow, so that an actor is small. What is played does not depend on where: every slot's
episodes follow from the run's seed and the slot's number.
"""
