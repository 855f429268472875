"""The released data set: whole families on one side, weights, readable by the tools it is meant for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import synth.export
from synth.corpus import Corpus, Example
from synth.export import Release


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
            model="tiny",
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


def release(corpus: Corpus, test_share: float = 0.3) -> Release:
    weights = np.arange(1, len(corpus) + 1, dtype=np.float64)
    return Release(
        title="town mail",
        corpus=corpus,
        weights=weights / weights.sum(),
        test_share=test_share,
        facts={"generator": "tiny", "epsilon of a report": "4"},
        privacy="Every report satisfies pure local differential privacy with epsilon = 4.",
    )


def save(made: Release, folder: Path) -> Path:
    for name, content in made.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


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
    assert test.any() == (len(sizes) > 1 or share == 1)
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


def test_both_forms_hold_every_example_with_its_weight(tmp_path: Path) -> None:
    made = release(CORPUS)
    folder = save(made, tmp_path)
    weight = dict(zip(CORPUS.ids, made.weights, strict=True))
    found: dict[str, float] = {}
    for split in ("train", "test"):
        table = pq.read_table(folder / "data" / f"{split}-00000-of-00001.parquet")
        lines = [json.loads(line) for line in (folder / "jsonl" / f"{split}.jsonl").read_text("utf-8").splitlines()]
        assert [row["id"] for row in lines] == table.column("id").to_pylist()
        for row in lines:
            found[row["id"]] = row["weight"]
            example = CORPUS.examples[CORPUS.ids.index(row["id"])]
            assert (row["text"], row["subject"], row["round"]) == (example.text, example.subject, example.round)
            assert tuple(row["parents"]) == example.parents and row["attributes"] == dict(example.attributes)
    assert found == weight
    assert sum(found.values()) == pytest.approx(1)


def test_the_datasets_library_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    folder = save(release(CORPUS), tmp_path / "dataset")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "test"}
    test = synth.export.test_split(CORPUS, 0.3)
    for split, mask in (("train", ~test), ("test", test)):
        expected = CORPUS.take(np.flatnonzero(mask))
        assert loaded[split]["text"][:] == expected.texts
        assert loaded[split]["id"][:] == expected.ids
        for row, example in zip(loaded[split]["attributes"], expected, strict=True):
            assert row == {"topic": None, "tone": None} | dict(example.attributes)
        np.testing.assert_array_equal(loaded[split]["weight"][:], release(CORPUS).weights[mask])


def test_the_card_says_how_private_it_is() -> None:
    card = release(CORPUS).files()["README.md"].decode()
    assert "pure local differential privacy with epsilon = 4." in card
    assert "| epsilon of a report | 4 |" in card and "| generator | tiny |" in card
    train = int((~synth.export.test_split(CORPUS, 0.3)).sum())
    assert f"{train} training and {len(CORPUS) - train} test examples" in card
    assert card.startswith('---\npretty_name: "town mail"\n')


def test_the_same_release_has_the_same_bytes() -> None:
    assert release(CORPUS).files() == release(CORPUS).files()
    assert release(CORPUS, 0.6).files() != release(CORPUS).files()
