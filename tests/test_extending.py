"""docs/extending.md does what it says: its code blocks are put where their first lines say, and run."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from rich.console import Console

import aggregate
import privacy
from experiments.launch import load_job
from experiments.run import run_job
from tests.experiments.test_golden import numbers

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
BLOCK = re.compile(r"```(?:python|yaml)\n# file: (\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def overlay(tmp_path, monkeypatch):
    """The page's files, beside those of the project."""
    files = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    for name, content in files.items():
        path = tmp_path / "overlay" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    for package in (privacy, aggregate):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "overlay" / package.__name__)])
    yield tmp_path / "overlay"
    for name in files:
        module = name.removesuffix(".py").replace("/", ".")
        package, _, attribute = module.rpartition(".")
        if sys.modules.pop(module, None) is not None:
            delattr(sys.modules[package], attribute)


@pytest.fixture
def run(tmp_path, overlay):
    def run(name: str, *overrides: str) -> Path:
        given = [f"hydra.searchpath=[file://{overlay / 'conf'}]", f"out={tmp_path / name}", "tracker=none", *overrides]
        with initialize_config_module("conf", version_base="1.3"):
            job = load_job(compose("config", overrides=given))
        return run_job(*job, Console(file=io.StringIO(), width=150))

    return run


def smoke(tmp_path) -> list[str]:
    return ["experiment=smoke", f"cache={tmp_path / 'cache'}", "devices.devices=900"]


def test_every_block_is_one_new_file(overlay):
    """At most three files each, beside the test and the configuration: here one, none and one."""
    code = list(overlay.rglob("*.py"))
    assert sorted(path.name for path in code) == ["one_coordinate.py", "share_selector.py"]
    root = PAGE.parents[1]
    assert not [path for path in overlay.rglob("*.*") if (root / path.relative_to(overlay)).exists()]


def test_a_mechanism(tmp_path, run, overlay):
    folder = run("smoke", *smoke(tmp_path), "mechanism=one_coordinate")
    page = (folder / "privacy.md").read_text()
    assert "one_coordinate" in page and "moves a count is not known; take it to be unbounded" in page
    folder = run(
        "count", "experiment=health_types", "mechanism=one_coordinate", "trust=shuffled", "population=3000",
        "minimum_batch=100",
    )  # fmt: skip
    assert "one_coordinate" in (folder / "run.json").read_text()


def test_the_mechanism_is_unbiased_and_holds_its_epsilon(overlay):
    from privacy.one_coordinate import OneCoordinate

    mechanism = OneCoordinate(epsilon=2.0, domain_size=5)
    truth, polls = np.array([600, 250, 100, 50, 0]), 200
    values = np.repeat(np.arange(5), truth)
    rng = np.random.default_rng(0)
    estimates = [mechanism.estimate(mechanism.tally(mechanism.privatize(values, rng))).counts for _ in range(polls)]
    stderr = np.array([mechanism.standard_error(1000, count) for count in truth])
    z = (np.array(estimates) - truth) / stderr
    assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(polls)
    assert np.abs((z**2).mean(axis=0) - 1).max() < 5 * np.sqrt(2 / polls)
    # The exact channel: a coordinate, and a bit that is flipped with probability q.
    q = mechanism.q
    assert (1 - q) / q <= np.exp(2.0)
    # Negative control: without rounding up, the smallest float above would break it.
    assert (1 - q * (1 - 1e-9)) / (q * (1 - 1e-9)) > np.exp(2.0)


def test_it_can_be_audited(overlay):
    given = [f"hydra.searchpath=[file://{overlay / 'conf'}]", "mechanism=one_coordinate", "trials=2000"]
    with initialize_config_module("conf", version_base="1.3"):
        found = instantiate(compose("audit", overrides=given), _convert_="object").run()
    assert found.epsilon_lower <= 4.0


def test_a_use_case(tmp_path, run):
    table = tmp_path / "apps.csv"
    table.write_text("app,opens\nmail,90\nmaps,60\nmusic,30\nnotes,10\n", encoding="utf-8")
    small = ["experiment=app_opens", f"vocabulary.path={table}", "population=3000", "minimum_batch=100"]
    folder = run("plain", *small)
    found = numbers(folder)["segments/app_opens/histogram.parquet"]
    assert found["element"][:2] == ["mail", "maps"]
    shared = run("shared", *small, "trust=secure_aggregation", f"ledger={tmp_path / 'devices.db'}")
    assert numbers(shared)["segments/app_opens/histogram.parquet"]["element"][:2] == ["mail", "maps"]


def test_a_selector(tmp_path, run):
    few = run(
        "few", *smoke(tmp_path), "decision=survival", "selector@decision.selector=share", "decision.selector.share=0.3"
    )
    many = run("many", *smoke(tmp_path), "decision=survival", "selector@decision.selector=share")
    winners = [int(numbers(folder)["metrics.csv"][0]["winners"]) for folder in (few, many)]
    assert winners[0] < winners[1]
