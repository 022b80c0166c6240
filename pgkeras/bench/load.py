"""Load: the settings of a load test."""

from __future__ import annotations

from dataclasses import dataclass

from pgkeras.errors import ConfigError
from pgkeras.settings.fields import check_fields, setting

__all__ = ["Load"]

_DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True)
class Load:
    """The settings of a load test. The options of ``pgkeras bench`` are derived from this class.

    Raises:
        ConfigError: A setting has the wrong type or is outside its range, or two contradict each other.
    """

    target: str
    policy: str = setting("", "Name of the policy; optional if the server has only one.")
    policy_version: int | None = setting(None, "Version of the policy; the newest by default.")
    label: str | None = setting(None, "Label of the version, instead of a version.")
    rpc: str = setting("act", "Send single calls, or messages in sessions.", choices=("act", "play"))
    rate: float | None = setting(
        None, "Open loop: calls or messages per second, sent on a schedule independent of the responses.", above=0
    )
    arrivals: str = setting(
        "poisson",
        "Open loop: random arrivals, as of many independent callers, or constant intervals.",
        choices=("poisson", "constant"),
    )
    concurrency: int | None = setting(
        None,
        "Closed loop: number of concurrent calls or sessions; each sends again after a response. Open loop: number of "
        f"sessions of play. {_DEFAULT_CONCURRENCY} by default.",
        minimum=1,
    )
    batch: int = setting(0, "Observations per call; 0 sends single observations without a batch axis.", minimum=0)
    connections: int = setting(1, "Number of connections that share the load.", minimum=1)
    duration: float = setting(10.0, "Seconds of measured load.", above=0)
    warmup: float = setting(1.0, "Seconds of load before the measurement.", minimum=0)
    timeout: float = setting(10.0, "Deadline of a call, in seconds.", above=0)
    seed: int = setting(0, "Seed of the observations and of the schedule.", minimum=0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rate is not None and self.concurrency is not None and self.rpc == "act":
            raise ConfigError(
                "rate and concurrency exclude each other for act: an open loop sends on a schedule, independent of the "
                "number of calls in progress"
            )

    @property
    def is_open(self) -> bool:
        """Whether calls are sent on a schedule (open loop) instead of after responses (closed loop)."""
        return self.rate is not None

    @property
    def in_flight(self) -> int:
        """The number of concurrent calls in a closed loop, or the number of open sessions."""
        return self.concurrency or _DEFAULT_CONCURRENCY
