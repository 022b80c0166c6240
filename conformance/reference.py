"""Generates ``docs/protocol/reference.md`` from the comments in ``protos/``.

python -m conformance.reference            writes docs/protocol/reference.md
python -m conformance.reference --check    fails if the file is out of date
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from conformance.clients import environment

__all__ = ["FILE", "generate"]

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "protocol" / "reference.md"
_PACKAGE = "pgkeras.v1"
_HEADER = """\
# Reference

Every method, message and field of `pgkeras.v1`. Written by `python -m conformance.reference` from the comments in
[`protos/pgkeras/v1`](../../protos/pgkeras/v1); change those. Field numbers stand before the fields' names.
"""
# Field numbers of descriptor.proto, which form the paths of source locations.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_FIELD, _ONEOF, _VALUE, _METHOD = 2, 8, 2, 2
_Field = descriptor_pb2.FieldDescriptorProto
_Path = tuple[int, ...]


def generate() -> str:
    """Returns the text of the page.

    Raises:
        subprocess.CalledProcessError: buf rejects the files.
        FileNotFoundError: buf is not installed.
    """
    command = ["buf", "build", str(ROOT / "protos"), "--as-file-descriptor-set", "--output", "-"]
    built = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True).stdout
    files = [file for file in descriptor_pb2.FileDescriptorSet.FromString(built).file if file.package == _PACKAGE]
    order = ["service.proto", "policy.proto", "tensors.proto", "spaces.proto"]
    files.sort(key=lambda file: order.index(Path(file.name).name))
    return _HEADER + "".join(block for file in files for block in _file(file))


def _file(file: Any) -> Iterator[str]:
    comments = {
        tuple(location.path): location.leading_comments
        for location in file.source_code_info.location
        if location.leading_comments
    }
    name = Path(file.name).name
    yield f"\n## {name}\n"
    for i, service in enumerate(file.service):
        yield from _service(service, comments, (_SERVICE, i))
    for i, message in enumerate(file.message_type):
        yield from _message(message, comments, (_MESSAGE, i))
    for i, enum in enumerate(file.enum_type):
        yield from _enum(enum, comments, (_ENUM, i))


def _service(service: Any, comments: dict[_Path, str], path: _Path) -> Iterator[str]:
    yield f"\n### {service.name}\n\n{_prose(comments[path])}\n"
    yield "\n| method | takes | answers | |\n| --- | --- | --- | --- |\n"
    for i, method in enumerate(service.method):
        takes = ("stream of " if method.client_streaming else "") + _linked(method.input_type)
        answers = ("stream of " if method.server_streaming else "") + _linked(method.output_type)
        yield f"| `{method.name}` | {takes} | {answers} | {_cell(comments[*path, _METHOD, i])} |\n"


def _message(message: Any, comments: dict[_Path, str], path: _Path) -> Iterator[str]:
    yield f"\n### {message.name}\n\n{_prose(comments[path])}\n"
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    if message.field:
        yield "\n| | field | type | |\n| --- | --- | --- | --- |\n"
    told: set[int] = set()
    for i, field in enumerate(message.field):
        union = field.oneof_index if field.HasField("oneof_index") and not field.proto3_optional else None
        if union is not None and union not in told:
            told.add(union)
            about = _cell(comments[*path, _ONEOF, union])
            yield f"| | *one of `{message.oneof_decl[union].name}`* | | {about} |\n"
        name = f"`{field.name}`" if union is None else f"· `{field.name}`"
        yield f"| {field.number} | {name} | {_type(field, maps)} | {_cell(comments[*path, _FIELD, i])} |\n"


def _enum(enum: Any, comments: dict[_Path, str], path: _Path) -> Iterator[str]:
    yield f"\n### {enum.name}\n\n{_prose(comments[path])}\n\n| | value | |\n| --- | --- | --- |\n"
    for i, value in enumerate(enum.value):
        yield f"| {value.number} | `{value.name}` | {_cell(comments[*path, _VALUE, i])} |\n"


def _type(field: Any, maps: dict[str, Any]) -> str:
    if field.type in (_Field.TYPE_MESSAGE, _Field.TYPE_ENUM):
        entry = maps.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            key, value = entry.field
            return f"map of {_type(key, {})} to {_type(value, {})}"
        name = _linked(field.type_name)
    else:
        name = _Field.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == _Field.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def _linked(full_name: str) -> str:
    package, _, name = full_name.removeprefix(".").rpartition(".")
    return f"[{name}](#{name.lower()})" if package == _PACKAGE else f"{package}.{name}"


def _prose(comment: str) -> str:
    return "\n".join(line.removeprefix(" ") for line in comment.rstrip("\n").split("\n"))


def _cell(comment: str) -> str:
    return " ".join(comment.split()).replace("|", "\\|")


def main() -> None:
    """Writes the page, or checks it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="do not write; fail if the file is out of date")
    if not parser.parse_args().check:
        FILE.write_text(generate(), encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != generate():
        sys.exit("docs/protocol/reference.md is out of date: run make protos")


if __name__ == "__main__":
    main()
