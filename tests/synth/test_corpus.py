"""Synthetic examples: content addresses, lineage, and the file they are kept in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.corpus import Corpus, Example

SEED = Example(
    text="The printer on floor two is out of toner again.",
    subject="Toner",
    attributes={"topic": "a printer", "tone": "curt"},
    operator="seed",
    round=0,
    model="model",
    prompt="00ff",
)
CHILD = replace(SEED, text="Could somebody order toner?", subject="", round=1, parents=(SEED.id,), family=SEED.root)
GRANDCHILD = replace(CHILD, text="Toner came — grüße, \x1f 日本", round=2, parents=(CHILD.id,), family=CHILD.root)


def write(table: pa.Table, folder: Path) -> Path:
    pq.write_table(table, folder / "corpus.parquet")
    return folder / "corpus.parquet"


def test_an_id_is_16_hexadecimal_digits_and_stays_what_it_is() -> None:
    assert len(SEED.id) == 16 and int(SEED.id, 16) >= 0
    assert replace(SEED).id == SEED.id
    assert SEED.id == "784836b17e986dfb", "run folders on disk name examples by these ids"


@pytest.mark.parametrize(
    "change",
    [
        {"text": "x"},
        {"subject": "x"},
        {"operator": "x"},
        {"round": 1},
        {"prompt": "x"},
        {"parents": ("x",)},
        {"model": "x"},
        {"family": "x"},
        {"attributes": {"topic": "x"}},
    ],
)
def test_everything_in_an_example_makes_its_id(change: dict[str, object]) -> None:
    assert replace(SEED, **change).id != SEED.id


def test_a_family_is_named_after_its_seed() -> None:
    assert SEED.root == CHILD.root == GRANDCHILD.root == SEED.id
    assert len({SEED.id, CHILD.id, GRANDCHILD.id}) == 3


def test_a_corpus_is_a_sequence() -> None:
    corpus = Corpus((SEED,)) + Corpus((CHILD, GRANDCHILD))
    assert len(corpus) == 3 and list(corpus) == [SEED, CHILD, GRANDCHILD]
    assert corpus.texts == [SEED.text, CHILD.text, GRANDCHILD.text]
    assert corpus.ids == [SEED.id, CHILD.id, GRANDCHILD.id]
    assert corpus.take([2, 0, 2]) == Corpus((GRANDCHILD, SEED, GRANDCHILD))
    assert corpus.take([]) == Corpus()
    with pytest.raises(IndexError):
        corpus.take([3])


def test_attributes_keep_their_order_on_disk(tmp_path: Path) -> None:
    unsorted = replace(SEED, attributes={"topic": "a printer", "tone": "curt", "length": "short"})
    pq.write_table(Corpus((unsorted,)).to_table(), tmp_path / "c.parquet")
    read = Corpus.from_parquet(tmp_path / "c.parquet").examples[0]
    assert list(read.attributes) == ["topic", "tone", "length"] and read.id == unsorted.id


def test_what_is_written_is_read(tmp_path: Path) -> None:
    corpus = Corpus((SEED, CHILD, GRANDCHILD, replace(SEED, attributes={})))
    table = corpus.to_table({"weight": [0.5, 0.25, 0.25, 0.0]})
    assert table.column_names[-1] == "weight"
    assert Corpus.from_parquet(write(table, tmp_path)) == corpus
    assert Corpus.from_parquet(write(Corpus().to_table(), tmp_path)) == Corpus()


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=5), st.lists(st.text(max_size=4), max_size=3))))
def test_any_text_survives_the_file(tmp_path_factory: pytest.TempPathFactory, rows) -> None:
    corpus = Corpus(
        tuple(replace(SEED, text=t, subject=s, parents=tuple(p)) for t, s, p in rows if _writable(t, s, *p))
    )
    assert Corpus.from_parquet(write(corpus.to_table(), tmp_path_factory.getbasetemp())) == corpus


def _writable(*texts: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for text in texts for letter in text)


@pytest.mark.parametrize("column", ["id", "text", "subject", "operator", "round", "prompt", "parents"])
def test_a_tampered_file_is_refused(tmp_path: Path, column: str) -> None:
    table = Corpus((SEED, CHILD)).to_table()
    place = table.column_names.index(column)
    values = table.column(column).to_pylist()
    values[1] = {"round": 7, "parents": ["feedfeedfeedfeed"]}.get(column, "feedfeedfeedfeed")
    tampered = table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))
    with pytest.raises(ValueError, match="does not match its id; the file was changed"):
        Corpus.from_parquet(write(tampered, tmp_path))
