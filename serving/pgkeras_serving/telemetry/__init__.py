"""What is counted and logged: calls, latencies, episodes.

``metrics.py`` counts, ``last_minute.py`` keeps rates and latencies of the last minute, ``episodes.py`` the returns by
version, ``logs.py`` writes lines. :mod:`pgkeras_serving.pages` shows them over HTTP.
"""
