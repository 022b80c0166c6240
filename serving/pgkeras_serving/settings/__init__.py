"""Settings of the server, from defaults, a TOML file, environment variables and flags.

``config.py`` declares the settings and ``sources.py`` merges their sources. This package imports no other package of
the server.
"""
