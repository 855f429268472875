"""Runs of the smoke experiment: fakes for the models, everything else real."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from rich.console import Console

import experiments.noise
import experiments.run
from experiments.launch import load_job
from experiments.run import run_job
from privacy.randomness import NoiseSource

Run = Callable[..., Path]


@pytest.fixture
def compose_job():
    def composed(*overrides: str):
        with initialize_config_module("conf", version_base="1.3"):
            return load_job(compose("config", overrides=list(overrides)))

    return composed


@pytest.fixture
def smoke(tmp_path, compose_job) -> Run:
    """Run the smoke experiment into tmp_path/NAME with extra overrides."""

    def run(name: str, *overrides: str, console: Console | None = None) -> Path:
        job = compose_job(
            "experiment=smoke",
            f"out={tmp_path / name}",
            f"cache={tmp_path / 'cache'}",
            "devices.devices=900",
            *overrides,
        )
        return run_job(*job, console or Console(file=io.StringIO(), width=150))

    return run


@pytest.fixture(scope="session", autouse=True)
def same_noise_in_every_folder(tmp_path_factory) -> Iterator[None]:
    """Noise is bound to the configuration, in which paths of temporary files are: without this every run of the tests
    would draw other noise. Tests of other processes, which do not see this, have none but equal paths to compare.
    """
    place = re.compile(re.escape(str(tmp_path_factory.getbasetemp())) + r"/([^/\s'\"]*?)\d*(?=[/\s'\"])")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            experiments.noise,
            "configuration_digest",
            lambda config: hashlib.sha256(place.sub(r"/\1", config).encode()).hexdigest(),
        )
        yield


@pytest.fixture
def unbound_noise(monkeypatch) -> None:
    """Test double: noise that is not bound to the configuration, so that what ELSE a setting changes can be seen."""
    monkeypatch.setattr(experiments.run, "noise_of", lambda job, folder, config: NoiseSource.seeded(job.seed))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run folder but timings.csv, by relative name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timings.csv"
    }
