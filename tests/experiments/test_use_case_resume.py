"""A use case that was killed, between segments or anywhere, ends with the same bytes as one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import experiments.use_cases.groups
from experiments.store import RunFolder
from tests.experiments.conftest import contents
from tests.experiments.use_case_files import arguments, play, write_files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, files):
    """Every file of an uninterrupted run of emoji."""
    return contents(play(tmp_path_factory.mktemp("whole") / "run", files, "emoji"))


class Killed(BaseException):
    """Stands for a kill at this point: nothing after it runs."""


@pytest.mark.parametrize("kill_at", range(2, 24, 5))
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, files, whole, monkeypatch, kill_at):
    """Killed after any number of written files, and again, a run ends bit-identical to an uninterrupted one."""
    write, count = RunFolder.write_bytes, 0

    def dying(self, name, content):
        nonlocal count
        count += 1
        if count in (kill_at, kill_at + 5):
            raise Killed
        write(self, name, content)

    monkeypatch.setattr(RunFolder, "write_bytes", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            play(tmp_path / "broken", files, "emoji")
    assert contents(play(tmp_path / "broken", files, "emoji")) == whole


def test_a_complete_segment_is_not_played_again(tmp_path, files, monkeypatch):
    folder = play(tmp_path / "run", files, "emoji")
    whole = contents(folder)
    (folder / "segments" / "emoji.fr" / "segment.json").unlink()
    played = []
    collect = experiments.use_cases.groups.collect
    monkeypatch.setattr(
        experiments.use_cases.groups,
        "collect",
        lambda job, segment, *rest: played.append(segment.name) or collect(job, segment, *rest),
    )
    assert contents(play(folder, files, "emoji")) == whole
    assert played == ["fr"]


def test_kill_9_between_segments_and_resume(tmp_path, files):
    """A real process and a real SIGKILL after the first complete segment."""
    days = ["days=6", "population=20000"]
    whole = contents(play(tmp_path / "whole", files, "emoji", *days))
    command = [
        sys.executable, "-m", "experiments", "run", *arguments(files, "emoji", *days), f"out={tmp_path / 'killed'}"
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mark = tmp_path / "killed" / "segments" / "emoji.en" / "segment.json"
    deadline = time.monotonic() + 120
    while not mark.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert mark.exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "killed") == whole
