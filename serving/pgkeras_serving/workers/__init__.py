"""Several processes that serve the same policies on one port: ``pgkeras serve --workers N``.

``supervisor.py`` starts workers, has them switch to new versions at one moment, and starts those again that have died.
``worker.py`` is one of them: a server as it is without workers. ``channel.py`` and ``commands.py`` are what they say to
each other, ``agreement.py`` when they switch and ``switch.py`` how, ``relay.py`` how they share a Unix-domain socket.
"""
