"""Damaged files of a run folder: reading a file whole to find out, and what to do about one.

read_whole(folder / Round(1).tally)            # raises one of UNREADABLE
mending(folder, Round(1).tally)                # 'delete the folder .../rounds/001, then give the run's ...'
refuse_earlier(folder, config["_target_"])     # raises StoreError for what this version cannot read
"""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.folder import layout
from synth.corpus import Corpus


class StoreError(RuntimeError):
    """A run folder cannot be used; the message says why and what to do."""


_GONE = "experiments.use_cases."


def refuse_earlier(folder: Path, target: object) -> None:
    """Raise StoreError for the run of a use case of an earlier version, whose `_target_` in config.yaml is gone."""
    if str(target).startswith(_GONE):
        raise StoreError(
            f"{folder} is the run of an earlier version; give its run command again into another folder (out=DIR), and "
            "then that one"
        )


UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, pa.ArrowException, BadZipFile, zlib.error)


def mending(folder: Path, name: str) -> str:
    """What to do about the file `name` of a run folder, damaged or missing, so that the same file is made again.

    A file that the run's command writes anew is deleted alone. What a round, or a key of a use case, left is whole or
    not at all, so its folder goes: the rounds behind it are then played again, too.
    """
    arm = Path(name).parts[:3] if name.startswith(f"{layout.ARMS}/") else ()
    parts = Path(name).parts[len(arm) :]
    # The first corpus and how it was written belong together.
    first = Path(layout.Round(0).place).parts
    whole = {layout.ROUNDS: parts[:2], layout.KEYS: parts[:2], layout.SEED_CORPUS: first}.get(parts[0])
    again = "give the run's command again"
    if whole is None and not (folder / name).exists():
        return again
    what = "it" if whole is None else f"the folder {folder.joinpath(*arm, *whole)}"
    return f"delete {what}, then {again}"


def read_whole(path: Path) -> None:
    """Read a file as what its name says that it is. Raises one of UNREADABLE if it is damaged or missing."""
    content = path.read_bytes()
    if path.name == Path(layout.Round(0).corpus).name:
        Corpus.from_parquet(path)  # examples say themselves whether they were changed
    if path.suffix == ".parquet":
        pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    elif path.suffix == ".npz":
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for name in arrays.files:
                arrays[name]
    elif path.suffix == ".npy":
        np.load(io.BytesIO(content), allow_pickle=False)
    elif path.suffix == ".json":
        json.loads(content)
    elif path.suffix == ".csv" and not content.decode().endswith("\n"):
        raise ValueError("the last line is cut off")
