"""Metrics, logs and traces of calls and episodes.

``metrics.py`` holds the counters, ``last_minute.py`` the rates and latencies of the last minute, ``episodes.py`` the
returns by version. ``logs.py`` writes log lines. :mod:`pgkeras_serving.pages` shows the metrics over HTTP.
"""
