"""`synthpoll generate` and `synthpoll inspect`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from embed.hashed import HashedFakeEncoder
from experiments.folder.store import StoreError
from experiments.generate import Generate, generate
from experiments.inspection import inspect_folder, print_numbers, print_texts
from synth.attributes import AttributeGrid
from synth.corpus import Corpus, Example
from synth.scripted import ScriptedFakeGenerator


def job(tmp_path: Path, **changes: object) -> Generate:
    fields = {"n": 12, "seed": 0, "out": str(tmp_path / "out"), "cache": str(tmp_path / "cache"), **changes}
    return Generate(generator=ScriptedFakeGenerator(), encoder=HashedFakeEncoder(dimension=32), **fields)


def test_a_corpus_without_a_poll(tmp_path: Path) -> None:
    screen = io.StringIO()
    folder = generate(job(tmp_path), "name: x\n", Console(file=screen, width=200))
    corpus = Corpus.from_parquet(folder / "corpus.parquet")
    lines = [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == corpus.texts and len(corpus) == 12
    counted = json.loads((folder / "generation.json").read_text())
    assert counted["kept"] == 12 and counted["attempted"] == 12 and (folder / "config.yaml").read_text() == "name: x\n"
    assert "kept 12 of 12 texts (100%); dropped: none" in screen.getvalue()
    again = generate(job(tmp_path, out=str(tmp_path / "again")), "name: x\n", Console(file=io.StringIO()))
    assert (again / "corpus.parquet").read_bytes() == (folder / "corpus.parquet").read_bytes()
    other = generate(job(tmp_path, out=str(tmp_path / "other"), seed=1), "name: x\n", Console(file=io.StringIO()))
    assert (other / "corpus.parquet").read_bytes() != (folder / "corpus.parquet").read_bytes()


@pytest.mark.parametrize("n", [0, -1, True, 2.5])
def test_senseless_numbers(tmp_path: Path, n: object) -> None:
    with pytest.raises(ValueError, match=f"n is {n!r}; expected a whole number"):
        job(tmp_path, n=n)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write to"):
        generate(job(tmp_path, out=str(tmp_path / "file" / "out")), "", Console(file=io.StringIO()))


def written(folder: Path, right: int) -> AttributeGrid:
    """Ten texts in `folder`, of which `right` are about their topic and the others about the next one."""
    grid = AttributeGrid.from_yaml()
    asked = grid.sample(10, np.random.default_rng(0))
    topics = [attributes["topic"] for attributes in asked]
    examples = []
    for i, attributes in enumerate(asked):
        about = topics[i] if i < right else topics[(i + 1) % 10]
        words = " ".join([about] * 3 + [f"and the word {i}{j} of it" for j in range(1)])
        examples.append(
            Example(text=words, subject="s", attributes=attributes, operator="seed", round=0, model="m", prompt="p")
        )
    folder.mkdir()
    import pyarrow.parquet as pq

    pq.write_table(Corpus(tuple(examples)).to_table(), folder / "corpus.parquet")
    (folder / "generation.json").write_text(json.dumps({"attempted": 15, "drops": {"too short": 4, "surplus": 1}}))
    return grid


def test_the_numbers_of_an_inspection(tmp_path: Path) -> None:
    encode = HashedFakeEncoder(dimension=512)
    grid = written(tmp_path / "a", 10)
    found = inspect_folder(tmp_path / "a", encode, grid, sample=3)
    assert (found.texts, found.topics, found.attempted, dict(found.drops)) == (
        10,
        10,
        15,
        {"too short": 4, "surplus": 1},
    )
    assert found.topic_control == 1.0 and len(found.shown) == 3
    assert 0 < found.distinct[1] < found.distinct[2] < found.distinct[3] < 1
    worse = inspect_folder(tmp_path / "b", encode, written(tmp_path / "b", 6), sample=3)
    assert worse.topic_control == pytest.approx(0.6), "negative control: texts about something else are noticed"
    screen = io.StringIO()
    print_texts(Console(file=screen, width=120), found)
    print_numbers(Console(file=screen, width=120), {"good": found, "worse": worse})
    assert found.shown[0].text.split(" and ")[0] in screen.getvalue() and "10 of 15" in screen.getvalue()
    assert "60% of 10" in screen.getvalue() and "100% of 10" in screen.getvalue()
    with pytest.raises(StoreError, match="holds no corpus"):
        inspect_folder(tmp_path, encode, grid)


def test_rates_are_of_what_was_written_now(tmp_path: Path) -> None:
    encode = HashedFakeEncoder(dimension=32)
    grid, timings = written(tmp_path / "a", 10), tmp_path / "a" / "timings.csv"
    head = "round,stage,seconds,attempted,kept,tokens,reused\n"
    rows = {
        "": (None, None),
        "0,run: seed corpus,20.0,15,10,400,0\n": (30.0, 20.0),
        "0,run: seed corpus,20.0,15,10,,0\n": (30.0, None),
        "0,run: seed corpus,0.5,15,10,0,15\n": (None, None),  # from the cache
        "0,run: seed corpus,20.0,15,10,400,0\n0,run: vary,20.0,9,5,200,0\n": (22.5, 15.0),
        "0,run: seed corpus,20.0,15,10,400,0\n0,run: poll,9.0\n0,random_selection: vary,1.0,9,9,9,0\n": (30.0, 20.0),
    }
    for row, rates in rows.items():
        timings.write_text(head + row)
        found = inspect_folder(tmp_path / "a", encode, grid)
        assert (found.kept_per_minute, found.tokens_per_second) == rates, row


def test_the_effort_is_in_the_timings(tmp_path: Path) -> None:
    folder = generate(job(tmp_path), "name: x\n", Console(file=io.StringIO()))
    [row] = csv.DictReader((folder / "timings.csv").open())
    assert (row["attempted"], row["kept"], row["reused"]) == ("12", "12", "0") and float(row["seconds"]) >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect"], "takes folders"),
        (["inspect", "a", "encoder=minilm", "encoder=minilm"], "at most one encoder="),
        (["inspect", "/no/such/folder"], "has no config.yaml"),
        (["inspect", "{folder}", "encoder=nobody"], "encoder=nobody names no encoder; give one of conf/encoder"),
        (["inspect", "{folder}", "encoder=null"], "encoder=null names no encoder"),
        (["inspect", "{folder}", "encoder=../writer/gemma3"], "encoder=../writer/gemma3 names no encoder"),
        (["generate", "n=5", "generator=scripted_fake", "encoder=hashed_fake"], "out is missing"),
        (["generate", "n=0", "out=x", "generator=scripted_fake", "encoder=hashed_fake"], "n is 0; expected"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("generator: {grid: {}}\nencoder: {}\n")
    arguments = [argument.replace("{folder}", str(tmp_path)) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
