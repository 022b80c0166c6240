"""Store: resolves a policy's name, version or label to a loaded version."""

from __future__ import annotations

import contextlib
import time

from google.protobuf.message import DecodeError

from pgkeras.errors import (
    BundleError,
    BundleNotFoundError,
    PolicyNotFoundError,
    ServerUnavailableError,
    SpecMismatchError,
)
from pgkeras.v1 import policy_pb2, service_pb2
from pgkeras_serving.messages.parsing import parse
from pgkeras_serving.messages.responses import Query
from pgkeras_serving.messages.templates import varint
from pgkeras_serving.policies.catalog import Catalog
from pgkeras_serving.policies.contents import Contents, LoadedPolicy
from pgkeras_serving.settings.config import ServerConfig

__all__ = ["Store"]

_MORE_SCANS = 5
_SCAN_SECONDS = 0.1
_MAX_REFERENCES = 256
_MAX_LABELS = 8  # in an error message
_POLICY = varint(service_pb2.ActRequest.DESCRIPTOR.fields_by_name["policy"].number << 3 | 2)  # key of the field
_LONG = b"\x80"  # smallest first byte of a length that takes more than one byte


class Store:
    """Finds, verifies and loads policies, and resolves references to them.

    A policy's name and version are those of its directories, so that copying or renaming a directory is enough to
    publish a policy under another name.

    Args:
        config: The served directory, and how to run policies.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._catalog = Catalog(config)
        self._contents = Contents()  # immutable and replaced as a whole, so readers need no lock

    def load(self) -> None:
        """Loads every version under the root; blocks. Broken versions are logged and skipped.

        Raises:
            BundleNotFoundError: There is no version.
            BundleError: No version could be loaded.
        """
        if self._config.wait_for_policies:
            self.refresh()
            return
        contents = self._catalog.scan()
        for _ in range(_MORE_SCANS):  # all versions may have been replaced while they were being loaded
            if contents.policies:
                break
            time.sleep(_SCAN_SECONDS)
            contents = self._catalog.scan()
        if not contents.policies:
            raise BundleError(f"no policy under {self._config.root} can be served: {'; '.join(contents.failures)}")
        self._contents = contents

    def refresh(self) -> None:
        """Loads changes under the root; blocks. The versions loaded before stay in service meanwhile."""
        try:
            self._contents = self._catalog.scan()
        except BundleNotFoundError:
            if not self._config.wait_for_policies:
                raise
            self._contents = Contents()  # drops the failures, too

    def close(self) -> None:
        """Stops loading, and shuts down the worker threads of every policy."""
        self._catalog.close()
        for policy in self.policies():
            policy.batcher.close()

    @property
    def is_ready(self) -> bool:
        """Whether there is a policy to serve."""
        return bool(self._contents.policies)

    def policies(self) -> list[LoadedPolicy]:
        """Returns all loaded versions, by name, then by version."""
        return [policy for found in self._contents.policies.values() for policy in found.values()]

    def labels(self) -> dict[str, dict[str, int]]:
        """Returns versions by policy name, then by label."""
        return self._contents.labels

    def failures(self) -> list[str]:
        """Returns the reasons why versions under the root are not served."""
        return self._contents.failures

    def decode(self, message: bytes) -> tuple[LoadedPolicy, Query]:
        """Finds the policy of a call and decodes the call.

        A call with a known layout is not parsed if it begins with the policy reference, as serialized messages do.

        Args:
            message: The bytes of an ``ActRequest``.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label.
            ServerUnavailableError: No policy is loaded yet.
            SpecMismatchError: The policy has another spec than the caller expects.
            InvalidRequestError: The call is invalid; the error names the field.
        """
        reference = _leading_reference(message)
        policy = self._known(reference)
        query = None if policy is None else policy.codec.recall(message)
        if policy is not None and query is not None:
            return policy, query
        request = parse(service_pb2.ActRequest, message)
        policy = self.find(request)
        is_leading = reference == request.policy.SerializeToString()
        return policy, policy.codec.decode(request, message if is_leading else b"")

    def find(self, request: service_pb2.ActRequest | service_pb2.PlayRequest) -> LoadedPolicy:
        """Returns the policy that a request refers to.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label.
            ServerUnavailableError: No policy is loaded yet.
            SpecMismatchError: The policy has another spec than the caller expects.
        """
        policy = self.resolve(request.policy)
        if request.spec_hash and request.spec_hash != policy.version.spec_hash:
            raise SpecMismatchError(
                f"policy {policy.version.name!r} version {policy.version.version} has spec {policy.version.spec_hash}, "
                f"but the caller expects {request.spec_hash}; describe the policy again and adapt to it"
            )
        return policy

    def describe(self, ref: policy_pb2.PolicyRef) -> service_pb2.GetPolicyResponse:
        """Describes the policy that a reference resolves to, with the limits of its calls.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label.
            ServerUnavailableError: No policy is loaded yet.
        """
        policy = self.resolve(ref)
        return service_pb2.GetPolicyResponse(policy=self.description(policy), limits=policy.limits)

    def description(self, policy: LoadedPolicy) -> policy_pb2.Policy:
        """Returns the description of a policy with its current labels and episode statistics."""
        name, version = policy.version.name, policy.version.version
        description = policy_pb2.Policy()
        description.CopyFrom(policy.description)
        labels = self.labels().get(name, {})
        description.labels.extend(sorted(label for label, labelled in labels.items() if labelled == version))
        episodes = policy.episodes.summary()
        description.episodes.count = episodes.count
        if episodes.count:
            description.episodes.mean_return = episodes.mean_return
            description.episodes.mean_length = episodes.mean_length
        return description

    def resolve(self, ref: policy_pb2.PolicyRef) -> LoadedPolicy:
        """Resolves a reference. The version defaults to the newest, and the name to the only policy if there is one.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label; the message lists the available ones.
            ServerUnavailableError: No policy is loaded yet.
        """
        ready, name = self._contents, ref.name
        select = ref.WhichOneof("select")
        newest = ready.newest.get(name)
        if newest is not None and select is None:
            return newest
        if not ready.policies:
            raise ServerUnavailableError("the server is still loading its policies; try again in a moment")
        if newest is None and not name:
            raise PolicyNotFoundError(f"several policies are served, so a name is needed: {ready.listing(name)}")
        if newest is None:
            raise PolicyNotFoundError(f"no policy {name!r}; there is: {ready.listing(name)}")
        name = newest.version.name
        if select == "label":
            return ready.policies[name][_labelled(ready, name, ref.label)]
        policy = ready.policies[name].get(ref.version)
        if policy is None:
            raise PolicyNotFoundError(f"policy {name!r} has no version {ref.version}; there is: {ready.listing(name)}")
        return policy

    def _known(self, reference: bytes) -> LoadedPolicy | None:
        """Resolves an encoded reference through a cache. Returns None where :meth:`resolve` raises an error."""
        known = self._contents.by_reference
        policy = known.get(reference)
        if policy is None and len(known) < _MAX_REFERENCES:
            with contextlib.suppress(DecodeError, PolicyNotFoundError, ServerUnavailableError):
                policy = known[reference] = self.resolve(policy_pb2.PolicyRef.FromString(reference))
        return policy


def _leading_reference(message: bytes) -> bytes:
    """Returns the serialized ``policy`` field if it comes first and is shorter than 128 bytes, else empty bytes."""
    if message.startswith(_POLICY) and message[1:2] < _LONG:
        return message[2 : 2 + int.from_bytes(message[1:2])]
    return b""


def _labelled(ready: Contents, name: str, label: str) -> int:
    labels = ready.labels.get(name, {})  # a policy that has just been found has none yet
    if label not in labels:
        shown = list(labels.items())[:_MAX_LABELS]
        there = ", ".join(f"{label} (version {version})" for label, version in shown) or "none"
        there += f" and {len(labels) - len(shown)} more" if len(labels) > len(shown) else ""
        raise PolicyNotFoundError(f"policy {name!r} has no label {label!r}; its labels: {there}")
    return labels[label]
