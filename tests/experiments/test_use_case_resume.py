"""A use case that was killed, between segments or anywhere, ends with the same bytes as one that was not.

Kills are real (SIGKILL) and come before a change on disk that is chosen by name (fault_children.py).
"""

from __future__ import annotations

import signal

import pytest

import experiments.count.counting
from tests.experiments.conftest import contents
from tests.experiments.fault_driver import shared_driver
from tests.experiments.use_case_files import arguments, play, write_files

KILLED = -int(signal.SIGKILL)
STEPS = (
    "flush .*config.yaml",
    "rename .*/run.json",
    "open .*/oracle/.*devices.json",
    "rename .*/privacy.md",
    "flush .*/emoji.en/.*histogram.parquet",
    "rename emoji.en/oracle/truth.parquet",
    "rename .*/emoji.en/segment.json",
    "mkdir .*/emoji.fr",
    "flush .*/emoji.fr/.*metrics.json",
    "flush .*/emoji.fr/.*segment.json",
    "rename .*/differences/emoji.en-fr.parquet",
    "rename .*/metrics.csv",
    "flush .*/oracle/.*metrics.parquet",
    "open .*report.html",
    "rename run/oracle/report.html",
)
BETWEEN_SEGMENTS = "mkdir .*/emoji.fr"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, files):
    """A digest of every file of an uninterrupted run of emoji."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    played = shared_driver().run("run", *arguments(files, "emoji"), f"out={folder}")
    assert played.code == 0, played.error
    return shared_driver().contents(folder)


@pytest.mark.parametrize("steps", [STEPS, [BETWEEN_SEGMENTS]], ids=["in every kind of write", "between segments"])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, files, whole, steps):
    """Killed before each of these, one after the other, a run ends bit-identical to an uninterrupted one."""
    driver, command = shared_driver(), ["run", *arguments(files, "emoji"), f"out={tmp_path / 'run'}"]
    for step in steps:
        killed = driver.run(*command, kill=[step], tear=True)
        assert killed.code == KILLED, (step, killed.code, killed.error)
    resumed = driver.run(*command)
    assert resumed.code == 0, resumed.error
    assert driver.contents(tmp_path / "run") == whole


def test_a_complete_segment_is_not_played_again(tmp_path, files, monkeypatch):
    folder = play(tmp_path / "run", files, "emoji")
    whole = contents(folder)
    (folder / "segments" / "emoji.fr" / "segment.json").unlink()
    played = []
    play_group = experiments.count.counting.play
    monkeypatch.setattr(
        experiments.count.counting,
        "play",
        lambda job, group, wanted, *rest: (
            played.append((group.name, [key.key for key in wanted])) or play_group(job, group, wanted, *rest)
        ),
    )
    assert contents(play(folder, files, "emoji")) == whole
    assert played == [("fr", ["emoji.fr"])]
