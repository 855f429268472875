"""The released data set: a corpus in one of four formats, with weights, a split by family, lineage and a card.

    release = Release(title="town mail", corpus=corpus, weights=weights, test_share=0.2, ...)
    release.files(Format.HF)["README.md"]          # file name -> content; nothing is written here

What may be released is decided by type: a `Release` is made of a corpus, weights and a public description. There is no
field that could carry a device's data or the noise-free truth.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from synth.cards import Card, public_name
from synth.chat import DEFAULT_TASKS, EXPLAINED, check_tasks, conversation, noun
from synth.corpus import Corpus
from synth.prompts import Form


class Format(StrEnum):
    """How a data set is written. Each has a card, README.md, by which the datasets library loads it."""

    HF = "hf"
    """A Hugging Face data set folder: data/SPLIT-00000-of-00001.parquet."""
    JSONL = "jsonl"
    """SPLIT.jsonl: one example a line."""
    SFT = "sft"
    """SPLIT.jsonl: one chat a line, for supervised fine-tuning; several tasks an example."""
    PARQUET = "parquet"
    """SPLIT.parquet."""


_PLACES = {
    Format.HF: "data/{split}-00000-of-00001.parquet",
    Format.JSONL: "{split}.jsonl",
    Format.SFT: "{split}.jsonl",
    Format.PARQUET: "{split}.parquet",
}
_CHAT_SCHEMA = pa.schema(
    [
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("task", pa.string()),
        ("weight", pa.float64()),
        ("id", pa.string()),
        ("family", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Release:
    """A corpus, one weight per example (sum 1, post-processed estimates), and what the card says.

    `facts` are lines 'name: value' for the card's table, `privacy` its privacy statement in words, `warnings` the
    reasons, if any, why this must not be released, `simulation` why the noise protects nobody, if so; `generator` names
    the weights, for their terms; `form` is how texts were asked for (None: not known); `polls` how many polls chose the
    corpus. Of the examples only the `top` of largest weight (None: all) with a weight of at least `min_share` are in;
    the split does not depend on that. Raises ValueError, in one line, for values out of range and if no example is
    left.
    """

    title: str
    corpus: Corpus
    weights: NDArray[np.float64]
    test_share: float
    facts: Mapping[str, str]
    privacy: str
    generator: str = ""
    form: Form | None = None
    polls: int = 1
    warnings: tuple[str, ...] = ()
    simulation: str = ""
    top: int | None = None
    min_share: float = 0.0
    tasks: Sequence[str] = field(default=DEFAULT_TASKS)

    def __post_init__(self) -> None:
        if not 0 <= self.test_share < 1:
            raise ValueError(f"test_share is {self.test_share:g}; expected a share in [0, 1), 0 for no test split")
        if self.top is not None and self.top < 1:
            raise ValueError(f"top is {self.top}; expected 1 or more examples")
        if not 0 <= self.min_share <= 1:
            raise ValueError(f"min_share is {self.min_share:g}; expected a share in [0, 1]")
        check_tasks(self.tasks)
        if len(self.weights) != len(self.corpus):
            raise ValueError(f"{len(self.weights)} weights for {len(self.corpus)} examples; expected one for each")
        if not self.kept.any():
            raise ValueError(
                f"min_share is {self.min_share:g}, and no example has so large a share (the largest is "
                f"{max(self.weights, default=0.0):.4g}); choose a smaller one"
            )

    @property
    def kept(self) -> NDArray[np.bool_]:
        """bool[n]: which examples are in. Among equal weights the earlier example comes first."""
        order = np.argsort(-self.weights, kind="stable")
        chosen = np.zeros(len(self.corpus), dtype=bool)
        chosen[order[: self.top]] = True
        result: NDArray[np.bool_] = chosen & (self.weights >= self.min_share)
        return result

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(subject, text) of every example that is in."""
        return [(example.subject, example.text) for example in self.corpus.take(np.flatnonzero(self.kept))]

    def files(self, form: Format = Format.HF) -> dict[str, bytes]:
        """Relative file name -> content. A split without rows has no file.

        Raises ValueError if no example fits one of the tasks of a chat format.
        """
        test, tables = test_split(self.corpus, self.test_share), {}
        for split, mask in (("train", ~test), ("test", test)):
            rows = np.flatnonzero(mask & self.kept)
            table = self._chats(rows) if form is Format.SFT else self._table(rows)
            if table.num_rows:
                tables[split] = table
        if not tables:
            raise ValueError(f"no example fits the tasks {', '.join(self.tasks)}; choose others")
        paths = {split: _PLACES[form].format(split=split) for split in tables}
        lines = form in (Format.JSONL, Format.SFT)
        content = {paths[split]: _jsonl(table) if lines else _parquet(table) for split, table in tables.items()}
        return content | {"README.md": self._card(tables, paths).encode()}

    def _table(self, rows: NDArray[np.int64]) -> pa.Table:
        """The examples at `rows`, attributes as a struct: the datasets library does not load Arrow maps."""
        part = self.corpus.take(rows)
        table = part.to_table({"weight": pa.array(self.weights[rows], type=pa.float64())})
        # The names of the whole corpus, so that both splits have one schema.
        names = sorted({name for example in self.corpus for name in example.attributes})
        struct = pa.struct([(name, pa.string()) for name in names])
        columns = {
            "attributes": pa.array([dict(example.attributes) for example in part], type=struct),
            # A seed is its own family here, so that grouping by this column is enough for a split of one's own.
            "family": pa.array([example.root for example in part], type=pa.string()),
            "model": pa.array([public_name(example.model) for example in part], type=pa.string()),
        }
        for name, column in columns.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        if not names:  # Parquet cannot hold a struct without fields
            table = table.drop(["attributes"])
        return table

    def _chats(self, rows: NDArray[np.int64]) -> pa.Table:
        found = []
        for row in rows:
            example = self.corpus.examples[int(row)]
            for task in self.tasks:
                if turns := conversation(task, example, self.form):
                    weight = float(self.weights[row])
                    found.append(
                        {"messages": turns, "task": task, "weight": weight, "id": example.id, "family": example.root}
                    )
        return pa.Table.from_pylist(found, schema=_CHAT_SCHEMA)

    def _card(self, tables: Mapping[str, pa.Table], paths: Mapping[str, str]) -> str:
        first = next(iter(tables.values()))
        chats = "messages" in first.schema.names
        tasks = Counter(task for table in tables.values() if chats for task in table["task"].to_pylist())
        kept = np.flatnonzero(self.kept)
        return Card(
            title=self.title,
            noun=noun(self.form),
            warnings=self.warnings,
            simulation=self.simulation,
            facts=self.facts,
            privacy=self.privacy,
            generator=self.generator,
            languages=tuple({example.attributes.get("language", "") for example in self.corpus.take(kept)}),
            polls=self.polls,
            kept=len(kept),
            total=len(self.corpus),
            share=float(self.weights[kept].sum()),
            counts={split: table.num_rows for split, table in tables.items()},
            sizes={split: table.nbytes for split, table in tables.items()},
            paths=paths,
            schema=first.schema,
            tasks={task: tasks[task] for task in self.tasks if tasks[task]},
            explained=EXPLAINED,
        ).render()


def test_split(corpus: Corpus, share: float) -> NDArray[np.bool_]:
    """bool[n]: which examples are in the test split; whole families only, in an order set by their ids alone.

    Families are taken in hash order as long as they fit into `share` of the examples. A corpus with at least two
    families gets at least one of them, the smallest, as test, unless `share` is 0.
    """
    families: dict[str, list[int]] = {}
    for i, example in enumerate(corpus):
        families.setdefault(example.root, []).append(i)
    order = sorted(families, key=lambda root: hashlib.sha256(root.encode()).digest())
    test = np.zeros(len(corpus), dtype=bool)
    for root in order:
        if test.sum() + len(families[root]) <= share * len(corpus):
            test[families[root]] = True
    if share > 0 and not test.any() and len(families) > 1:
        test[families[min(order, key=lambda root: len(families[root]))]] = True
    return test


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _jsonl(table: pa.Table) -> bytes:
    lines = []
    for row in table.to_pylist():
        if "attributes" in row:
            row["attributes"] = {name: value for name, value in row["attributes"].items() if value is not None}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines).encode()
