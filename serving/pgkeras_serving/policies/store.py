"""Store: resolves a policy's name, version or label among the versions that are ready."""

from __future__ import annotations

import contextlib
import time

from google.protobuf.message import DecodeError

from pgkeras.errors import BundleError, PolicyNotFoundError, ServerUnavailableError
from pgkeras.v1 import policy_pb2
from pgkeras_serving.policies.catalog import Catalog, Contents, LoadedPolicy
from pgkeras_serving.settings.config import ServerConfig

__all__ = ["Store"]

_MORE_LOOKS = 5
_LOOK_SECONDS = 0.1
_MOST_REFERENCES = 256


class _Table:
    """Everything that is ready, by name, then by version, both ascending; the newest version of each name; the labels.

    The empty name stands for the only policy, if there is only one.
    """

    def __init__(self, contents: Contents) -> None:
        self.policies = policies = contents.policies
        self.labels = contents.labels
        self.failures = contents.failures
        self.newest = {name: found[max(found)] for name, found in policies.items()}
        if len(policies) == 1:
            (self.newest[""],) = self.newest.values()
        self.known: dict[bytes, LoadedPolicy] = {}  # by the bytes of references that were resolved

    def __str__(self) -> str:
        return ", ".join(f"{name} (version {', '.join(map(str, found))})" for name, found in self.policies.items())


class Store:
    """Finds, verifies and loads policies, and resolves references to them.

    A policy's name and version are those of its directories, so that copying or renaming a directory is enough to
    publish a policy under another name.

    Args:
        config: Where the policies are and how to run them.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._catalog = Catalog(config)
        self._table = _Table(Contents())  # replaced as a whole, never changed, so that a reader needs no lock

    def load(self) -> None:
        """Loads every version under the root; blocks. One that is broken is reported in the log and left out.

        Raises:
            BundleNotFoundError: There is none.
            BundleError: None could be loaded.
        """
        contents = self._catalog.look()
        for _ in range(_MORE_LOOKS):  # all that was found may have been replaced while it was being loaded
            if contents.policies:
                break
            time.sleep(_LOOK_SECONDS)
            contents = self._catalog.look()
        if not contents.policies:
            raise BundleError(f"no policy under {self._config.root} can be served: {'; '.join(contents.failures)}")
        self._table = _Table(contents)

    def refresh(self) -> None:
        """Follows what has changed under the root; blocks, while everything that was ready is still served."""
        self._table = _Table(self._catalog.look())

    def close(self) -> None:
        """Shuts down the worker threads of every policy."""
        for policy in self.policies():
            policy.batcher.close()

    def policies(self) -> list[LoadedPolicy]:
        """Everything that is ready, by name, then by version."""
        return [policy for found in self._table.policies.values() for policy in found.values()]

    def labels(self) -> dict[str, dict[str, int]]:
        """Versions by policy's name, then by label."""
        return self._table.labels

    def failures(self) -> list[str]:
        """Why versions that lie under the root are not served."""
        return self._table.failures

    def recall(self, reference: bytes) -> LoadedPolicy | None:
        """The policy that the bytes of a reference mean, as :meth:`resolve` finds it; None if it does not."""
        known = self._table.known
        policy = known.get(reference)
        if policy is None and len(known) < _MOST_REFERENCES:
            with contextlib.suppress(DecodeError, PolicyNotFoundError, ServerUnavailableError):
                policy = known[reference] = self.resolve(policy_pb2.PolicyRef.FromString(reference))
        return policy

    def resolve(self, ref: policy_pb2.PolicyRef) -> LoadedPolicy:
        """The policy that a reference means: the newest version unless it names one; the only policy if it names none.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label; the message lists what there is.
            ServerUnavailableError: Nothing is loaded yet.
        """
        table, name = self._table, ref.name
        select = ref.WhichOneof("select")
        newest = table.newest.get(name)
        if newest is not None and select is None:
            return newest
        if not table.policies:
            raise ServerUnavailableError("the server is still loading its policies; try again in a moment")
        if newest is None and not name:
            raise PolicyNotFoundError(f"several policies are served, so a name is needed: {table}")
        if newest is None:
            raise PolicyNotFoundError(f"no policy {name!r}; there is: {table}")
        name = newest.version.name
        if select == "label":
            return table.policies[name][_labelled(table, name, ref.label)]
        policy = table.policies[name].get(ref.version)
        if policy is None:
            raise PolicyNotFoundError(f"policy {name!r} has no version {ref.version}; there is: {table}")
        return policy


def _labelled(table: _Table, name: str, label: str) -> int:
    labels = table.labels[name]
    if label not in labels:
        there = ", ".join(f"{label} (version {version})" for label, version in labels.items()) or "none"
        raise PolicyNotFoundError(f"policy {name!r} has no label {label!r}; its labels: {there}")
    return labels[label]
