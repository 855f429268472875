"""The synthetic corpus: texts that a model wrote, each with its lineage.

Nothing in here is private: a corpus holds only what the generator wrote and what the server chose.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, kw_only=True)
class Example:
    """One synthetic text and where it came from.

    `attributes` are what the generator was asked for (topic, tone, ...); `parents` the ids of the examples it was made
    from (empty in a seed corpus); `family` the id of the seed that it descends from (empty: it is one); `operator` how
    it was made and `change` what that changed; `round` the round it was born in; `model` who wrote it; `prompt` the
    digest of the prompt.
    """

    text: str
    subject: str
    attributes: Mapping[str, str]
    operator: str
    round: int
    model: str
    prompt: str
    parents: tuple[str, ...] = ()
    family: str = ""
    change: str = ""

    @property
    def id(self) -> str:
        """Content address: 16 hexadecimal digits of everything in the example."""
        content = {name: value for name, value in vars(self).items() if name != "attributes"}
        content["attributes"] = sorted(self.attributes.items())
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def root(self) -> str:
        """The id of the seed that it descends from, itself if it is a seed."""
        return self.family or self.id


_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("subject", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("operator", pa.string()),
        ("change", pa.string()),
        ("round", pa.int32()),
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("parents", pa.list_(pa.string())),
        ("family", pa.string()),
    ]
)


@dataclass(frozen=True)
class Corpus:
    """An ordered set of examples; the position is the candidate's number in a poll."""

    examples: tuple[Example, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __add__(self, other: Corpus) -> Corpus:
        return Corpus(self.examples + other.examples)

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return [example.text for example in self.examples]

    @property
    def ids(self) -> list[str]:
        """The content addresses, in order."""
        return [example.id for example in self.examples]

    def take(self, indices: Iterable[int]) -> Corpus:
        """The examples at `indices`, in that order."""
        return Corpus(tuple(self.examples[int(i)] for i in indices))

    def to_table(self, extra: Mapping[str, Any] | None = None) -> pa.Table:
        """An Arrow table of this corpus, with `extra` columns behind its own."""
        columns: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
        for e in self.examples:
            # In their own order: what is written next (requests, lineage) follows it, also after a resume.
            columns["attributes"].append(list(e.attributes.items()))
            columns["parents"].append(list(e.parents))
            for name in ("id", "text", "subject", "operator", "change", "round", "model", "prompt", "family"):
                columns[name].append(getattr(e, name))
        table = pa.table(columns, schema=_SCHEMA)
        for name, values in (extra or {}).items():
            table = table.append_column(name, pa.array(values))
        return table

    @classmethod
    def from_parquet(cls, path: Path) -> Corpus:
        """Read what `to_table` wrote. Raises ValueError if an id does not match its content."""
        examples = []
        for row in pq.read_table(path, schema=None).select(_SCHEMA.names).to_pylist():
            identity = row.pop("id")
            example = Example(
                **{**row, "attributes": dict(row["attributes"]), "parents": tuple(row["parents"])},
            )
            if example.id != identity:
                raise ValueError(
                    f"{path}: the content of example {identity} does not match its id; the file was changed"
                )
            examples.append(example)
        return cls(tuple(examples))
