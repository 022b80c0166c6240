"""``pgkeras simulate``."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, Any

import click

from pgkeras.cli.background import stopped_by_signals
from pgkeras.cli.connection import connection_options
from pgkeras.cli.numbers import counted, shown
from pgkeras.cli.players import environment_settings
from pgkeras.cli.targets import policy_option, target_option
from pgkeras.errors import PgkerasError, PolicyServiceError, ServerUnavailableError, extra_needed
from pgkeras.settings.recipe import Recipe

if TYPE_CHECKING:
    from pgkeras.environments.simulate import Simulator

__all__ = ["command"]

_TELL_SECONDS = 5.0


@click.command()
@click.argument("env_id")
@target_option("Address of the run or the server.")
@policy_option
@click.option(
    "--environments",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many copies a process steps side by side, in one session.",
)
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="How many processes play.")
@click.option("--episodes", type=click.IntRange(1), help="Stop when a process has played so many, each copy its share.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the environments.")
@click.option("--greedy", is_flag=True, help="Ask for the most probable actions; not of a policy in training.")
@click.option(
    "--patience",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds for which a server that does not answer is tried again.",
)
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A setting of the environment, as in pgkeras train."
)
@connection_options
def command(env_id: str, processes: int, seed: int, environments: int, pairs: tuple[str, ...], **options: Any) -> None:
    """Play a gymnasium environment in sessions with a server, as a simulator in any language would.

    Where pgkeras train --listen listens, the policy learns from it: start it on as many machines, and as often, as you
    like. With pgkeras serve it plays the policy and reports returns. It needs no TensorFlow.

    \b
    Examples:
      pgkeras simulate CartPole-v1 --target 127.0.0.1:50051 --environments 24
      pgkeras simulate CartPole-v1 --target 127.0.0.1:50051 --environments 8 --processes 4
      pgkeras simulate CartPole-v1 --target 127.0.0.1:50051 --greedy --episodes 20
    """
    recipe = Recipe.read({"env_id": env_id, **environment_settings(pairs)})
    if processes == 1:
        with stopped_by_signals():
            _play(recipe, environments, seed, options)
        return
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_worker, args=(recipe, environments, seed + i * environments, options), daemon=True)
        for i in range(processes)
    ]
    with stopped_by_signals():
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.terminate()
    if any(worker.exitcode for worker in workers):
        raise SystemExit(1)


def _worker(recipe: Recipe, environments: int, seed: int, options: dict[str, Any]) -> None:
    try:
        _play(recipe, environments, seed, options)
    except PgkerasError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(1) from error


def _play(recipe: Recipe, environments: int, seed: int, options: dict[str, Any]) -> None:
    with extra_needed("train", "play environments"):
        from pgkeras.environments.simulate import Simulator
        from pgkeras.environments.single import make_one
    from pgkeras.client.client import PolicyClient

    copies = [make_one(recipe) for _ in range(environments)]
    simulator = Simulator(copies, seed, recipe.env_id, options["episodes"])
    telling = _Telling(simulator, options["episodes"], options["target"], options["patience"])
    mode = "greedy" if options["greedy"] else "sample"
    try:
        with PolicyClient(options["target"], options["policy"], **options["connection"]) as client:
            simulator.run(client, telling, options["patience"], mode, telling.of_silence)
    except ServerUnavailableError:
        if not simulator.episodes:
            raise
        if options["patience"]:
            click.echo(f"Nobody has answered at {options['target']} for {options['patience']:g} s.", err=True)
    finally:
        simulator.close()
        if simulator.episodes:
            telling.tell()


class _Telling:
    """Tells how it goes every few seconds of playing, when a server is waited for, and when all is over."""

    def __init__(self, simulator: Simulator, episodes: int | None, target: str, patience: float) -> None:
        self._simulator = simulator
        self._episodes = episodes
        self._target, self._patience = target, patience
        self._waits = False
        self._seconds, self._steps = 0.0, simulator.steps  # of playing, without what a server was waited for
        self._looked = time.monotonic()
        self._due = self._looked + _TELL_SECONDS

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._simulator.steps > self._steps:
            self._seconds += now - self._looked
            self._steps, self._waits = self._simulator.steps, False
            if now >= self._due:
                self._due = now + _TELL_SECONDS
                self.tell()
        self._looked = now
        return self._episodes is not None and self._simulator.episodes >= self._episodes

    def of_silence(self, error: PolicyServiceError, has_played: bool) -> None:
        """Says, once each time, why no server answers and for how long it is tried again."""
        if has_played or not self._waits:
            reason = f"{str(error)[:1].upper()}{str(error)[1:]}. " if has_played else ""
            again = f"Waiting for a run or a server at {self._target}, for {self._patience:g} s at most."
            click.echo(f"{reason}{again if self._patience else ''}".rstrip(), err=True)
        self._waits = True

    def tell(self) -> None:
        """Writes a line."""
        simulator = self._simulator
        rate = simulator.steps / self._seconds if self._seconds else 0.0
        recent = simulator.returns
        mean = f", the last {len(recent)} returned {shown(sum(recent) / len(recent))} on average" if recent else ""
        steps, episodes = counted(simulator.steps, "step"), counted(simulator.episodes, "episode")
        click.echo(f"{steps} ({rate:,.0f}/s), {episodes}{mean}")
