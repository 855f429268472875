"""No file is part of an import circle, whether the import runs at once, later inside a function, or for types alone.

Files that need each other can only be understood together. Where two do, what both need belongs in a file below them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.imports import Imported, imports, package_of

ROOT = Path(__file__).parents[1]
PACKAGES = ("privacy", "synth", "embed", "device_poll", "aggregate", "experiments")

Graph = Mapping[str, set[str]]
"""The files that each file imports."""


def graph_of(root: Path, packages: Iterable[str]) -> dict[str, set[str]]:
    """Of all files of the packages. A package's __init__ is imported by whoever takes a name of its own from it, and
    not by whoever imports a file inside it.
    """
    files = {str(path.relative_to(root)) for package in packages for path in (root / package).rglob("*.py")}
    return {
        file: {
            target
            for found in imports((root / file).read_text("utf-8"), package_of(file))
            if (target := _file_of(found, files))
        }
        for file in files
    }


def _file_of(found: Imported, files: set[str]) -> str | None:
    """The file that is imported; None: it is not ours."""
    inside = [f"{found.module}.{found.name}"] if found.name else []
    for module in [*inside, found.module]:
        stem = module.replace(".", "/")
        for file in (f"{stem}.py", f"{stem}/__init__.py"):
            if file in files:
                return file
    return None


def circles(graph: Graph) -> list[list[str]]:
    """The files of each circle: those that reach one another. A file that imports itself is one."""
    reached = {file: _reached(graph, file) for file in graph}
    found = {tuple(sorted(other for other in reached[file] if file in reached[other])) for file in graph}
    return sorted(list(files) for files in found if files)


def _reached(graph: Graph, start: str) -> set[str]:
    """What a file imports, itself or by way of others."""
    seen: set[str] = set()
    left = set(graph[start])
    while left:
        file = left.pop()
        seen.add(file)
        left |= graph[file] - seen
    return seen


def told(graph: Graph, circle: list[str]) -> str:
    """The files of a circle, and what each imports of it."""
    return "\n".join(f"{file} imports {', '.join(sorted(graph[file] & set(circle)))}" for file in circle)


def test_no_file_is_part_of_a_circle() -> None:
    graph = graph_of(ROOT, PACKAGES)
    assert len(graph) > 150
    assert sum(len(targets) for targets in graph.values()) > 500, "imports are not seen"
    found = circles(graph)
    assert not found, "\n\n".join(["import circles:", *(told(graph, circle) for circle in found)])


def write(root: Path, **files: str) -> dict[str, set[str]]:
    """The graph of a folder with the package p and these files in it; '__' stands for a folder's '/'."""
    for name, source in {"__init__": "", **files}.items():
        path = root / "p" / ("__init__.py" if name == "__init__" else f"{name.replace('__', '/')}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, "utf-8")
    return graph_of(root, ["p"])


@pytest.mark.parametrize(
    "back",
    [
        "import p.a",
        "from p import a",
        "from p.a import A",
        "from . import a",
        "from .a import A",
        "def f():\n    from p.a import A",
        "class B:\n    def f(self):\n        import p.a as a",
        "if TYPE_CHECKING:\n    from p.a import A",
        "def f():\n    return importlib.import_module('p.a')",
        "try:\n    import p.a\nexcept ImportError:\n    pass",
    ],
)
def test_a_circle_is_reported(tmp_path: Path, back: str) -> None:
    # a -> b -> a; c is above both and d below, and neither is part of it.
    graph = write(tmp_path, a="from p.b import B", b=f"import numpy\nimport p.d\n{back}", c="from p import a, d", d="")
    assert circles(graph) == [["p/a.py", "p/b.py"]]
    assert told(graph, ["p/a.py", "p/b.py"]) == "p/a.py imports p/b.py\np/b.py imports p/a.py"


def test_long_circles_folders_and_several_are_reported(tmp_path: Path) -> None:
    graph = write(
        tmp_path,
        a="import p.b",
        b="from p.c import x",
        c="from p.inner.d import x",
        inner__d="from .. import a",
        e="from p import f",
        f="def g():\n    from p import e",
        g="import p.g",
    )
    assert circles(graph) == [["p/a.py", "p/b.py", "p/c.py", "p/inner/d.py"], ["p/e.py", "p/f.py"], ["p/g.py"]]


def test_an_init_that_its_own_files_take_names_from_is_a_circle(tmp_path: Path) -> None:
    graph = write(tmp_path, __init__="from p.a import A", a="from p import B", b="import p.a")
    assert circles(graph) == [["p/__init__.py", "p/a.py"]]


def test_a_tree_has_no_circle(tmp_path: Path) -> None:
    graph = write(
        tmp_path,
        __init__="from p.a import A",
        a="import p.b, p.c\nfrom p import d",
        b="from p.c import C\ndef f():\n    from p import d",
        c="if TYPE_CHECKING:\n    from p.d import D",
        d="import numpy, other.p.a\nname = 'import p.a'",
    )
    assert graph["p/a.py"] == {"p/b.py", "p/c.py", "p/d.py"}
    assert circles(graph) == []
