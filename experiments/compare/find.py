"""From what a user types (run folders, sweep folders, globs) to run folders, in a stable order.

found = find_runs(["runs/town", "runs/enron-*"])
found.folders        # run folders with at least one complete round or key
found.left_out       # 'PATH: why', for what a sweep or glob matched and cannot be compared
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.compare.sweeps import is_sweep, read_sweep
from experiments.folder.layout import CONFIG, FACTS, KEYS, ROUNDS, Key, Round
from experiments.folder.reader import CompareError

_DEPTH = 5  # a sweep is runs/NAME/OVERRIDES/...; deeper would mean to walk over somebody's home


@dataclass(frozen=True, kw_only=True)
class Found:
    """Run folders, and what was left out with the reason."""

    folders: tuple[Path, ...]
    left_out: tuple[str, ...]


def find_runs(arguments: Sequence[str]) -> Found:
    """The run folders that `arguments` name.

    Raises CompareError if one does not exist, a glob matches nothing, or no run has a complete round or key. Beside
    runs that can be compared, others are left out and listed: a shell that expands runs/* names the runs' logs and
    newborn runs, too.
    """
    folders: dict[Path, Path] = {}
    left_out: dict[str, str] = {}
    for argument in arguments:
        named = _places(argument)
        if not named:
            left_out[argument] = f"not a run folder (it has no {CONFIG} and {FACTS}), and holds none"
        for folder, why in named:
            if why is None and has_complete_step(folder):
                folders.setdefault(folder.resolve(), folder)
            else:
                left_out[str(folder)] = why or _unready(folder)
    lines = tuple(f"{path}: {why}" for path, why in left_out.items())
    if not folders:
        more = f", and {len(lines) - 1} more like it" if len(lines) > 1 else ""
        todo = "name a run folder that has printed its first round, or its first table of a key"
        raise CompareError(f"nothing to compare: {lines[0]}{more}; {todo}")
    return Found(folders=tuple(folders.values()), left_out=lines)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run folder, finished or not."""
    return (folder / CONFIG).is_file() and ((folder / FACTS).is_file() or (folder / ROUNDS).is_dir())


def has_complete_step(folder: Path) -> bool:
    """Whether at least the first poll, or any key of a count, is complete."""
    return (folder / Round(0).mark).is_file() or any(folder.glob(Key("*").mark))


# A run folder; or what should be one, and why it is none.
_Place = tuple[Path, str | None]


def _places(argument: str) -> list[_Place]:
    """Run folders behind one argument, finished or not."""
    path = Path(argument).expanduser()
    if argument and path.exists():
        return list(_walk(path, _DEPTH))
    if not glob.has_magic(argument):
        raise CompareError(f"{argument!r} does not exist; expected a run folder, a sweep folder or a glob of them")
    matches = sorted((Path(match) for match in glob.glob(str(path), recursive=True)), key=natural)  # noqa: PTH207
    inside = [place for match in matches for place in _walk(match, _DEPTH)]
    if not inside:
        what = f"{len(matches)} paths, but no run folder" if matches else "nothing"
        raise CompareError(f"the glob {argument} matches {what}; expected run folders or sweep folders")
    return inside


def _walk(folder: Path, depth: int) -> Iterator[_Place]:
    """Run folders in `folder`, itself included. What lies inside a run (arms, for instance) is part of it.

    A sweep folder stands for the runs that it lists, which lie elsewhere.
    """
    if is_run(folder):
        yield folder, None
    elif is_sweep(folder):
        for member in read_sweep(folder).members:
            place = member.folder or folder / member.label
            yield place, None if has_complete_step(place) else member.absence
    elif depth and folder.is_dir():
        try:
            inside = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return  # gone since its parent was listed
        except OSError as error:
            raise CompareError(f"{folder} cannot be read ({error.strerror}); name the run folders themselves") from None
        for child in sorted(inside, key=natural):
            if not child.name.startswith("."):
                yield from _walk(child, depth - 1)


def natural(path: Path) -> list[tuple[int, float, str]]:
    """A sorting key by which eps2 comes before eps10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", str(path))
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]


def _unready(folder: Path) -> str:
    return f"no complete {'key' if (folder / KEYS).is_dir() else 'round'} yet"
