"""``pgkeras token``."""

from __future__ import annotations

from pathlib import Path

import click
from pgkeras_serving.transport.tokens import create_token, hashed_line, read_tokens

from pgkeras.errors import ConfigError
from pgkeras.files import changing_alone, whole_file

__all__ = ["command"]


@click.command()
@click.argument("name")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Add the hashed line to this file, the server's --token-file, instead of printing it.",
)
def command(name: str, file: Path | None) -> None:
    """Create a token that lets a simulator call a server.

    NAME identifies the token's owner. The token is printed on standard output and stored nowhere; the server needs only
    its hash. To revoke a token, delete its line; a running server notices within a second.

    \b
    Example:
      export PGKERAS_TOKEN=$(pgkeras token robot-7 --file tokens)
      pgkeras serve --token-file tokens
    """
    token = create_token()
    line = hashed_line(name, token)
    if file is None:
        click.echo("Line for the file that the server's --token-file names:", err=True)
        click.echo(line, err=True)
        click.echo("Token, which is not shown again:", err=True)
    else:
        _append(file, name, line)
    click.echo(token)


def _append(file: Path, name: str, line: str) -> None:
    """Appends a line. The file keeps its owner and mode, because the server may run as another user."""
    file = file.resolve()  # replaces the target of a link, not the link
    try:
        with changing_alone(file.parent):
            text = ""
            if file.exists():
                if name in read_tokens(file).values():
                    raise ConfigError(f"{file} has a token named {name!r}: choose another name, or delete its line")
                text = file.read_text(encoding="utf-8")
            whole = text + ("\n" if text and not text.endswith("\n") else "") + line + "\n"
            with whole_file(file, mode=0o600, like=file if file.exists() else None) as scratch:
                scratch.write(whole.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
