"""Collects episodes with Ray actors, on one machine or many.

Start with :mod:`~pgkeras.cluster.source`, the driver's interface. :mod:`~pgkeras.cluster.actors` manages the actors,
:mod:`~pgkeras.cluster.batch` distributes a batch of episodes over them, and :mod:`~pgkeras.cluster.player` runs in each
actor. Nothing here imports TensorFlow, because actors have to be small. The episodes of a slot depend only on the run's
seed and the slot's index, and not on the actor that plays them.
"""
