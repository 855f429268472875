"""A new folder, whole or not at all: kills, full disks, several writers, and what is there already."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

import experiments.export_folder
from experiments.export_folder import write_folder
from experiments.refine.release import ExportError
from tests.experiments.conftest import contents

FILES = {f"data/{i}": bytes([i]) * 1000 for i in range(40)} | {"README.md": b"card"}


def refused(target: Path) -> str:
    with pytest.raises(ExportError) as error:
        write_folder(target, FILES)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_written_once(tmp_path):
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "new", tmp_path / "empty", tmp_path / "deep/er/place"):
        assert write_folder(target, FILES) and contents(target) == FILES
        before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
        assert not write_folder(target, FILES)
        assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "empty", "new"]


def test_other_content_is_never_touched(tmp_path):
    for name, content in (("more/note.txt", b"mine"), ("more/README.md", b"cart")):
        (tmp_path / "more").mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        assert "is not empty; give a new folder" in refused(tmp_path / "more")
        assert contents(tmp_path / "more") == {name.removeprefix("more/"): content}
        (tmp_path / name).unlink()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "is not empty" in refused(tmp_path / "file") and "is not empty" in refused(tmp_path / "link")
    assert "cannot write" in refused(tmp_path / "file" / "below")


def test_a_kill_leaves_nothing_in_place_and_the_next_call_succeeds(tmp_path, monkeypatch):
    target, scratch = tmp_path / "out", tmp_path / ".exporting-out"
    for kill_at in (1, 2, 41):
        pid = os.fork()
        if not pid:  # a real kill, in the middle of a file
            count = 0

            def dying(path, content, kill_at=kill_at):
                nonlocal count
                count += 1
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content[: len(content) // 2])
                if count == kill_at:
                    os.kill(os.getpid(), 9)

            monkeypatch.setattr(experiments.export_folder, "_write", dying)
            write_folder(target, FILES)
        assert os.waitpid(pid, 0)[1] == 9
        assert not target.exists() and scratch.is_dir()
    assert write_folder(target, FILES) and contents(target) == FILES
    assert not scratch.exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experiments.export_folder, "_write", full)
    assert "(No space left on device); free space or permission" in refused(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _write_once(target: str, barrier, results) -> None:
    barrier.wait()
    try:
        results.put(write_folder(Path(target), FILES))
    except ExportError as error:
        results.put(str(error))


def test_writers_at_once_end_with_one_whole_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        barrier, results, target = context.Barrier(3), context.Queue(), tmp_path / str(attempt)
        workers = [context.Process(target=_write_once, args=(str(target), barrier, results)) for _ in range(3)]
        for worker in workers:
            worker.start()
        found = [results.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join()
        assert found.count(True) == 1
        assert all(one in (True, False) or "another process is writing" in one for one in found), found
        assert contents(target) == FILES
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_another_process_finishes_meanwhile(tmp_path, monkeypatch):
    """It passed the first look, and at the end the target is there: the same is fine, anything else is kept."""
    write = experiments.export_folder._write
    for late, content in (("same", FILES), ("other", {"README.md": b"theirs"})):
        target = tmp_path / late

        def meanwhile(path, data, target=target, content=content):
            for name, theirs in content.items() if not target.exists() else ():
                write(target / name, theirs)
            write(path, data)

        monkeypatch.setattr(experiments.export_folder, "_write", meanwhile)
        if late == "same":
            assert not write_folder(target, FILES)
        else:
            assert "is not empty" in refused(target)
        assert contents(target) == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "same"]
