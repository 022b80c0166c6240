"""Store: resolves a policy's name, version or label among the versions that are ready."""

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

_MORE_LOOKS = 5
_LOOK_SECONDS = 0.1
_MOST_REFERENCES = 256
_MOST_LABELS = 8  # in an error
_POLICY = varint(service_pb2.ActRequest.DESCRIPTOR.fields_by_name["policy"].number << 3 | 2)  # before its length,
_LONG = b"\x80"  # and the least first byte of a length that takes more than one


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
        self._contents = Contents()  # replaced as a whole, never changed, so that a reader needs no lock

    def load(self) -> None:
        """Loads every version under the root; blocks. One that is broken is reported in the log and left out.

        Raises:
            BundleNotFoundError: There is none.
            BundleError: None could be loaded.
        """
        if self._config.wait_for_policies:
            self.refresh()
            return
        contents = self._catalog.look()
        for _ in range(_MORE_LOOKS):  # all that was found may have been replaced while it was being loaded
            if contents.policies:
                break
            time.sleep(_LOOK_SECONDS)
            contents = self._catalog.look()
        if not contents.policies:
            raise BundleError(f"no policy under {self._config.root} can be served: {'; '.join(contents.failures)}")
        self._contents = contents

    def refresh(self) -> None:
        """Follows what has changed under the root; blocks, while everything that was ready is still served."""
        try:
            self._contents = self._catalog.look()
        except BundleNotFoundError:
            if not self._config.wait_for_policies:
                raise
            self._contents = Contents()  # nor is there any more what did not load

    def close(self) -> None:
        """Shuts down the worker threads of every policy, and loads no more."""
        self._catalog.close()
        for policy in self.policies():
            policy.batcher.close()

    @property
    def is_ready(self) -> bool:
        """Whether there is a policy to serve."""
        return bool(self._contents.policies)

    def policies(self) -> list[LoadedPolicy]:
        """Everything that is ready, by name, then by version."""
        return [policy for found in self._contents.policies.values() for policy in found.values()]

    def labels(self) -> dict[str, dict[str, int]]:
        """Versions by policy's name, then by label."""
        return self._contents.labels

    def failures(self) -> list[str]:
        """Why versions that lie under the root are not served."""
        return self._contents.failures

    def decode(self, message: bytes) -> tuple[LoadedPolicy, Query]:
        """Finds the policy that a call asks for, and decodes the call.

        A call whose layout is known is not parsed, as long as it begins with the reference to its policy, as serialised
        messages do.

        Args:
            message: The bytes of an ``ActRequest``.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label.
            ServerUnavailableError: Nothing is loaded yet.
            SpecMismatchError: The policy has another spec than the caller expects.
            InvalidRequestError: Something else about the call is wrong; the error names the field.
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
        """The policy that a request asks for.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label.
            ServerUnavailableError: Nothing is loaded yet.
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
        """Describes the policy that a reference means, and what its calls are held to.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label.
            ServerUnavailableError: Nothing is loaded yet.
        """
        policy = self.resolve(ref)
        return service_pb2.GetPolicyResponse(policy=self.description(policy), limits=policy.limits)

    def description(self, policy: LoadedPolicy) -> policy_pb2.Policy:
        """The description of a policy, with what changes while it is served."""
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
        """The policy that a reference means: the newest version unless it names one; the only policy if it names none.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label; the message lists what there is.
            ServerUnavailableError: Nothing is loaded yet.
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
        """What :meth:`resolve` makes of the bytes of a reference; None if it raises an error."""
        known = self._contents.by_reference
        policy = known.get(reference)
        if policy is None and len(known) < _MOST_REFERENCES:
            with contextlib.suppress(DecodeError, PolicyNotFoundError, ServerUnavailableError):
                policy = known[reference] = self.resolve(policy_pb2.PolicyRef.FromString(reference))
        return policy


def _leading_reference(message: bytes) -> bytes:
    """The serialised ``policy`` field if the message starts with it and it is shorter than 128 bytes, else empty."""
    if message.startswith(_POLICY) and message[1:2] < _LONG:
        return message[2 : 2 + int.from_bytes(message[1:2])]
    return b""


def _labelled(ready: Contents, name: str, label: str) -> int:
    labels = ready.labels.get(name, {})  # which are not read yet of a policy that has just been found
    if label not in labels:
        shown = list(labels.items())[:_MOST_LABELS]
        there = ", ".join(f"{label} (version {version})" for label, version in shown) or "none"
        there += f" and {len(labels) - len(shown)} more" if len(labels) > len(shown) else ""
        raise PolicyNotFoundError(f"policy {name!r} has no label {label!r}; its labels: {there}")
    return labels[label]
