"""The policies that are served: found on disk, loaded, and resolved by name, version or label.

``catalog.py`` loads what lies under the served directory; ``contents.py`` is what is ready; ``store.py`` finds the
policy for a request, and decodes it.
"""
