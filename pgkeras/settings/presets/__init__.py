"""Tuned settings, one TOML file per environment; a file holds what differs from the defaults, or from its ``base``."""
