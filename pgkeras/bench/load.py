"""Load: what is to be asked of a server."""

from __future__ import annotations

from dataclasses import dataclass

from pgkeras.errors import ConfigError
from pgkeras.settings.fields import check_fields, setting

__all__ = ["Load"]

_DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True)
class Load:
    """The load to put on a server; ``pgkeras bench --help`` is made from this class.

    Raises:
        ConfigError: A setting is of the wrong type or outside its range, or two contradict each other.
    """

    target: str
    policy: str = setting("", "Which policy; may be left out when the server has only one.")
    policy_version: int | None = setting(None, "Which version; the newest by default.")
    label: str | None = setting(None, "The version that has this label.")
    rpc: str = setting("act", "Single calls, or messages in sessions.", choices=("act", "play"))
    rate: float | None = setting(
        None, "Open loop: calls or messages a second, sent on schedule whatever has been answered.", above=0
    )
    arrivals: str = setting(
        "poisson",
        "Open loop: the schedule, random as of many independent callers, or even.",
        choices=("poisson", "constant"),
    )
    concurrency: int | None = setting(
        None,
        "Closed loop: calls in flight or sessions, each of which sends when it has been answered. Open loop: sessions "
        f"of play. {_DEFAULT_CONCURRENCY} by default.",
        minimum=1,
    )
    batch: int = setting(0, "Observations in a call; 0 sends single ones, without a batch axis.", minimum=0)
    connections: int = setting(1, "Connections over which the load is spread.", minimum=1)
    duration: float = setting(10.0, "Seconds of load.", above=0)
    warmup: float = setting(1.0, "Seconds of load before, which are not counted.", minimum=0)
    timeout: float = setting(10.0, "Deadline of a call, in seconds.", above=0)
    seed: int = setting(0, "Seed of the observations and of the schedule.", minimum=0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rate is not None and self.concurrency is not None and self.rpc == "act":
            raise ConfigError(
                "rate and concurrency: give one of them, since an open loop sends on schedule however many calls are "
                "in flight"
            )

    @property
    def is_open(self) -> bool:
        """Whether calls are sent on schedule, rather than when others are answered."""
        return self.rate is not None

    @property
    def in_flight(self) -> int:
        """How many calls are in flight in a closed loop, or how many sessions are open."""
        return self.concurrency or _DEFAULT_CONCURRENCY
