"""Bundles: exported policies on disk, and the labels on their versions.

``bundle.py`` reads, verifies and publishes a bundle; ``labels.py`` names versions, ``retention.py`` deletes old ones.
No TensorFlow: the server reads bundles, too. The room that writes the SavedModel into a bundle is
:mod:`pgkeras.policy`.
"""

from pgkeras.bundle.bundle import Bundle, Draft, check_name, draft, find, open_bundle, policy_names, versions

__all__ = ["Bundle", "Draft", "check_name", "draft", "find", "open_bundle", "policy_names", "versions"]
