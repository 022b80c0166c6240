"""Scheduling: which batch is computed next, and when."""

from __future__ import annotations

from pgkeras_serving.inference.batches import Batch, Joined, Part, Request, split
from pgkeras_serving.inference.fair_queue import FairQueue
from pgkeras_serving.inference.warmup import Sizes
from pgkeras_serving.inference.workers import HandOver, Workers

__all__ = ["Backlog", "next_batch"]


class Backlog:
    """What waits for a worker: requests, and the parts of a request that has been divided.

    Attributes:
        requests: The requests.
        parts: The parts, in order.
    """

    def __init__(self) -> None:
        self.requests = FairQueue[Request]()
        self.parts: list[Part] = []

    @property
    def rows(self) -> int:
        """Observations that wait."""
        return self.requests.rows + sum(part.rows for part in self.parts)

    def drop_parts(self) -> None:
        """Forgets the parts if nobody awaits their request any more: it has failed, or its caller has left."""
        if self.parts and self.parts[0].request.answer.done():
            self.parts = []


def next_batch(backlog: Backlog, workers: Workers, sizes: Sizes) -> tuple[HandOver, Batch] | None:
    """Takes the next batch from the backlog.

    The parts of a divided request come first. A request is divided if that answers it sooner, which needs idle workers.

    Returns:
        The batch and what takes it. None if nothing waits, or if what waits should go on waiting, since more may come.
    """
    backlog.drop_parts()
    if backlog.parts:
        # Parts count as a full batch, however little is left: nothing else can join them.
        hand_over = workers.place(max(sum(part.rows for part in backlog.parts), sizes.batch), 1)
        return None if hand_over is None else (hand_over, backlog.parts.pop(0))
    if not backlog.requests:
        return None
    hand_over = workers.place(backlog.requests.rows, len(backlog.requests))
    if hand_over is None:
        return None
    batch = Joined(backlog.requests.take(sizes.batch))
    if len(batch.requests) == 1:
        size = sizes.part(batch.rows, workers.free(sizes.run_seconds(batch.rows)))
        if size < batch.rows:
            first, *backlog.parts = split(batch.requests[0], size)
            return hand_over, first
    return hand_over, batch
