"""The pages of ``--http-port``: status page, metrics and probes.

``web.py`` routes, ``page.py`` and ``charts.py`` draw, ``prometheus.py`` is what Prometheus reads.
"""
