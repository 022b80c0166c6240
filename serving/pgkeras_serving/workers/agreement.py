"""Agreement: when workers may go over to what each of them has found."""

from __future__ import annotations

from collections.abc import Mapping

from pgkeras_serving.workers.commands import Digest

__all__ = ["Agreement"]

_LOOKS = 3
_MOST_NAMED = 5


class Agreement:
    """Looks at what the workers have found, again and again.

    Workers find different things when the directory changes between their looks: the next one decides. Where each finds
    the same again and again, it has not changed: one still has what lay there before, which another that was started
    since has not, or one could not load what another could. To wait for them to agree would be to wait for ever.

    Attributes:
        difference: How what was found differs, in words; empty if it does not.
    """

    def __init__(self) -> None:
        self.difference = ""
        self._last: Mapping[int, Digest] = {}
        self._looks = 0

    def reached(self, found: Mapping[int, Digest]) -> bool:
        """Takes what a look has found; says whether to go over to it.

        Args:
            found: By the workers' numbers.
        """
        self._looks = self._looks + 1 if found == self._last else 1
        self._last = found
        self.difference = _difference(found)
        return not self.difference or self._looks >= _LOOKS


def _difference(found: Mapping[int, Digest]) -> str:
    common = set.intersection(*(set(digest) for digest in found.values())) if found else set()
    own = {number: [digest[item] for item in digest if item not in common] for number, digest in found.items()}
    if not any(own.values()):
        return ""
    return "; ".join(f"worker {number} has {_listed(names)}" for number, names in sorted(own.items()))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (", ".join(names[:_MOST_NAMED]) or "nothing else") + more
