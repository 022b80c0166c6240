"""``pgkeras train``."""

from __future__ import annotations

import os
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgkeras.cli.lean_imports import lean_imports
from pgkeras.cli.listening import (
    config_of_simulators,
    in_place_of_environment,
    listening,
    refuse_of_environments,
    report_without_learning,
    wait,
)
from pgkeras.cli.numbers import shown
from pgkeras.cli.resuming import resume_hint
from pgkeras.cli.setting_options import OFTEN_SET, options_of, settings_table
from pgkeras.cli.stages import stage
from pgkeras.cli.targets import name_option, root_option
from pgkeras.errors import ConfigError, EnvironmentStepError, ExportError, TrainingError, extra_needed
from pgkeras.files import check_encoding
from pgkeras.runs.callbacks import Publish
from pgkeras.runs.checkpoints import LAST
from pgkeras.runs.collapse import has_collapsed
from pgkeras.runs.directory import read_metrics, read_summary
from pgkeras.runs.run import Run
from pgkeras.settings import config as config_
from pgkeras.settings.effect import check_effect, check_effect_in
from pgkeras.settings.recipe import slug

if TYPE_CHECKING:
    from pgkeras.runs.training import Training
    from pgkeras.settings.config import Config
    from pgkeras.simulators.source import Simulators

__all__ = ["command", "run"]


@click.command(epilog=settings_table())
@click.argument("env_id", required=False)
@click.option("--preset", help="Preset to use. [default: the environment's; see pgkeras presets]")
@options_of(config_.Config, OFTEN_SET)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Set any other setting; may be repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory. [default: runs/ENV-seedN-TIME]")
@click.option("--resume", type=click.Path(path_type=Path), help="Resume the run in this directory.")
@click.option("--checkpoint", help="Checkpoint to resume from: last, best, or an epoch. [default: last]")
@root_option("--export-to")
@click.option(
    "--serve-to",
    type=click.Path(path_type=Path),
    help="Directory of a server, to which the policy is also published during training.",
)
@click.option(
    "--serve-every",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="With --serve-to: seconds of training between two publications.",
)
@click.option(
    "--serve-keep",
    type=click.IntRange(1),
    help="With --serve-to: number of versions without a label to keep. [default: all]",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Learn from simulators that connect to this address, instead of ENV_ID; unix:PATH for a socket.",
)
@click.option(
    "--spaces",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --listen: JSON file of the simulators' spaces. [default: declared by the first simulator]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="With --listen: play 20 episodes with random actions, report what the simulators sent, and exit.",
)
@click.option(
    "--simulator-timeout",
    type=click.FloatRange(0.001),
    default=60.0,
    show_default=True,
    help="With --listen: seconds after which a silent simulator is disconnected.",
)
@click.option(
    "--server-config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --listen: TOML file of pgkeras serve settings, such as TLS, tokens and the status page.",
)
@click.option("--seeds", metavar="0-4", help="Train once per seed, in separate processes.")
@click.option("--jobs", type=click.IntRange(1), help="With --seeds: number of concurrent runs. [default: one per core]")
@name_option
@click.option("--export/--no-export", default=True, show_default=True, help="Whether to export the policy.")
def command(
    env_id: str | None,
    preset: str | None,
    pairs: tuple[str, ...],
    out: Path | None,
    resume: Path | None,
    checkpoint: str | None,
    root: Path,
    serve_to: Path | None,
    serve_every: float,
    serve_keep: int | None,
    listen: str | None,
    spaces: Path | None,
    dry_run: bool,
    simulator_timeout: float,
    server_config: Path | None,
    seeds: str | None,
    jobs: int | None,
    name: str | None,
    export: bool,
    **options: Any,
) -> None:
    """Train a policy on the gymnasium environment ENV_ID and export it.

    ENV_ID is a registered id, or module:id to import the module that registers it. The environment's preset provides
    the settings, or "continuous" or "discrete" if it has none. The defaults below apply to settings that are not in the
    preset, and options override both.

    Training stops when the mean return of the last 100 episodes reaches --stop-return, or after --steps or
    --time-limit. Ctrl-C drops the current epoch, exports the policy of the last one and exits with 130; with --seeds,
    it ends all runs and exports nothing. With --evaluation-every, the policy with the best evaluation is exported,
    otherwise the last.

    \b
    Examples:
      pgkeras train CartPole-v1
      pgkeras train CartPole-v1 --preset textbook --seed 3
      pgkeras train LunarLander-v3 --seeds 0-4
      pgkeras train Pendulum-v1 --set env_kwargs.g=9.81
      pgkeras train LunarLander-v3 --serve-to saved_models --serve-every 120 --evaluation-every 20
      pgkeras train Pendulum-v1 --set gamma=0.95 --steps 1000000 --evaluation-every 20
      pgkeras train --listen 127.0.0.1:50051 --name my-robot
      pgkeras train --resume runs/cartpole-v1-seed0-20260101-120000-000
    """
    from pgkeras.runs import directory as runs

    if listen is not None:
        env_id = in_place_of_environment(env_id, name, resume)
    _refuse_without("listen", "dry_run", "spaces", "server_config", "simulator_timeout")
    _refuse_without("seeds", "jobs")
    _refuse_without("serve_to", "serve_every", "serve_keep")
    if not export:
        _refuse_without_export(name if serve_to is None and listen is None else None)
    for path in (root, *([] if serve_to is None else [serve_to])):
        check_encoding(path)
    given = {key: value for key, value in options.items() if value is not None} | config_.assignments(pairs)
    refuse_of_environments(listen, given)
    if resume is not None:
        _refuse_with_resume(env_id, out, preset)
        config = _config_of_run(resume, given, listen)
    elif checkpoint is not None:
        raise click.UsageError("--checkpoint selects a checkpoint for --resume: give --resume RUN as well")
    elif env_id is not None:
        config = _config(env_id, preset, given, listen)
    else:
        raise click.UsageError("give an environment, as in: pgkeras train CartPole-v1")
    _check_name(name, config.env_id, exports=export or serve_to is not None)
    if seeds is not None:
        _refuse_with_seeds(resume=resume, listen=listen, serve_to=serve_to, seed=given.get("seed"))
        _train_seeds(config, seeds, jobs, out, root if export else None, name)
        return
    publish = None if serve_to is None else _QuietPublish(serve_to, name, serve_every, serve_keep)
    directory = resume or out or runs.default_directory(config.env_id, config.seed)
    with listening(listen, config, _spaces(resume, spaces), simulator_timeout, server_config) as simulators:
        if simulators is not None and dry_run:
            report_without_learning(simulators, config.seed)
            return
        if simulators is not None:
            config = _config_with_simulators(simulators, config, preset, given, resume=resume is not None)
        training, interrupted_by = run(
            config,
            directory,
            resume=resume is not None,
            checkpoint=checkpoint or LAST,
            publish=publish,
            simulators=simulators,
        )
    # With --serve-to, the published policy counts as the export, unless --export-to is given as well.
    exports = export and (publish is None or _is_given("root"))
    exports = not _has_nothing_left(training, resume, name) and exports
    _end(training, directory, publish, root if exports else None, name)
    if interrupted_by is not None:
        click.echo(f"Interrupted. {_resume_hint(directory, simulators)}", err=True)
        raise SystemExit(128 + interrupted_by)


def _check_name(name: str | None, env_id: str, *, exports: bool) -> None:
    """Checks the policy's name before training. An environment's id may not be a valid name."""
    from pgkeras.bundle.bundle import check_name

    if name is not None:
        check_name(name)
    elif exports:
        try:
            check_name(slug(env_id))
        except ConfigError as error:
            raise ConfigError(f"{error}; give another with --name") from error


def _spaces(resume: Path | None, given: Path | None) -> Path | None:
    """Returns the file of the spaces, if there is one. A resumed run uses the spaces of its policy."""
    from pgkeras.simulators.declaration import SPACES

    if resume is None or not (resume / SPACES).exists():
        return given
    if given is not None:
        raise click.UsageError(f"--resume uses the run's own {SPACES}: leave out --spaces")
    return resume / SPACES


def _config_of_run(directory: Path, given: dict[str, Any], listen: str | None) -> Config:
    from pgkeras.runs import directory as runs

    written = runs.read_config(directory)
    if listen is None and not written.get("is_environment", True):
        raise click.UsageError(f"{directory} learns from simulators: give --listen HOST:PORT as well")
    config = config_.Config.from_json(config_.overlay(written["config"], given))
    check_effect(config, given)
    if listen is None:
        with extra_needed("train", "train policies"):
            from pgkeras.environments.default_config import check_effect_here
        check_effect_here(config, given)
    as_before = (None, written["config"].get("learning_rate"))
    if config.target_kl is not None and given.get("learning_rate") not in as_before:
        raise ConfigError(
            "learning_rate: this run has adapted its learning rate to target_kl and continues with the adapted value; "
            "set target_kl instead"
        )
    return config


def _config(env_id: str, preset: str | None, given: dict[str, Any], listen: str | None) -> Config:
    if listen is not None:  # the simulators declare the action space later
        return config_.resolve(env_id, preset, given)
    with extra_needed("train", "train policies"):
        from pgkeras.environments.default_config import check_effect_here, config_for
    config = config_for(env_id, preset, given)
    check_effect(config, given)
    check_effect_here(config, given)
    return config


def _config_with_simulators(
    simulators: Simulators, config: Config, preset: str | None, given: dict[str, Any], *, resume: bool
) -> Config:
    """Returns the settings after the spaces are known. The preset and the effect of settings depend on them."""
    if not resume:
        config = config_of_simulators(simulators, config.env_id, preset, given)
        check_effect(config, given)
    wait(simulators)
    check_effect_in(config, given, simulators.observation_space, simulators.action_space)
    return config


def _refuse_with_resume(env_id: str | None, out: Path | None, preset: str | None) -> None:
    given = [env_id, None if out is None else "--out", None if preset is None else "--preset"]
    if named := [option for option in given if option is not None]:
        raise click.UsageError(
            f"--resume uses the run's own environment, preset and directory: leave out {', '.join(named)}"
        )


def _refuse_with_seeds(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            option = name.replace("_", "-")
            raise click.UsageError(f"--seeds starts new runs of environments, one per seed: leave out --{option}")


def _train_seeds(
    config: Config, text: str, jobs: int | None, out: Path | None, root: Path | None, name: str | None
) -> None:
    from pgkeras.cli import seeds
    from pgkeras.runs import directory as runs

    numbers = seeds.parse_seeds(text)
    directory = out or runs.default_directory(config.env_id, None)
    _check_id(config)
    best = seeds.report(seeds.train_seeds(config, numbers, directory, jobs))
    if root is not None:
        from pgkeras.cli.export import export_run

        click.echo(f"Exported: {export_run(best, None, root, name).path}")


def _is_given(parameter: str) -> bool:
    """Whether an option was given explicitly."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source not in (None, click.core.ParameterSource.DEFAULT)


def _refuse_without(needed: str, *parameters: str) -> None:
    """Refuses options that require another one."""
    for parameter in parameters:
        if _is_given(parameter) and not _is_given(needed):
            option, other = (name.replace("_", "-") for name in (parameter, needed))
            raise click.UsageError(f"--{option} requires --{other}: give both, or neither")


def _refuse_without_export(name: str | None) -> None:
    if _is_given("root"):
        raise click.UsageError("--no-export exports nothing: leave out --export-to")
    if name is not None:
        raise click.UsageError("--no-export exports nothing, so no name is needed: leave out --name")


def run(
    config: Config,
    directory: Path,
    *,
    resume: bool = False,
    checkpoint: str = LAST,
    publish: Publish | None = None,
    simulators: Simulators | None = None,
) -> tuple[Training, int | None]:
    """Trains with progress on standard error. Returns the run, and the signal that interrupted it, if any."""
    from pgkeras.cli.native_output import quiet
    from pgkeras.runs.directory import check_directory
    from pgkeras.runs.loggers import check_loggers

    # These checks and that of the environment's id come before the slow imports.
    check_directory(directory, resume=resume)
    check_loggers(config.loggers)
    if simulators is None:
        _check_id(config)
    with stage("Importing TensorFlow"), extra_needed("train", "train policies"), quiet(), lean_imports():
        from pgkeras.cli import progress
        from pgkeras.runs.training import Training
    here = Path.cwd()
    if simulators is not None:
        wait(simulators)
    with stage("Creating the environments, and tracing and converting the policy's graphs"), quiet():
        watching = () if publish is None else (publish,)
        training = Training(
            config, directory, resume=resume, checkpoint=checkpoint, callbacks=watching, source=simulators
        )
        if simulators is not None:
            from pgkeras.simulators.declaration import SPACES

            simulators.declaration.write(directory / SPACES)
    click.echo(
        f"Training {config.env_id} (seed {config.seed}): {training.policy.spec.described_distribution} over "
        f"{training.policy.spec.action_space}, network {training.policy.architecture}, gradient step on "
        f"{training.device}, acting with {training.act_engine}.",
        err=True,
    )
    try:
        with progress.interruptible(training.interrupt) as interruption, ExitStack() as stack:
            stack.callback(training.finish)
            for _ in progress.show(training):
                pass
    except KeyboardInterrupt:  # the second interrupt, which does not wait for a graceful end
        if training.epoch:
            click.echo(_resume_hint(directory, simulators), err=True)
        raise
    except (EnvironmentStepError, TrainingError) as error:
        if not training.epoch:
            raise
        raise type(error)(f"{error}\n{_resume_hint(directory, simulators)}") from error
    finally:
        os.chdir(here)  # an environment may have changed it
    return training, interruption.signal


def _check_id(config: Config) -> None:
    with extra_needed("train", "train policies"):
        from pgkeras.environments.single import find_spec
    if config.vectorization != "envpool":  # EnvPool has its own ids
        find_spec(config.env_id)


def _resume_hint(directory: Path, simulators: Simulators | None) -> str:
    return resume_hint(directory, "" if simulators is None else f" --listen {simulators.target}")


def _has_nothing_left(training: Training, resumed: Path | None, name: str | None) -> bool:
    """Reports a resumed run that had already ended. Returns whether its policy has been exported, too."""
    if resumed is None or not training.finished or training.epoch > training.resumed_from or not training.leads:
        return False
    click.echo(
        f"The run has already ended: {training.stop_reason}. To continue, resume it with more --steps or --time-limit, "
        "or a higher --stop-return."
    )
    exported = read_summary(resumed)["bundle"]
    if exported is None or not Path(exported).exists() or name is not None or _is_given("root"):
        return False
    click.echo(f"Already exported: {exported}")
    return True


def _end(
    training: Training, directory: Path, publish: _QuietPublish | None, root: Path | None, name: str | None
) -> None:
    """Reports the result of the run, and publishes or exports the policy."""
    if not training.leads:
        click.echo(
            f"Done: the first of the {training.processes} processes writes the run's files and exports the policy."
        )
        return
    _report(training, directory)
    if publish is not None and training.epoch:
        _publish(publish, training, directory)
    if root is not None and training.epoch:
        _export(training, root, name, directory)


def _report(training: Training, directory: Path) -> None:
    summary = training.summary()
    if summary["solved"]:
        what = f"Solved: the last 100 episodes returned {shown(summary['mean_return_100'])} on average"
    else:
        last = summary["mean_return_100"]
        what = "No finished epoch" if last is None else f"The last 100 episodes returned {shown(last)} on average"
    click.echo(f"{what}, after {training.env_steps:,} steps and {training.seconds:.1f} s of training.")
    if training.stop_reason is not None and not summary["solved"]:
        click.echo(f"Stopped: {training.stop_reason}.")
    if training.epoch and training.policy.spec.is_discrete and has_collapsed(read_metrics(directory)):
        click.echo(
            "The policy has collapsed: it is nearly deterministic, and its return is lower than at the start. Try a "
            "larger entropy bonus (--set entropy_bonus=0.05), shorter episodes (--set max_episode_steps=N), or smaller "
            "steps (--set learning_rate=..., or target_kl=0.01)."
        )
    if training.best is not None:
        click.echo(
            f"Best evaluation: {shown(training.best.score)} on average over {training.config.evaluation_episodes} "
            f"episodes, after {training.best.env_steps:,} steps. This is the policy to export."
        )
    click.echo(f"Run directory: {directory}")


class _QuietPublish(Publish):
    def publish(self, training: Run) -> None:
        from pgkeras.cli.native_output import quiet

        with quiet():
            super().publish(training)


def _publish(publish: Publish, training: Training, directory: Path) -> None:
    try:
        publish.publish(training)
    except ExportError as error:
        raise ExportError(f"{error}\n{_export_hint(directory)}") from error
    click.echo(f"Published: {', '.join(map(str, publish.paths))}")


def _export_hint(directory: Path) -> str:
    return f"The run is kept; export its policy with: pgkeras export {shlex.quote(str(directory))}"


def _export(training: Training, root: Path, name: str | None, directory: Path) -> None:
    from pgkeras.cli.native_output import quiet

    try:
        with quiet():
            bundle = training.export(root, name)
    except ExportError as error:
        raise ExportError(f"{error}\n{_export_hint(directory)}") from error
    click.echo(f"Exported: {bundle.path}")
    click.echo(f"Serve it: pgkeras serve {root}")
