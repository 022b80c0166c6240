"""Sessions: the bidirectional Play stream of a simulator.

``play.py`` handles the messages of one session and ``episodes.py`` sums up its rewards. ``sessions.py`` limits the
number of sessions and their idle time.
"""
