"""The floor plan, which is the trust boundary: who may import whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.imports import imports, package_of

ROOT = Path(__file__).parents[1]
BOTTOM = {"privacy", "synth", "embed"}
MAY_IMPORT = {
    **{package: {package} for package in BOTTOM},
    "conf": {"conf"},
    "device_poll": {"device_poll", *BOTTOM},
    "aggregate": {"aggregate", *BOTTOM},
}
MAY_IMPORT["experiments"] = {"experiments", *MAY_IMPORT}
CONFIGURATION = {"hydra", "omegaconf"}
COMMAND_LINE = {f"experiments/{name}.py" for name in ("commands", "finished", "launch", "multirun", "words")}
HEAVY = {"torch", "transformers", "sentence_transformers", "faiss", "matplotlib"}


def imported(file: str, source: str) -> set[str]:
    """The outermost names of what a file imports."""
    return {found.module.split(".")[0] for found in imports(source, package_of(file))}


def violations(file: str, source: str) -> list[str]:
    """What the imports of `file` (relative to the root) break, one text each."""
    path, names = Path(file), imported(file, source)
    package = path.parts[0]
    found = [f"{file}: {package} imports {name}" for name in names & set(MAY_IMPORT) - MAY_IMPORT[package]]
    if file not in COMMAND_LINE:
        found += [f"{file}: {name} outside the command line" for name in names & CONFIGURATION]
    if path.name == "__init__.py":
        found += [f"{file}: {name} in an __init__" for name in names & HEAVY]
    return sorted(found)


def test_the_floor_plan_holds() -> None:
    files = {str(path.relative_to(ROOT)) for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py")}
    assert {f"{package}/__init__.py" for package in MAY_IMPORT} <= files
    assert [found for file in sorted(files) for found in violations(file, (ROOT / file).read_text("utf-8"))] == []


def test_the_command_line_is_all_that_knows_hydra() -> None:
    assert all(imported(file, (ROOT / file).read_text("utf-8")) & CONFIGURATION for file in COMMAND_LINE)


def test_the_plan_knows_every_package() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("privacy/x.py", "import embed.compact", ["privacy/x.py: privacy imports embed"]),
        ("synth/x.py", "from embed.encoder import Encoder", ["synth/x.py: synth imports embed"]),
        ("embed/x.py", "import numpy, privacy", ["embed/x.py: embed imports privacy"]),
        ("aggregate/x.py", "def f():\n    import device_poll.fleet", ["aggregate/x.py: aggregate imports device_poll"]),
        (
            "aggregate/x.py",
            "if TYPE_CHECKING:\n    from device_poll.population import Population",
            ["aggregate/x.py: aggregate imports device_poll"],
        ),
        ("device_poll/x.py", "import_module('aggregate.round')", ["device_poll/x.py: device_poll imports aggregate"]),
        ("device_poll/x.py", "import experiments", ["device_poll/x.py: device_poll imports experiments"]),
        ("experiments/run.py", "import hydra", ["experiments/run.py: hydra outside the command line"]),
        ("experiments/count/x.py", "import hydra", ["experiments/count/x.py: hydra outside the command line"]),
        ("synth/x.py", "def f():\n    from omegaconf import II", ["synth/x.py: omegaconf outside the command line"]),
        ("embed/__init__.py", "from torch import nn", ["embed/__init__.py: torch in an __init__"]),
        ("embed/a/__init__.py", "import faiss", ["embed/a/__init__.py: faiss in an __init__"]),
    ],
)  # fmt: skip
def test_a_violation_is_reported(file: str, source: str, expected: list[str]) -> None:
    assert violations(file, source) == expected


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("experiments/launch.py", "import hydra\nfrom omegaconf import OmegaConf"),
        ("experiments/run.py", "import aggregate.round, device_poll.fleet, synth.corpus"),
        ("aggregate/x.py", "from privacy.mechanism import Tally\nimport embed, synth"),
        ("synth/x.py", "import torch\nfrom . import corpus"),
    ],
)
def test_what_is_allowed_is_not_reported(file: str, source: str) -> None:
    assert violations(file, source) == []
