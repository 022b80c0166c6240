"""The public API: every name and signature, compared with the committed ``api.txt``.

``python -m tests.compatibility.test_api`` writes the file. A removed or changed line breaks users' code and needs a
line in CHANGELOG.md; a new line does not.
"""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.test_public_names import PUBLIC

FILE = Path(__file__).parent / "api.txt"


def lines() -> Iterator[str]:
    for module in PUBLIC:
        found = importlib.import_module(module)
        for name in PUBLIC[module].split():
            yield from described(f"{module}.{name}", getattr(found, name))


def described(path: str, what: Any) -> Iterator[str]:
    """Yields one line per function; for a class, one for itself and one for each public method, property and member."""
    if inspect.isclass(what):
        bases = ", ".join(base.__name__ for base in what.__bases__ if base is not object)
        yield f"class {path}({bases})"
        if issubclass(what, enum.Enum):
            yield from (f"{path}.{member.name}" for member in what)
            return
        if what.__init__ is not object.__init__ and not issubclass(what, BaseException):
            yield f"{path}{inspect.signature(what)}"
        for name, value in sorted(vars(what).items()):
            if name.startswith("_"):
                continue
            if isinstance(value, property):
                yield f"{path}.{name}: property"
            elif callable(value) or isinstance(value, classmethod | staticmethod):
                yield f"{path}.{name}{inspect.signature(getattr(what, name))}"
    elif callable(what):
        yield f"{path}{inspect.signature(what)}"
    else:
        yield f"{path}: {type(what).__name__}"


def test_the_public_api_matches_the_file() -> None:
    kept, now = FILE.read_text(encoding="utf-8").splitlines(), list(lines())
    removed = [line for line in kept if line not in now]
    new = [line for line in now if line not in kept]
    assert not removed, "removed or changed: add it to CHANGELOG.md, then run python -m tests.compatibility.test_api"
    assert not new, "new: run python -m tests.compatibility.test_api"


def test_a_changed_default_is_detected() -> None:
    def one(a: int, *, b: str = "x") -> None: ...

    def other(a: int, *, b: str = "y") -> None: ...

    assert list(described("f", one)) == ["f(a: 'int', *, b: 'str' = 'x') -> 'None'"]
    assert list(described("f", one)) != list(described("f", other))


if __name__ == "__main__":
    FILE.write_text("".join(f"{line}\n" for line in lines()), encoding="utf-8")
