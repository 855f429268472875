"""What a Python file imports, read from its text: inside functions and under TYPE_CHECKING too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Imported(NamedTuple):
    """`import module`, or `from module import name`."""

    module: str
    name: str | None = None


def package_of(file: str) -> str:
    """experiments.count for experiments/count/job.py."""
    return Path(file).parent.as_posix().replace("/", ".")


def imports(source: str, package: str) -> list[Imported]:
    """All imports of a file of `package` ('experiments.count'), and calls of import_module with a constant."""
    return [found for node in ast.walk(ast.parse(source)) for found in _of(node, package)]


def _of(node: ast.AST, package: str) -> Iterator[Imported]:
    if isinstance(node, ast.Import):
        yield from (Imported(alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = _absolute("." * node.level + (node.module or ""), package)
        yield from (Imported(module, alias.name) for alias in node.names)
    elif isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__"):
            names = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            yield from (Imported(_absolute(str(name), package)) for name in names)


def _absolute(name: str, package: str) -> str:
    """'..x' of the package a.b is a.x."""
    if not name.startswith("."):
        return name
    rest = name.lstrip(".")
    above = package.split(".")[: len(package.split(".")) - (len(name) - len(rest)) + 1]
    return ".".join([*above, rest] if rest else above)
