"""The released data set: whole families on one side, weights, four formats, readable by the tools it is meant for."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import synth.export
from synth.corpus import Corpus, Example
from synth.export import Format, Release
from synth.prompts import EMAIL


def families(sizes: list[int]) -> Corpus:
    """One family of each size: a seed and its children."""
    examples: list[Example] = []
    for number, size in enumerate(sizes):
        seed = Example(
            text=f"Seed number {number}, naïvely “quoted”.",
            subject=f"Subject {number}",
            attributes={"topic": f"topic {number}"} | ({"tone": "dry"} if number else {}),
            operator="seed",
            round=0,
            model="/home/somebody/models/tiny.gguf int8",
            prompt="00",
        )
        examples.append(seed)
        for child in range(size - 1):
            examples.append(
                Example(
                    text=f"Child {child} of {number}.",
                    subject="",
                    attributes=seed.attributes,
                    operator="variation",
                    round=1 + child,
                    model="tiny",
                    prompt="01",
                    parents=(seed.id,),
                    family=seed.root,
                )
            )
    order = np.random.default_rng(0).permutation(len(examples))
    return Corpus(tuple(examples)).take(order)


def release(corpus: Corpus, test_share: float = 0.3, **more: Any) -> Release:
    weights = np.arange(1, len(corpus) + 1, dtype=np.float64)
    return Release(
        title="town mail",
        corpus=corpus,
        weights=weights / weights.sum(),
        test_share=test_share,
        facts={"generator": "tiny", "epsilon of a report": "4"},
        privacy="Every report satisfies pure local differential privacy with epsilon = 4.",
        form=EMAIL,
        **more,
    )


def save(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def rows(made: Release, form: Format) -> dict[str, list[dict[str, Any]]]:
    """Split -> rows, read without the datasets library."""
    found = {}
    for name, content in made.files(form).items():
        split = "test" if "test" in name else "train"
        if name.endswith(".parquet"):
            found[split] = pq.read_table(io.BytesIO(content)).to_pylist()
        elif name.endswith(".jsonl"):
            found[split] = [json.loads(line) for line in content.decode().splitlines()]
    return found


CORPUS = families([1, 5, 2, 3, 1, 4, 2, 6])


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=15), share=st.floats(0, 1))
def test_families_never_straddle_the_split(sizes: list[int], share: float) -> None:
    corpus = families(sizes)
    test = synth.export.test_split(corpus, share)
    assert test.dtype == bool and len(test) == len(corpus)
    roots = np.array([example.root for example in corpus])
    assert not set(roots[test]) & set(roots[~test])
    smallest = min(sizes)
    assert test.sum() <= max(share * len(corpus), smallest)
    assert test.any() == (share > 0 and (len(sizes) > 1 or share == 1))
    # The ids alone decide, not the order of the corpus.
    turned = synth.export.test_split(Corpus(corpus.examples[::-1]), share)
    np.testing.assert_array_equal(turned[::-1], test)


def test_negative_control_a_random_split_straddles() -> None:
    test = np.random.default_rng(0).random(len(CORPUS)) < 0.3
    roots = np.array([example.root for example in CORPUS])
    assert set(roots[test]) & set(roots[~test])


def test_the_split_is_near_its_share() -> None:
    corpus = families([3] * 100)
    assert 0.25 < synth.export.test_split(corpus, 0.3).mean() <= 0.3


@pytest.mark.parametrize("form", list(Format))
def test_no_parent_or_child_straddles_in_any_format(form: Format) -> None:
    split = rows(release(CORPUS), form)
    ids, families = ({name: {row[key] for row in split[name]} for name in split} for key in ("id", "family"))
    assert not ids["train"] & ids["test"] and not families["train"] & families["test"]
    parents = {example.id: set(example.parents) for example in CORPUS}
    assert not any(parents[one] & ids["train"] for one in ids["test"])
    assert not any(parents[one] & ids["test"] for one in ids["train"])
    assert "" not in families["train"] | families["test"]


@pytest.mark.parametrize("form", [Format.HF, Format.JSONL, Format.PARQUET])
def test_every_form_holds_every_example_with_its_weight(form: Format) -> None:
    made = release(CORPUS)
    weight = dict(zip(CORPUS.ids, made.weights, strict=True))
    found = [row for split in rows(made, form).values() for row in split]
    for row in found:
        example = CORPUS.examples[CORPUS.ids.index(row["id"])]
        assert (row["text"], row["subject"], row["round"]) == (example.text, example.subject, example.round)
        asked = {name: value for name, value in row["attributes"].items() if value is not None}
        assert tuple(row["parents"]) == example.parents and asked == dict(example.attributes)
    assert {row["id"]: row["weight"] for row in found} == weight
    assert sum(row["weight"] for row in found) == pytest.approx(1)


def test_a_model_of_this_machine_is_named_without_its_folders() -> None:
    made = release(CORPUS, generator="/home/somebody/models/tiny.gguf int8")
    for form in Format:
        files = made.files(form)
        assert not any(b"somebody" in content for content in files.values()), form
    assert {row["model"] for split in rows(made, Format.HF).values() for row in split} == {"tiny.gguf int8", "tiny"}


@pytest.mark.parametrize("form", list(Format))
def test_the_datasets_library_loads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, form: Format
) -> None:
    """And warns of nothing: of a card whose split sizes lack a number it says that they are malformed."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(logging.getLogger("datasets"), "propagate", True)
    made = release(CORPUS)
    folder = save(made.files(form), tmp_path / "dataset")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert not [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    expected = rows(made, form)
    assert set(loaded) == set(expected) == {"train", "test"}
    for split, lines in expected.items():
        assert len(loaded[split]) == len(lines)
        for row, line in zip(loaded[split], lines, strict=True):
            if "attributes" in line:
                line["attributes"] = {"topic": None, "tone": None} | line["attributes"]
            assert row == line
    assert loaded["train"].features == loaded["test"].features
    declared = loaded["train"].features
    value = datasets.Value
    assert declared["weight"] == value("float64") and declared["id"] == value("string")
    if form is Format.SFT:
        turn = {"role": value("string"), "content": value("string")}
        assert declared["messages"] == datasets.List(turn)
    else:
        assert declared["attributes"] == {"tone": value("string"), "topic": value("string")}
        assert declared["round"] == value("int32") and declared["parents"] == datasets.List(value("string"))


def test_negative_control_the_datasets_library_notices_a_missing_row(tmp_path: Path) -> None:
    import datasets

    files = release(CORPUS).files(Format.JSONL)
    files["train.jsonl"] = files["train.jsonl"].split(b"\n", 1)[1]
    folder = save(files, tmp_path / "dataset")
    with pytest.raises(Exception, match=r"(?s)expected.*recorded") as refused:
        datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert type(refused.value).__name__ == "NonMatchingSplitsSizesError"


def test_the_same_release_has_the_same_bytes() -> None:
    for form in Format:
        assert release(CORPUS).files(form) == release(CORPUS).files(form)
        assert release(CORPUS, 0.6).files(form) != release(CORPUS).files(form)


def test_the_heaviest_examples_alone_and_the_split_stays() -> None:
    whole = rows(release(CORPUS), Format.JSONL)
    few = rows(release(CORPUS, top=10), Format.JSONL)
    heavy = {row["id"] for split in few.values() for row in split}
    assert heavy == set(CORPUS.ids[-10:])  # weights rise with the position
    for split, kept in few.items():
        assert kept == [row for row in whole[split] if row["id"] in heavy]
    # Weights are shares of all votes, so they are not made to sum to 1 again.
    least = 12 / sum(range(1, len(CORPUS) + 1))
    some = [row for split in rows(release(CORPUS, min_share=least), Format.JSONL).values() for row in split]
    assert len(some) == len(CORPUS) - 11 and min(row["weight"] for row in some) == least
    both = release(CORPUS, min_share=least, top=3)
    assert both.kept.sum() == 3 and len(both.texts) == 3
    card = both.files()["README.md"].decode()
    share = sum((22, 23, 24)) / sum(range(1, 25))
    assert f"These are 3 of the 24 examples of the corpus, with {share:.1%} of the estimated votes." in card


def test_equal_weights_are_taken_in_order() -> None:
    made = dataclasses.replace(release(CORPUS), weights=np.full(len(CORPUS), 1 / len(CORPUS)), top=5)
    np.testing.assert_array_equal(np.flatnonzero(made.kept), range(5))


def test_a_split_without_rows_has_no_file(tmp_path: Path) -> None:
    import datasets

    for made in (release(families([7])), release(CORPUS, 0.0)):
        files = made.files(Format.JSONL)
        assert set(files) == {"train.jsonl", "README.md"}
        assert "There is no test split." in files["README.md"].decode()
    folder = save(release(CORPUS, 0.0).files(), tmp_path / "dataset")
    assert set(datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))) == {"train"}


def test_examples_without_attributes_have_no_such_column() -> None:
    plain = Corpus(tuple(dataclasses.replace(example, attributes={}) for example in families([1, 1, 1])))
    for form in (Format.HF, Format.JSONL):
        assert all("attributes" not in row for split in rows(release(plain), form).values() for row in split)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"test_share": 1.0}, "test_share is 1; expected a share in"),
        ({"top": 0}, "top is 0; expected 1 or more"),
        ({"min_share": -0.1}, "min_share is -0.1; expected a share"),
        ({"min_share": 0.5}, r"no example has so large a share \(the largest is 0.08\)"),
        ({"tasks": ("write", "rhyme")}, "tasks has 'rhyme'; expected some of write, subject"),
        ({"weights": np.ones(3)}, "3 weights for 24 examples"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(release(CORPUS), **wrong)
