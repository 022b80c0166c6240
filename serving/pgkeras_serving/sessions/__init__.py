"""Play: one simulator's session, message by message.

``play.py`` is the session, ``episodes.py`` adds up its rewards, ``sessions.py`` bounds how many there are and how
long they idle.
"""
