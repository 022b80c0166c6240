"""Options of the commands that call a server: TLS and tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["connection_options"]

_FILE = click.Path(path_type=Path, dir_okay=False)
_OPTIONS = (
    ("--tls", {"is_flag": True, "help": "Connect with TLS, and trust gRPC's default certificate authorities."}),
    ("--tls-ca", {"type": _FILE, "help": "Connect with TLS, and trust the certificate authorities in this PEM file."}),
    ("--tls-cert", {"type": _FILE, "help": "PEM file of a client certificate, if the server requires one."}),
    ("--tls-key", {"type": _FILE, "help": "PEM file of the client certificate's private key."}),
    ("--tls-server-name", {"metavar": "NAME", "help": "Name in the server's certificate, if it is not the host."}),
    ("--token", {"help": "Token, if the server requires one; safer in the variable, as others can see arguments."}),
)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options. The command gets ``connection``, with the arguments ``tls`` and ``token`` of PolicyClient."""

    @functools.wraps(command)
    def wrapped(
        tls: bool,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_server_name: str | None,
        token: str | None,
        **arguments: Any,
    ) -> Any:
        from pgkeras.client.connection import Tls

        parts = tls_ca, tls_cert, tls_key, tls_server_name
        wanted = tls or any(part is not None for part in parts)
        return command(**arguments, connection={"tls": Tls(*parts) if wanted else False, "token": token})

    for flag, attributes in reversed(_OPTIONS):
        variable = "PGKERAS_" + flag.strip("-").replace("-", "_").upper()
        wrapped = click.option(flag, envvar=variable, show_envvar=True, **attributes)(wrapped)
    return wrapped
