"""Agreement: decides when the workers may switch to the versions that they have loaded."""

from __future__ import annotations

from collections.abc import Mapping

from pgkeras_serving.workers.commands import Digest

__all__ = ["Agreement"]

_ROUNDS = 3
_MAX_NAMED = 5


class Agreement:
    """Compares what the workers have loaded, round by round.

    If the directory changes between the scans of two workers, they load different versions, and the next round decides.
    If each worker repeatedly reports the same, the directory has not changed. The workers then differ for another
    reason: one still has a deleted version that a worker started later does not have, or one failed to load a version.
    They would never agree, so they switch nevertheless.

    Attributes:
        difference: Description of the difference; empty if there is none.
    """

    def __init__(self) -> None:
        self.difference = ""
        self._last: Mapping[int, Digest] = {}
        self._rounds = 0

    def reached(self, found: Mapping[int, Digest]) -> bool:
        """Adds a round, and returns whether the workers may switch.

        Args:
            found: What each worker has loaded, by its number.
        """
        self._rounds = self._rounds + 1 if found == self._last else 1
        self._last = found
        self.difference = _difference(found)
        return not self.difference or self._rounds >= _ROUNDS


def _difference(found: Mapping[int, Digest]) -> str:
    common = set.intersection(*(set(digest) for digest in found.values())) if found else set()
    own = {number: [digest[item] for item in digest if item not in common] for number, digest in found.items()}
    if not any(own.values()):
        return ""
    return "; ".join(f"worker {number} has {_listed(names)}" for number, names in sorted(own.items()))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return (", ".join(names[:_MAX_NAMED]) or "nothing else") + more
