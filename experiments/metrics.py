"""metrics.csv and oracle/metrics.csv: one row a complete step; and the same as Parquet.

write_metrics(folder, [Round(0), Round(1)])
write_metrics(folder, [Key("emoji.en")], names=("key", "segment"))
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from experiments.folder.layout import METRICS, METRICS_TABLE, truth
from experiments.folder.store import RunFolder


class Measured(Protocol):
    """A step with a row of metrics."""

    @property
    def metrics(self) -> str:
        """The file of its row; the truth's is beside it."""


def write_metrics(folder: RunFolder, steps: Sequence[Measured], names: Collection[str] = ()) -> None:
    """Collect the rows of these steps. Only the columns `names` hold text, such as the key of a use case.

    Raises ValueError for text in any other, so that none gets into a table of metrics.
    """
    for of_step, csv, table in ((str, METRICS, METRICS_TABLE), (truth, truth(METRICS), truth(METRICS_TABLE))):
        rows = [folder.read_json(of_step(step.metrics)) for step in steps]
        folder.write_csv(csv, rows)
        folder.write_table(table, metrics_table(rows, names))


def metrics_table(rows: Sequence[Mapping[str, object]], names: Collection[str] = ()) -> pa.Table:
    """The union of the rows' columns, as in the CSV file, and null where one is missing."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return pa.table(
        {
            column: pa.array(values, pa.string()) if column in names else _numbers(column, values)
            for column, values in ((column, [row.get(column) for row in rows]) for column in columns)
        }
    )


def _numbers(name: str, values: list[object]) -> pa.Array:
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"metric {name} is a {type(value).__name__}; expected a number")
    whole = all(isinstance(value, int) for value in values if value is not None)
    return pa.array(values, pa.int64() if whole else pa.float64())
