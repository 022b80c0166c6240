"""Worker processes that serve the same policies on one port: ``pgkeras serve --workers N``.

``supervisor.py`` starts workers, restarts workers that have died, and switches all of them to new versions at the same
moment. ``worker.py`` is a worker: a server like the one of a single process. ``channel.py`` and ``commands.py`` define
their communication. ``agreement.py`` decides when to switch, and ``switch.py`` does it. ``relay.py`` distributes the
connections of a Unix-domain socket.
"""
