"""What is counted and logged: calls, latencies, episodes.

``metrics.py`` counts, ``live.py`` keeps the last minute, ``episodes.py`` the returns by version, ``logs.py`` writes
lines. What is shown over HTTP is in :mod:`pgkeras_serving.pages`.
"""
