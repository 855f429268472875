"""A new folder, whole or not at all: written beside its place under a scratch name, then renamed.

write_folder(Path("out"), {"data/train.parquet": b"..."})      # True: written; False: the same was there already
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from experiments.refine.release import ExportError

_SCRATCH = ".exporting-"


def write_folder(target: Path, files: Mapping[str, bytes]) -> bool:
    """Make `target` hold exactly `files` (relative name -> content); False if it does so already.

    A killed call leaves a scratch folder that the next one removes. Raises ExportError if the target holds anything
    else, cannot be written, or is being written by another process.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would follow a link at the target itself
    if _occupied(target):
        return _confirm(target, files)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(target) as scratch:
            for name, content in files.items():
                _write(scratch / name, content)
            scratch.rename(target)
    except OSError as error:
        if _occupied(target):  # since the look above, by another process
            return _confirm(target, files)
        raise ExportError(
            f"cannot write {target} ({error.strerror}); free space or permission, or give another folder with --to"
        ) from None
    return True


def _confirm(target: Path, files: Mapping[str, bytes]) -> bool:
    """False if the target holds the files already; ExportError if it holds anything else."""
    if not _holds(target, files):
        raise ExportError(f"{target} is not empty; give a new folder with --to, or remove it")
    return False


def _occupied(target: Path) -> bool:
    """Whether something is there that is not an empty folder."""
    try:
        return (target.exists() or target.is_symlink()) and (not target.is_dir() or any(target.iterdir()))
    except OSError as error:
        raise ExportError(f"{target} cannot be read ({error.strerror}); give another folder with --to") from None


def _holds(target: Path, files: Mapping[str, bytes]) -> bool:
    if not target.is_dir():
        return False
    there = {str(path.relative_to(target)): path for path in target.rglob("*") if not path.is_dir()}
    try:
        return there.keys() == files.keys() and all(path.read_bytes() == files[name] for name, path in there.items())
    except OSError:
        return False  # what cannot be read is not what would be written


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """An empty folder beside the target, held by this process; removed where the block fails."""
    folder = target.parent / f"{_SCRATCH}{target.name}"
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking, another process may have finished and renamed this very folder.
            mine = folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat())
        except BlockingIOError:
            mine = False
        if not mine:
            raise ExportError(f"another process is writing {target}; wait for it, then give the command again")
        for leftover in folder.iterdir():
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
