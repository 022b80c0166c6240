"""Settings of a training run: every default, its help and its range, written once.

Start with ``groups.py``; the Config of ``config.py`` is all of them. ``fields.py`` declares and checks settings,
``recipe.py`` says how an environment is made, and ``presets/`` has the tuned settings. Imports only the spaces: nothing
here makes an environment or a network.
"""
