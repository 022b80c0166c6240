"""HTTP pages of ``--http-port``: status page, metrics and probes.

``web.py`` routes requests. ``page.py`` and ``charts.py`` render the status page, and ``prometheus.py`` the metrics.
"""
