"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# By default an example that takes more than 0.2 seconds fails, which a busy machine does to any.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
