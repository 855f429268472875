"""What one key leaves in the run folder: released elements, public numbers, and, under oracle/, the truth about them.

    write_result(folder, "emoji.en", result)     # segments/emoji.en/..., segment.json last
    read_histogram(folder, "emoji.en", rule)     # what was released, to the last bit

Only what the release rule let out is ever written with its name or its count: no tally, no estimate of a withheld
element, no truth about one, not under oracle/ either. What is said of the withheld is how many there are, and scores
over all elements, each one number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aggregate.fragments import FragmentRule
from aggregate.histogram import Histogram, ReleaseRule
from experiments.damage import mending
from experiments.store import RunFolder, StoreError

_COLUMNS = ("count", "stderr", "lower", "upper", "p_value", "processed")
_FIELDS = ("counts", "stderr", "lower", "upper", "p_values", "processed")


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One key, collected and judged.

    `new`: of each released word, whether it is in no dictionary of the device; `held`: how many devices really hold
    each released fragment, of which a part answered it.
    """

    histogram: Histogram
    public: Mapping[str, Any]
    truth: NDArray[np.int64]
    oracle: Mapping[str, Any]
    new: NDArray[np.bool_] | None = None
    held: NDArray[np.int64] | None = None
    by_frequency: Sequence[Mapping[str, object]] = ()


def place_of(key: str) -> str:
    """The folder of a key."""
    return f"segments/{key}"


def is_complete(folder: RunFolder, key: str) -> bool:
    """Whether everything of this key is on disk."""
    return (folder.path / place_of(key) / "segment.json").exists()


def write_result(folder: RunFolder, key: str, result: Result) -> None:
    """Everything of one key; segment.json last, as the mark that it is complete."""
    place, histogram = place_of(key), result.histogram
    columns: dict[str, Any] = {"element": pa.array(histogram.values, pa.string())}
    columns |= {name: getattr(histogram, field) for name, field in zip(_COLUMNS, _FIELDS, strict=True)}
    if result.new is not None:
        columns["new"] = result.new
    folder.write_table(f"{place}/histogram.parquet", pa.table(columns))
    folder.write_json(f"{place}/metrics.json", dict(result.public))
    truth = {"element": pa.array(histogram.values, pa.string()), "true_count": result.truth}
    if result.held is not None:
        truth["held_by"] = result.held
    folder.write_table(f"{place}/oracle/truth.parquet", pa.table(truth))
    folder.write_json(f"{place}/oracle/metrics.json", dict(result.oracle))
    if result.by_frequency:
        folder.write_csv(f"{place}/oracle/by_frequency.csv", result.by_frequency)
    folder.write_json(
        f"{place}/segment.json",
        {
            "key": key,
            "reports": histogram.reports,
            "looked_at": histogram.looked_at,
            "released": len(histogram.values),
            "withheld": histogram.withheld,
        },
    )


def read_table(folder: RunFolder, name: str) -> dict[str, list[Any]]:
    """The columns of a Parquet file. Raises StoreError for one that is damaged or missing."""
    path = folder.path / name
    try:
        columns: dict[str, list[Any]] = pq.read_table(path, page_checksum_verification=True).to_pydict()
        return columns
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read ({error.__class__.__name__}); {mending(folder.path, name)}") from None


def read_rows(folder: RunFolder, name: str) -> list[dict[str, str]]:
    """The rows of a CSV file, none if there is no such file."""
    path = folder.path / name
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))) if path.exists() else []


def read_histogram(folder: RunFolder, key: str, rule: ReleaseRule | FragmentRule) -> Histogram:
    """What `write_result` wrote. Raises StoreError for damaged files."""
    table = read_table(folder, f"{place_of(key)}/histogram.parquet")
    told = folder.read_json(f"{place_of(key)}/segment.json")
    numbers = {field: np.array(table[name], dtype=np.float64) for name, field in zip(_COLUMNS, _FIELDS, strict=True)}
    return Histogram(
        values=tuple(table["element"]),
        looked_at=told["looked_at"],
        withheld=told["withheld"],
        reports=told["reports"],
        rule=rule,
        **numbers,
    )
