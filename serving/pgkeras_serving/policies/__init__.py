"""The policies that are served: found on disk, loaded, and resolved by name, version or label.

``catalog.py`` loads what lies under the served directory; ``store.py`` finds a policy for a request.
"""
