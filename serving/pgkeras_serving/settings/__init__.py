"""Where the server's settings come from: defaults, a TOML file, variables, flags.

``config.py`` declares them, ``sources.py`` merges them. Imports nothing else of the server.
"""
