"""Served policies: found on disk, loaded, and resolved by name, version or label.

``catalog.py`` loads the versions under the served directory. ``contents.py`` holds a snapshot of the loaded versions.
``store.py`` finds the policy for a request and decodes the request.
"""
