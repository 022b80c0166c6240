"""TF_CONFIG: the environment variable that names the processes of a training, as TensorFlow has it."""

from __future__ import annotations

import json

from pgkeras.errors import ConfigError

__all__ = ["ROLES", "TF_CONFIG", "number_of_processes"]

TF_CONFIG = "TF_CONFIG"
"""Its name."""

ROLES = ("chief", "worker")
"""What a process can be, the one that writes the run's files first."""

_EXAMPLE = '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'


def number_of_processes(text: str) -> int:
    """Checks a TF_CONFIG and counts the processes that it names.

    Raises:
        ConfigError: It names no processes, or this one is not among them.
    """

    def wrong(reason: str) -> ConfigError:
        return ConfigError(f"{TF_CONFIG}: {reason}; expected something like {_EXAMPLE}, got {text}")

    try:
        config = json.loads(text)
        cluster, task = dict(config["cluster"]), dict(config["task"])
        role, index = task["type"], task["index"]
    except (KeyError, TypeError, ValueError) as error:
        raise wrong("it is no table of a cluster and a task") from error
    if strange := sorted(set(cluster) - set(ROLES)):
        raise wrong(f"there are only chiefs and workers here, and no {', '.join(strange)}")
    addresses = [address for known in cluster.values() for address in known]
    if not all(isinstance(address, str) and address.rpartition(":")[2].isdigit() for address in addresses):
        raise wrong("the cluster lists addresses, HOST:PORT")
    if len(set(addresses)) < len(addresses):
        raise wrong("an address is listed twice")
    if len(cluster.get("chief", ())) > 1:
        raise wrong("there can be one chief only")
    if not isinstance(index, int) or role not in cluster or not 0 <= index < len(cluster[role]):
        raise wrong(f"the task, {role} {index}, is not in the cluster")
    return len(addresses)
