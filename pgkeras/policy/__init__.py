"""The policy: a network, a distribution, the act graph built from both, and its export.

Start with ``policy.py``. ``networks/`` maps observations to features, ``forward.py`` maps them to the parameters of the
distribution, optionally with the memory of ``memory.py``, and ``distributions/`` maps the parameters to actions. This
package needs TensorFlow. It does not depend on the training algorithm.
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
