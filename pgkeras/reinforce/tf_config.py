"""TF_CONFIG: TensorFlow's environment variable with the addresses of all processes of a distributed training."""

from __future__ import annotations

import json

from pgkeras.errors import ConfigError

__all__ = ["ROLES", "TF_CONFIG", "number_of_processes"]

TF_CONFIG = "TF_CONFIG"
"""Name of the environment variable."""

ROLES = ("chief", "worker")
"""Roles of processes. The first process, in this order, writes the run's files."""

_EXAMPLE = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'


def number_of_processes(text: str) -> int:
    """Checks the value of TF_CONFIG and returns the number of processes in it.

    Raises:
        ConfigError: The value is malformed, or does not contain the task of this process.
    """

    def wrong(reason: str) -> ConfigError:
        return ConfigError(f"{TF_CONFIG}: {reason}; expected a value such as {_EXAMPLE}, got {text}")

    try:
        config = json.loads(text)
        cluster, task = dict(config["cluster"]), dict(config["task"])
        role, index = task["type"], task["index"]
    except (KeyError, TypeError, ValueError) as error:
        raise wrong("it is not a JSON object with a cluster and a task") from error
    if unknown := sorted(set(cluster) - set(ROLES)):
        raise wrong(f"only the roles chief and worker are supported, not {', '.join(unknown)}")
    addresses = [address for role_addresses in cluster.values() for address in role_addresses]
    if not all(isinstance(address, str) and address.rpartition(":")[2].isdigit() for address in addresses):
        raise wrong("the addresses in the cluster must be HOST:PORT")
    if len(set(addresses)) < len(addresses):
        raise wrong("an address is listed twice")
    if len(cluster.get("chief", ())) > 1:
        raise wrong("there can be only one chief")
    if not isinstance(index, int) or role not in cluster or not 0 <= index < len(cluster[role]):
        raise wrong(f"the task, {role} {index}, is not in the cluster")
    return len(addresses)
