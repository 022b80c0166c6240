"""Scheduling: chooses the next batch and when to compute it."""

from __future__ import annotations

from pgkeras_serving.inference.batches import Batch, Joined, Part, Request, split
from pgkeras_serving.inference.fair_queue import FairQueue
from pgkeras_serving.inference.warmup import Sizes
from pgkeras_serving.inference.workers import HandOver, Workers

__all__ = ["Backlog", "next_batch"]


class Backlog:
    """Work that waits for a worker.

    Attributes:
        requests: Whole requests.
        parts: The remaining parts of a request that has been split, in order.
    """

    def __init__(self) -> None:
        self.requests = FairQueue[Request]()
        self.parts: list[Part] = []

    @property
    def rows(self) -> int:
        """Number of waiting observations."""
        return self.requests.rows + sum(part.rows for part in self.parts)

    def drop_parts(self) -> None:
        """Drops the parts of a request that has failed or was canceled."""
        if self.parts and self.parts[0].request.answer.done():
            self.parts = []


def next_batch(backlog: Backlog, workers: Workers, sizes: Sizes) -> tuple[HandOver, Batch] | None:
    """Takes the next batch from the backlog.

    The parts of a split request come first. A request is split if idle workers would finish its parts sooner.

    Returns:
        The batch and the function that dispatches it. None if the backlog is empty, or if its requests should wait for
        more to fill a batch.
    """
    backlog.drop_parts()
    if backlog.parts:
        # Parts count as a full batch, because no other request can join them.
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
