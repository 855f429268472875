"""Damaged files of a run folder: reading a file whole to find out, and what to do about one.

read_whole(folder / "rounds/001/tally.npz")            # raises one of UNREADABLE
mending(folder, "rounds/001/tally.npz")                # 'delete the folder .../rounds/001, then give the run's ...'
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

from synth.corpus import Corpus

UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, pa.ArrowException, BadZipFile, zlib.error)


def mending(folder: Path, name: str) -> str:
    """What to do about the file `name` of a run folder, damaged or missing, so that the same file is made again.

    A file that the run's command writes anew is deleted alone. What a round, or a key of a use case, left is whole or
    not at all, so its folder goes: the rounds behind it are then played again, too.
    """
    if name == "audit.json":
        return "delete it, then give synthpoll audit again"
    arm = Path(name).parts[:3] if name.startswith("oracle/arms/") else ()
    parts = Path(name).parts[len(arm) :]
    # The first corpus and how it was written belong together.
    whole = {"rounds": parts[:2], "segments": parts[:2], "seed_corpus.json": ("rounds", "000")}.get(parts[0])
    again = "give the run's command again"
    if whole is None and not (folder / name).exists():
        return again
    what = "it" if whole is None else f"the folder {folder.joinpath(*arm, *whole)}"
    return f"delete {what}, then {again}"


def read_whole(path: Path) -> None:
    """Read a file as what its name says that it is. Raises one of UNREADABLE if it is damaged or missing."""
    content = path.read_bytes()
    if path.name == "corpus.parquet":
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
