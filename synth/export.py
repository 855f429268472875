"""The released data set: the refined corpus as Parquet and JSONL, with weights, a split, lineage and a card.

What may be released is decided by type: a `Release` is made of a corpus, weights and a public description. There is no
field that could carry a device's data or the noise-free truth.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from synth.corpus import Corpus


@dataclass(frozen=True, kw_only=True, eq=False)
class Release:
    """A corpus, one weight per example (sum 1, post-processed estimates), and what the card says.

    `facts` are lines 'name: value' for the card's table, `privacy` its privacy statement in words.
    """

    title: str
    corpus: Corpus
    weights: NDArray[np.float64]
    test_share: float
    facts: Mapping[str, str]
    privacy: str

    def files(self) -> dict[str, bytes]:
        """Relative file name -> content, Hugging Face layout: data/*.parquet, jsonl/*, README.md."""
        test = test_split(self.corpus, self.test_share)
        content: dict[str, bytes] = {}
        for split, mask in (("train", ~test), ("test", test)):
            rows = np.flatnonzero(mask)
            table = self._table(rows)
            sink = io.BytesIO()
            pq.write_table(table, sink)
            content[f"data/{split}-00000-of-00001.parquet"] = sink.getvalue()
            content[f"jsonl/{split}.jsonl"] = _jsonl(table)
        content["README.md"] = self._card(int((~test).sum()), int(test.sum())).encode()
        return content

    def _table(self, rows: NDArray[np.int64]) -> pa.Table:
        """The examples at `rows`, attributes as a struct: the datasets library does not load Arrow maps."""
        part = self.corpus.take(rows)
        table = part.to_table({"weight": self.weights[rows]})
        # The names of the whole corpus, so that both splits have one schema.
        names = sorted({name for example in self.corpus for name in example.attributes})
        struct = pa.struct([(name, pa.string()) for name in names])
        values = pa.array([dict(example.attributes) for example in part], type=struct)
        return table.set_column(table.schema.get_field_index("attributes"), pa.field("attributes", struct), values)

    def _card(self, train: int, test: int) -> str:
        facts = "\n".join(f"| {name} | {value} |" for name, value in self.facts.items())
        return f"""---
pretty_name: {json.dumps(self.title)}
language: en
tags:
- synthetic
- differential-privacy
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test-*.parquet
---

# {self.title}

{train} training and {test} test examples, all written by a language model and chosen by a private poll of devices. No
example was written by a person whose device was polled.

| | |
|---|---|
{facts}

## Privacy

{self.privacy}

## Columns

| column | meaning |
|---|---|
| text, subject | what the model wrote (subject may be empty) |
| weight | share of the estimated votes; estimates were held at 0 from below, so weights are post-processed and biased |
| attributes | what the model was asked for |
| id, parents, family, operator, change, round | lineage: content address, parents, seed ancestor, how and when made |
| model, prompt | who wrote it, and the digest of the prompt |

Families never straddle the split: no test example has a relative in the training split.

## Limits

Synthetic text of a small model: statements in it are invented, and it can be incoherent. The generator may have seen
public mail corpora in pre-training, so a text can resemble public mail without any device having shown it.
"""


def test_split(corpus: Corpus, share: float) -> NDArray[np.bool_]:
    """bool[n]: which examples are in the test split; whole families only, in an order set by their ids alone.

    Families are taken in hash order as long as they fit into `share` of the examples. A corpus with at least two
    families gets at least one of them, the smallest, as test.
    """
    families: dict[str, list[int]] = {}
    for i, example in enumerate(corpus):
        families.setdefault(example.root, []).append(i)
    order = sorted(families, key=lambda root: hashlib.sha256(root.encode()).digest())
    test = np.zeros(len(corpus), dtype=bool)
    for root in order:
        if test.sum() + len(families[root]) <= share * len(corpus):
            test[families[root]] = True
    if not test.any() and len(families) > 1:
        test[families[min(order, key=lambda root: len(families[root]))]] = True
    return test


def _jsonl(table: pa.Table) -> bytes:
    lines = []
    for row in table.to_pylist():
        row["attributes"] = {name: value for name, value in row["attributes"].items() if value is not None}
        lines.append(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
    return "".join(lines).encode()
