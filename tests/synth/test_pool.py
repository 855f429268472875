"""Texts out of a file: each format, each error, what is skipped, what is drawn, and a writer behind it."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synth.attributes import AttributeGrid
from synth.cards import public_name, terms_of
from synth.corpus import Corpus
from synth.generator import Encode, GenerationError
from synth.language_model import LanguageModelGenerator
from synth.pool import PoolFields, PoolGenerator
from synth.scripted import ScriptedFakeGenerator
from synth.writer import Writer

ROWS: list[dict[str, object]] = [
    {"text": "The match is off.", "title": "Match", "topic": "soccer practice", "stars": 5},
    {"text": 'A "note", grüße\nin two lines', "title": "", "topic": "gas prices", "stars": 3},
    {"text": "The dog is well.", "title": "Dog", "topic": "dog adoption", "stars": 5},
    {"text": "the match is off.", "title": "Match", "topic": "soccer practice", "stars": 1},
]
ALL = PoolFields(subject="title", attributes=("topic", "stars"))
WITH_TOPIC = PoolFields(attributes=("topic",))


def stream(seed: int = 0) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed)


def quiet(kept: int, wanted: int) -> None:
    pass


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def zipped(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def comma_separated(folder: Path) -> Path:
    with (folder / "p.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, list(ROWS[0]))
        lines.writeheader()
        lines.writerows(ROWS)
    return folder / "p.csv"


def parquet(path: Path, rows: list[dict[str, object]] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def saved_dataset(folder: Path) -> Path:
    """What `Dataset.save_to_disk` writes."""
    place = folder / "saved"
    place.mkdir()
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(place / "data-00000-of-00001.arrow", table.schema) as file:
        file.write_table(table)
    (place / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return place


def hub_dataset(folder: Path) -> Path:
    """What a hub repository holds: rows in two files, and a card."""
    for number, rows in enumerate((ROWS[:1], ROWS[1:])):
        parquet(folder / "hub" / "data" / f"train-{number:05}-of-00002.parquet", rows)
    (folder / "hub" / "README.md").write_text("a card")
    return folder / "hub"


FORMATS: dict[str, Callable[[Path], Path]] = {
    "jsonl": lambda folder: jsonl(folder / "p.jsonl", ROWS),
    "jsonl.gz": lambda folder: zipped(jsonl(folder / "p.jsonl", ROWS)),
    "csv": comma_separated,
    "csv.gz": lambda folder: zipped(comma_separated(folder)),
    "parquet": lambda folder: parquet(folder / "p.parquet"),
    "saved": saved_dataset,
    "hub": hub_dataset,
}


def pool(path: Path | str | None, **changes: Any) -> PoolGenerator:
    return PoolGenerator(path=None if path is None else str(path), **changes)


def refused(generator: PoolGenerator) -> str:
    """The one line with which it refuses, at once."""
    with pytest.raises(GenerationError) as caught:
        generator.check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_corpus(tmp_path: Path, format: str) -> None:
    path = FORMATS[format](tmp_path)
    generator = pool(path, fields=ALL)
    generator.check()
    made = generator.seed(4, stream(), quiet)
    assert made.corpus.texts == [row["text"] for row in ROWS]
    assert [e.subject for e in made.corpus] == ["Match", "", "Dog", "Match"]
    assert made.corpus.examples[1].attributes == {"topic": "gas prices", "stars": "3"}
    assert {(e.operator, e.round, e.prompt, e.parents, e.family) for e in made.corpus} == {("pool", 0, "", (), "")}
    assert {e.model for e in made.corpus} == {generator.name} and len(set(made.corpus.ids)) == 4
    assert (made.attempted, made.drops, made.tokens, generator.available) == (4, {}, 0, 4)
    assert generator.reproducible is None
    # The digest is of what was read, in whichever format; no folder of the machine is in the name.
    digest = pool(jsonl(tmp_path / "other.jsonl", ROWS), fields=ALL).name.split()[1]
    assert generator.name == f"pool:{path.name} {digest}" and len(digest) == 12


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", ROWS)
    names = {pool(path, fields=fields).name for fields in (ALL, WITH_TOPIC, PoolFields())}
    names.add(pool(jsonl(path, ROWS[:3])).name)
    names.add(pool(jsonl(path, [{"text": "ab"}, {"text": "c"}])).name)
    names.add(pool(jsonl(path, [{"text": "a"}, {"text": "bc"}])).name)
    assert len(names) == 6


def test_a_corpus_of_a_pool_can_be_kept(tmp_path: Path) -> None:
    corpus = pool(FORMATS["jsonl"](tmp_path), fields=ALL).seed(4, stream(), quiet).corpus
    pq.write_table(corpus.to_table(), tmp_path / "corpus.parquet")
    assert Corpus.from_parquet(tmp_path / "corpus.parquet") == corpus


def test_null_and_empty_attributes_are_none(tmp_path: Path) -> None:
    rows = [{"text": "a", "topic": None}, {"text": "b", "topic": " "}, {"text": "c", "topic": "x"}]
    for path in (jsonl(tmp_path / "p.jsonl", rows), parquet(tmp_path / "p.parquet", rows)):  # type: ignore[arg-type]
        corpus = pool(path, fields=WITH_TOPIC).seed(3, stream(), quiet).corpus
        assert [e.attributes for e in corpus] == [{}, {}, {"topic": "x"}]


def test_fewer_are_drawn_without_replacement_and_stay_in_file_order(tmp_path: Path) -> None:
    texts = [f"text number {i}" for i in range(50)]
    path = jsonl(tmp_path / "p.jsonl", [{"text": text} for text in texts])
    made = pool(path).seed(20, stream(), quiet)
    places = [texts.index(text) for text in made.corpus.texts]
    assert places == sorted(set(places)) and len(places) == 20
    assert (made.attempted, made.drops) == (50, {"surplus": 30})
    assert pool(path).seed(20, stream(), quiet) == made, "not repeatable"
    assert pool(path).seed(20, stream(1), quiet).corpus != made.corpus
    # Every text has the same chance: 20 of 50 in each of 300 draws.
    counts = np.zeros(50)
    generator = pool(path)
    for seed in range(300):
        counts[[texts.index(text) for text in generator.seed(20, stream(seed), quiet).corpus.texts]] += 1
    assert np.abs(counts - 120).max() < 5 * np.sqrt(300 * 0.4 * 0.6)


@pytest.mark.parametrize("n", [4, 5, 1000])
def test_a_pool_without_a_writer_has_no_more_than_it_has(tmp_path: Path, n: int) -> None:
    told: list[tuple[int, int]] = []
    made = pool(FORMATS["jsonl"](tmp_path)).seed(n, stream(), lambda *now: told.append(now))
    assert made.corpus.texts == [row["text"] for row in ROWS] and told == [(4, n)]
    assert (made.attempted, made.drops) == (4, {})


def test_nothing_is_varied_without_a_writer(tmp_path: Path) -> None:
    generator = pool(FORMATS["jsonl"](tmp_path))
    parents = generator.seed(4, stream(), quiet).corpus
    made = generator.vary(parents, np.ones(4), 0, 1, stream(), quiet)
    assert (len(made.corpus), made.attempted, made.drops) == (0, 0, {})
    with pytest.raises(
        GenerationError, match=r"^the pool of \S+p\.jsonl has no writer, .* generator=pool_and_smollm2$"
    ):
        generator.vary(parents, np.ones(4), 2, 1, stream(), quiet)


FAKE = ScriptedFakeGenerator()


@pytest.mark.parametrize("n", [2, 4])
def test_a_writer_is_not_asked_for_what_the_pool_has(tmp_path: Path, n: int) -> None:
    path = FORMATS["jsonl"](tmp_path)
    mixed = pool(path, fields=WITH_TOPIC, writer=FAKE)
    alone = pool(path, fields=WITH_TOPIC)
    assert mixed.seed(n, stream(), quiet) == alone.seed(n, stream(), quiet)


def test_a_writer_makes_up_for_what_the_pool_lacks(tmp_path: Path) -> None:
    mixed = pool(FORMATS["jsonl"](tmp_path), fields=WITH_TOPIC, writer=FAKE)
    told: list[tuple[int, int]] = []
    made = mixed.seed(10, stream(), lambda *now: told.append(now))
    assert made.corpus.examples[:4] == mixed.seed(4, stream(), quiet).corpus.examples
    assert Corpus(made.corpus.examples[4:]) == FAKE.seed(6, stream(), quiet).corpus
    assert told == [(4, 10), (10, 10)] and (made.attempted, made.drops) == (10, {})
    assert mixed.seed(10, stream(), quiet) == made
    assert (mixed.available, mixed.writes) == (4, True) and (FAKE.available, FAKE.writes) == (0, True)
    assert (
        mixed.name.endswith(" + scripted fake")
        and made.corpus.examples[0].model == mixed.name[: -len(" + scripted fake")]
    )
    weights = np.arange(10.0)
    assert mixed.vary(made.corpus, weights, 7, 2, stream(), quiet) == FAKE.vary(
        made.corpus, weights, 7, 2, stream(), quiet
    )


@dataclass(frozen=True, kw_only=True)
class LackingFakeWriter(ScriptedFakeGenerator):
    """Fake: it lacks its weights, does not repeat itself, and tells whether it was given an encoder."""

    reproducible: str = "it is moody"  # type: ignore[assignment]
    encoded: bool = False

    def check(self) -> None:
        raise GenerationError("no weights")

    def with_encoder(self, encode: Encode) -> LackingFakeWriter:
        return replace(self, encoded=True)


def test_what_a_writer_lacks_and_gets(tmp_path: Path) -> None:
    path = FORMATS["jsonl"](tmp_path)
    mixed = pool(path, writer=LackingFakeWriter())
    assert refused(mixed) == "no weights"
    assert mixed.reproducible == "it is moody"
    path.unlink()  # what was read stays read
    encoded = mixed.with_encoder(lambda texts: np.zeros((len(texts), 1), np.float32))
    assert isinstance(encoded.writer, LackingFakeWriter) and encoded.writer.encoded
    assert encoded.seed(4, stream(), quiet).corpus == mixed.seed(4, stream(), quiet).corpus
    alone = pool(FORMATS["jsonl"](tmp_path))
    assert alone.with_encoder(lambda texts: np.zeros((len(texts), 1), np.float32)) is alone


class NoWriter:
    """Fake: its name is all that is asked of it."""

    name = "m T=0.4"


def test_a_language_model_says_which_texts_it_cannot_vary(tmp_path: Path) -> None:
    writer: Writer = NoWriter()  # type: ignore[assignment]
    model = LanguageModelGenerator(writer=writer, grid=AttributeGrid.from_yaml())
    assert (model.available, model.writes) == (0, True)
    mixed = pool(FORMATS["jsonl"](tmp_path), fields=WITH_TOPIC, writer=model)
    parents = mixed.seed(4, stream(), quiet).corpus
    with pytest.raises(
        GenerationError, match=r"^m T=0\.4 cannot vary a text of pool:p\.jsonl .*fields\.attributes"
    ) as caught:
        mixed.vary(parents, np.ones(4), 2, 1, stream(), quiet)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(pool(None)) == "generator.path is not set; give a file of texts (generator.path=TEXTS.jsonl.gz)"
    gone = tmp_path / "gone.jsonl"
    assert refused(pool(gone)) == f"generator.path={gone} does not exist; give an existing file or folder"
    (tmp_path / "notes.txt").write_text("dear diary")
    expected = "unknown format; expected one of jsonl, csv, parquet, huggingface; name it with format=..."
    assert refused(pool(tmp_path / "notes.txt")).endswith(f"notes.txt is a file with the suffix .txt: {expected}")
    (tmp_path / "empty").mkdir()
    assert f"is a folder without data files: {expected}" in refused(pool(tmp_path / "empty"))
    path = jsonl(tmp_path / "p.jsonl", ROWS)
    assert "format is 'mbox'; expected auto or one of jsonl" in refused(pool(path, format="mbox"))
    assert "is a file; format huggingface expects a folder" in refused(pool(path, format="huggingface"))
    assert len(pool(path.rename(tmp_path / "p.txt"), format="jsonl").seed(9, stream(), quiet).corpus) == 4
    broken = tmp_path / "b.jsonl.gz"
    broken.write_bytes(b"no gzip")
    assert "is not a complete gzip file" in refused(pool(broken))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rglob", refuse)  # mode bits do not stop root
    assert "not readable (permission denied)" in refused(pool(tmp_path / "empty"))


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.parquet"])
def test_a_file_without_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    if name == "p.parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    end = "has no usable texts (it is empty); expected one text a row; check generator.path and generator.fields"
    assert refused(pool(path)) == f"{path} {end}"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", ["error", "skip"])
@pytest.mark.parametrize(
    ("fields", "setting"),
    [
        (PoolFields(text="body"), "text"),
        (PoolFields(subject="body"), "subject"),
        (PoolFields(attributes=("topic", "body")), "attributes"),
    ],
)
def test_a_column_that_is_not_there(tmp_path: Path, format: str, mode: str, fields: PoolFields, setting: str) -> None:
    message = refused(pool(FORMATS[format](tmp_path), fields=fields, on_bad_row=mode))
    wanted = f"no field 'body'; it has: text, title, topic, stars; name one of these in generator.fields.{setting}"
    assert wanted in message


GOOD = ROWS[0] | {"text": "A good text."}


@pytest.mark.parametrize(
    ("row", "reason", "message"),
    [
        (GOOD | {"text": ""}, "empty", "the text of line 2 is empty; expected words; write or remove it"),
        (GOOD | {"text": " \n\t"}, "empty", "the text of line 2 is empty; expected words; write or remove it"),
        (ROWS[0], "repeated", "the text of line 2 is that of line 1; expected each text once; remove one"),
        (GOOD | {"text": None}, "not_text", "the text of line 2 is null; expected a string; choose another text field"),
        (GOOD | {"text": 7}, "not_text", "the text of line 2 is of type int; expected a string"),
        (GOOD | {"text": ["a"]}, "not_text", "the text of line 2 is of type list; expected a string"),
        (GOOD | {"topic": ["a"]}, "not_text", "'topic' of line 2 is of type list; expected a string or a number"),
        (GOOD | {"title": {}}, "not_text", "'title' of line 2 is of type dict; expected a string or a number"),
        (GOOD | {"text": "a \ud83d"}, "undecodable", "the text of line 2 holds half a surrogate pair"),
        (GOOD | {"topic": "a \ud83d"}, "undecodable", "'topic' of line 2 holds half a surrogate pair"),
        ({"title": "a"}, "missing", "line 2 has no field 'text'; it has: title; name one of these in generator.fields"),
        ('{"text": "a', "malformed", "line 2 is not valid JSON"),
        ('["a"]', "malformed", "line 2 is a JSON list; expected an object"),
    ],
)
def test_bad_rows(tmp_path: Path, row: object, reason: str, message: str) -> None:
    path = jsonl(tmp_path / "p.jsonl", [ROWS[0], row, ROWS[2]])
    told = refused(pool(path, fields=ALL))
    assert told.startswith(f"{path}: {message}")
    assert told.endswith("or skip bad rows with generator.on_bad_row=skip")
    skipping = pool(path, fields=ALL, on_bad_row="skip")
    made = skipping.seed(5, stream(), quiet)
    assert made.corpus.texts == [ROWS[0]["text"], ROWS[2]["text"]] and skipping.available == 2
    assert (made.drops, made.attempted) == ({reason: 1}, 3)
    assert skipping.seed(1, stream(), quiet).drops == {reason: 1, "surplus": 1}
    mixed = replace(skipping, writer=FAKE).seed(5, stream(), quiet)
    assert (mixed.drops, mixed.attempted, len(mixed.corpus)) == ({reason: 1}, 6, 5)


def test_rows_are_named_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('text\n"one\ntwo"\nthree\n"one\ntwo"\n')
    assert "the text of row 3 (up to line 6) is that of row 1 (up to line 3)" in refused(pool(tmp_path / "p.csv"))
    path = parquet(tmp_path / "p.parquet", [{"text": "a"}, {"text": None}, {"text": "a"}])
    assert "the text of row 2 of p.parquet is null" in refused(pool(path))
    assert pool(path, on_bad_row="skip").seed(9, stream(), quiet).drops == {"not_text": 1, "repeated": 1}
    numbers = parquet(tmp_path / "n.parquet", [{"text": 1}])
    assert "column 'text' of" in refused(pool(numbers)) and "holds int64; expected strings" in refused(pool(numbers))


def test_a_repeat_in_another_file_of_a_folder(tmp_path: Path) -> None:
    for number in (1, 2):
        parquet(tmp_path / "hub" / f"{number}.parquet", ROWS[:1])
    assert "the text of row 1 of 2.parquet is that of row 1 of 1.parquet" in refused(pool(tmp_path / "hub"))


def test_nothing_is_left(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "p.jsonl", [{"text": ""}, {"text": " "}, {"text": 5}])
    assert "has no usable texts (2 empty, 1 not_text); expected one text a row" in refused(
        pool(path, on_bad_row="skip")
    )


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"generator\.on_bad_row is 'ignore'; expected 'error' or 'skip'"):
        pool("p.jsonl", on_bad_row="ignore")
    with pytest.raises(ValueError, match=r"generator\.fields\.attributes is 'topic'; expected a list .*\[topic\]"):
        PoolFields(attributes="topic")
    with pytest.raises(ValueError, match=r"generator\.fields names 'text' twice; .*drop one"):
        PoolFields(subject="text")


def test_a_hundred_thousand_texts_in_bounded_memory(tmp_path: Path) -> None:
    n, body = 100_000, "a text of a hundred characters " * 3
    with gzip.open(tmp_path / "p.jsonl.gz", "wt", compresslevel=1) as file:
        file.writelines(json.dumps({"text": f"{body}{i}", "topic": f"topic {i % 50}"}) + "\n" for i in range(n))
    tracemalloc.start()
    try:
        generator = pool(tmp_path / "p.jsonl.gz", fields=WITH_TOPIC)
        generator.check()
        made = generator.seed(300, stream(), quiet)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert generator.available == n and len(set(made.corpus.texts)) == 300
    # A text of 100 characters takes 150 bytes as a string; beside it there may be two references, while it is read a
    # dictionary of where it stands, too. Rows kept as dictionaries take about 500 bytes, and break both bounds.
    assert held < 250 * n and most < 400 * n


def test_cards_say_what_is_not_known_of_a_pool() -> None:
    name = "pool:my smollm2 and gemma texts.jsonl 0123456789ab"
    assert public_name(name) == name
    assert "not known" in terms_of(name) and "Apache" not in terms_of(name) and name in terms_of(name)
    mixed = f"{name} + SmolLM2-135M T=0.4"
    assert terms_of(mixed).startswith(terms_of(name)) and "Apache-2.0" in terms_of(mixed)
    assert public_name(f"{name} + /home/me/models/x.gguf int8") == f"{name} + x.gguf int8"
