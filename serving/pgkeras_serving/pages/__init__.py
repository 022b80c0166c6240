"""The pages of ``--http-port``: status page, metrics and probes.

``web.py`` routes, ``page.py`` and ``charts.py`` draw, ``exposition.py`` is what Prometheus reads.
"""
