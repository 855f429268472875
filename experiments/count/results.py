"""What one key leaves in the run folder: released elements, public numbers, and, under oracle/, the truth about them.

    write_result(folder, "emoji.en", result)     # the mark last
    read_histogram(folder, "emoji.en", rule)     # what was released, to the last bit
    keys_in(folder.read_json("run.json"))        # ["emoji.en", "emoji.fr"]

Only what the release rule let out is ever written with its name or its count: no tally, no estimate of a withheld
element, no truth about one, not under oracle/ either. What is said of the withheld is how many there are, and scores
over all elements, each one number. What released counts tell of all withheld ones together: aggregate/histogram.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aggregate.histogram import Histogram, Rule
from experiments.folder.layout import Key, truth
from experiments.folder.store import RunFolder

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


def keys_in(run: Mapping[str, Any]) -> list[str]:
    """The keys of a run.json in the order in which they are played, which is not that of their names."""
    return sorted(run["keys"], key=lambda key: run["keys"][key]["place"])


def write_result(folder: RunFolder, key: str, result: Result) -> None:
    """Everything of one key; segment.json last, as the mark that it is complete."""
    step, histogram = Key(key), result.histogram
    columns: dict[str, Any] = {"element": pa.array(histogram.values, pa.string())}
    columns |= {name: getattr(histogram, field) for name, field in zip(_COLUMNS, _FIELDS, strict=True)}
    if result.new is not None:
        columns["new"] = result.new
    folder.write_table(step.histogram, pa.table(columns))
    folder.write_json(step.metrics, dict(result.public))
    true = {"element": pa.array(histogram.values, pa.string()), "true_count": result.truth}
    if result.held is not None:
        true["held_by"] = result.held
    folder.write_table(step.truth, pa.table(true))
    folder.write_json(truth(step.metrics), dict(result.oracle))
    if result.by_frequency:
        folder.write_csv(step.by_frequency, result.by_frequency)
    folder.write_json(
        step.mark,
        {
            "key": key,
            "reports": histogram.reports,
            "looked_at": histogram.looked_at,
            "released": len(histogram.values),
            "withheld": histogram.withheld,
        },
    )


def read_histogram(folder: RunFolder, key: str, rule: Rule) -> Histogram:
    """What `write_result` wrote. Raises StoreError for damaged files."""
    table = folder.files.table(Key(key).histogram).to_pydict()
    told = folder.read_json(Key(key).mark)
    numbers = {field: np.array(table[name], dtype=np.float64) for name, field in zip(_COLUMNS, _FIELDS, strict=True)}
    return Histogram(
        values=tuple(table["element"]),
        looked_at=told["looked_at"],
        withheld=told["withheld"],
        reports=told["reports"],
        rule=rule,
        **numbers,
    )
