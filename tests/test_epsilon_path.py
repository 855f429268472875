"""Epsilon goes from YAML to the page by a short way, which docs/architecture.md draws: no other file reads one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
# Of a mechanism, a job, a trust model or a claim; `privacy` is where the numbers are made.
READERS = {
    "aggregate/trust.py",
    "aggregate/secure_aggregation.py",
    "experiments/job.py",
    "experiments/statement/facts.py",
}
# These read what a statement says, from a run folder.
OF_FOLDERS = "experiments/compare/"


def reads(source: str) -> list[int]:
    """Lines on which an attribute `epsilon` is read."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr == "epsilon" and isinstance(node.ctx, ast.Load)
    ]


def files() -> dict[str, str]:
    found = {}
    for package in ("aggregate", "device_poll", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            found[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    return found


def test_nobody_else_reads_an_epsilon() -> None:
    found = {name for name, source in files().items() if reads(source) and not name.startswith(OF_FOLDERS)}
    assert found == READERS


def test_the_page_shows_this_way() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Epsilon, from YAML to the page")[1].split("## ")[0]
    shown = re.findall(r"^    ((?:conf|privacy|experiments|aggregate)/\S+)", section, re.MULTILINE)
    assert len(shown) == len(set(shown)) <= 12, "no file is entered twice"
    assert READERS - {"aggregate/secure_aggregation.py"} <= set(shown)
    assert all((ROOT / name).exists() for name in shown if "NAME" not in name)


def test_comparisons_read_folders_and_no_mechanism() -> None:
    for name, source in files().items():
        if name.startswith(OF_FOLDERS):
            found = re.findall(r"^\s*(?:from|import) ((?:privacy|aggregate)\S*)", source, re.MULTILINE)
            assert set(found) <= {"privacy.poll"}, name


@pytest.mark.parametrize("source", ["x = job.epsilon", "def f(m):\n    return 2 * m.epsilon"])
def test_a_reader_is_found(source: str) -> None:
    """Negative control."""
    assert reads(source)
    assert not reads("self.epsilon = 1\nepsilon = 2\nf(epsilon=3)")
