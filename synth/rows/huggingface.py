"""A Hugging Face data set on disk, read without the `datasets` package: every split, in order.

Two layouts: what `save_to_disk` writes (Arrow streams, `state.json` or `dataset_dict.json`), and what a hub repository
holds (`data/train-00000-of-00001.parquet`, or JSON lines, or CSV). To read one split, give its folder or file.

    read_huggingface(Path("my_dataset"), rows)     # calls rows.take for every row; see synth/rows/taking.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from synth.rows.files import SourceError, open_bytes
from synth.rows.tables import needed_columns, read_csv, read_jsonl, read_parquet, take_batches
from synth.rows.taking import Rows

_READERS: dict[str, Callable[[Path, Rows], None]] = {
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".csv": read_csv,
    ".csv.gz": read_csv,
}


def read_huggingface(path: Path, rows: Rows) -> None:
    """Read a folder in either layout. Raises SourceError if it has neither."""
    if (path / "dataset_dict.json").exists():
        for split in _names(path / "dataset_dict.json", "splits"):
            _read_saved(path / split, rows)
    elif (path / "state.json").exists():
        _read_saved(path, rows)
    else:
        found = _data_files(path)
        if len(found) != 1:
            kinds = ", ".join(f"{len(files)} {suffix}" for suffix, files in found.items()) or "none"
            raise SourceError(
                f"{path} holds data files: {kinds}; expected one kind of {', '.join(_READERS)}; give one file"
            )
        for suffix, files in found.items():
            for file in files:
                _READERS[suffix](file, rows)


def holds_dataset(path: Path) -> bool:
    """Whether a folder looks like a data set in either layout."""
    if any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
        return True
    return bool(_data_files(path))


def _data_files(path: Path) -> dict[str, list[Path]]:
    """The data files under a folder by suffix, in name order."""
    by_suffix: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*")):
        # What starts with '_' is Hadoop's and Spark's own: _SUCCESS, the half of a failed job in _temporary.
        hidden = any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
        suffix = next((s for s in _READERS if file.name.lower().endswith(s)), None)
        if suffix and not hidden and file.is_file():
            by_suffix.setdefault(suffix, []).append(file)
    return by_suffix


def _read_saved(folder: Path, rows: Rows) -> None:
    """One split that `Dataset.save_to_disk` wrote."""
    if _names(folder / "state.json", "_indices_data_files", optional=True):
        raise SourceError(f"{folder} keeps its row order in an index file; expected plain data; save it again")
    for entry in _names(folder / "state.json", "_data_files"):
        file = folder / entry
        with open_bytes(file) as raw:
            try:
                stream = pa.ipc.open_stream(raw)
                needed_columns(file, stream.schema, rows)
                take_batches(file, stream, rows)
            except (pa.ArrowException, OSError):
                raise SourceError(f"{file} is not a complete Arrow stream; expected one; save it again") from None


def _names(description: Path, key: str, *, optional: bool = False) -> list[str]:
    """A list of names, or of {"filename": name}, out of a description file; a name must stay inside its folder."""
    with open_bytes(description) as file:
        try:
            found = json.loads(file.read())
        except ValueError:
            found = None
    values = found.get(key) if isinstance(found, dict) else None
    if values is None and optional and isinstance(found, dict):
        return []
    names = [v.get("filename") if isinstance(v, dict) else v for v in values] if isinstance(values, list) else [None]
    if not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise SourceError(
            f"{description} has no list {key!r} of names; expected what save_to_disk writes; save it again"
        )
    return [str(name) for name in names]
