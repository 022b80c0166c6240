"""The ``pgkeras`` command. A command parses its arguments, calls the library and prints."""

from __future__ import annotations

import atexit
import difflib
import errno
import importlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click

from pgkeras import __version__
from pgkeras.cli.polling import read_where_polled
from pgkeras.errors import PgkerasError

__all__ = ["main"]

_THREAD_SECONDS = 2.0

# One module per command, imported on demand, so that --help never waits for TensorFlow.
_COMMANDS = {
    "quickstart": "Train, export, serve and play CartPole: the whole pipeline in one command.",
    "train": "Train a policy on an environment and export it.",
    "evaluate": "Play episodes with an exported policy or through a server.",
    "simulate": "Play an environment in sessions with a server, or teach a policy in training.",
    "record": "Record a video of a policy, with its action distribution next to the picture.",
    "export": "Export the policy of a run: the best in evaluations, or the last.",
    "push": "Upload an exported policy to the Hugging Face Hub.",
    "pull": "Download a policy from the Hugging Face Hub and publish it.",
    "serve": "Serve exported policies over gRPC.",
    "label": "Put labels such as stable on versions of a policy.",
    "prune": "Delete old versions of policies.",
    "token": "Create a token that lets a simulator call a server.",
    "act": "Ask a policy server for an action.",
    "bench": "Measure the latency and throughput of a policy server.",
    "info": "Describe an exported policy or a running server.",
    "plot": "Draw the learning curves of one or several runs.",
    "tune": "Search for better settings for an environment.",
    "compare": "Compare the results of runs, with confidence intervals.",
    "presets": "List the presets, or show the settings of one.",
    "doctor": "Show versions, devices and missing packages.",
}


class _LazyGroup(click.Group):
    """A group that imports a command's module only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name != "serve":  # gRPC would also log failed handshakes, which our errors explain already
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        read_where_polled(os.environ)
        command: click.Command = importlib.import_module(f"pgkeras.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
        if args[0] not in _COMMANDS and near and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            _suggest_set(error)
            raise
        except PgkerasError as error:
            if ctx.params.get("traceback"):
                traceback.print_exception(error)
            raise click.ClickException(str(error)) from error


def _suggest_set(error: click.NoSuchOption) -> None:
    """Suggests --set if the unknown option is the name of a setting.

    Raises:
        click.UsageError: The option is a setting, and the command has --set.
    """
    from pgkeras.settings.config import settings

    name = error.option_name.lstrip("-").replace("-", "_")
    has_set = error.ctx is not None and any("--set" in parameter.opts for parameter in error.ctx.command.params)
    if has_set and name in [setting.name for setting in settings()]:
        raise click.UsageError(
            f"No such option {error.option_name!r}; set it with: --set {name}=VALUE", error.ctx
        ) from error


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--traceback", is_flag=True, envvar="PGKERAS_TRACEBACK", help="Show where an error was raised.")
@click.version_option(__version__, "-V", "--version", prog_name="pgkeras")
def _pgkeras(traceback: bool) -> None:
    """Train policies with REINFORCE and serve them over gRPC to simulators in any language."""


def main() -> None:
    """Runs the command line. Exits with 0, 1 for an error, 2 for wrong usage, or 128 plus the number of a signal."""
    # Lets module:EnvId find a module in the current directory, like python -m; appended, so that it shadows nothing.
    sys.path.append(str(Path.cwd()))
    try:
        code = _pgkeras.main(prog_name="pgkeras", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except SystemExit as error:
        code = error.code
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo("Interrupted.", err=True)
        code = 128 + _signal(error)
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        click.ClickException(f"the output cannot be written: {error.strerror}").show()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise flushing would fail again at exit
        code = 1
    _end_threads(code)
    if "tensorflow" in sys.modules:
        _leave(code)
    sys.exit(code)


def _signal(error: BaseException) -> int:
    """Returns the signal that interrupted the command. click converts the KeyboardInterrupt that names it to Abort."""
    interrupt = error.__cause__ if isinstance(error, click.Abort) else error
    return interrupt.args[0] if isinstance(interrupt, KeyboardInterrupt) and interrupt.args else signal.SIGINT


def _leave(code: Any) -> NoReturn:
    """Exits without finalizing TensorFlow, which takes 0.5 s."""
    atexit._run_exitfuncs()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))


def _end_threads(code: Any) -> None:
    """Exits, with a warning, if a foreign non-daemon thread would keep the process alive."""
    due = time.monotonic() + _THREAD_SECONDS
    others = [t for t in threading.enumerate() if t is not threading.current_thread() and not t.daemon]
    for thread in others:
        if not thread.name.startswith(("ThreadPoolExecutor", "pgkeras", "asyncio")):  # these end with the interpreter
            thread.join(max(0.0, due - time.monotonic()))
            if thread.is_alive():
                click.echo(f"Warning: the thread {thread.name!r} is still running; exiting without it.", err=True)
                _leave(code)
