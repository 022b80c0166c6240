"""The policy: a network, a distribution, and the act graph made of the two; its export.

Start with ``policy.py``. ``networks/`` reads observations, ``distributions/`` turns the network's outputs into
actions, and ``forward.py`` leads from one to the other, without memory or with that of ``memory.py``. Needs
TensorFlow. Nothing here knows how a policy learns.
"""

from typing import TYPE_CHECKING

from pgkeras.lazy import lazy_attributes

if TYPE_CHECKING:
    from pgkeras.policy.export import export_policy
    from pgkeras.policy.policy import Policy

__all__ = ["Policy", "export_policy"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Policy": "pgkeras.policy.policy",
        "export_policy": "pgkeras.policy.export",
    },
)
