"""The language-model generator on a tiny model of random weights."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from numpy.typing import NDArray

from synth import decoding
from synth.attributes import AttributeGrid
from synth.corpus import Corpus, Example
from synth.filters import Filters
from synth.generator import GenerationError
from synth.language_model import ATTRIBUTE_CHANGE, PARENT_AS_EXAMPLE, LanguageModelGenerator
from synth.prompts import load_examples, request
from synth.weights import ModelSource
from tests.synth.conftest import GRID

LENIENT = Filters(min_words=1, max_words=500, min_distinct_trigrams=0.0, max_copied_words=500)


def stream(seed: int = 0) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed)


def quiet(kept: int, wanted: int) -> None:
    pass


def tiny_generator(folder: Path, cache: Path, **changes: Any) -> LanguageModelGenerator:
    made = LanguageModelGenerator(
        source=ModelSource(model=str(folder)),
        cache=cache,
        grid=GRID,
        filters=LENIENT,
        temperature=1.0,
        top_k=600,
        top_p=1.0,
        chunk=5,
    )
    return replace(made, **changes)


def test_the_same_seed_gives_the_same_texts(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    first = tiny_generator(folder, tmp_path / "a").seed(8, stream(), lambda *now: told.append(now))
    assert len(first.corpus) == 8 and told[0] == (0, 8) and told[-1] == (8, 8)
    assert first.attempted == 8 + sum(first.drops.values()) and first.attempted % 5 == 0
    assert len(set(first.corpus.texts)) == 8
    for example in first.corpus:
        assert example.text[-1] in ".!?\"')" and example.operator == "seed" and example.parents == ()
    assert any(example.subject for example in first.corpus)
    again = tiny_generator(folder, tmp_path / "b").seed(8, stream(), quiet)
    assert again == first
    assert tiny_generator(folder, tmp_path / "b").seed(8, stream(1), quiet).corpus != first.corpus


def test_finished_chunks_are_not_written_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiny_generator(folder, tmp_path).seed(6, stream(), quiet)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "generation").iterdir()}
    assert len(kept) == first.attempted // 5

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model must not be loaded")

    with monkeypatch.context() as patch:
        patch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)
        assert tiny_generator(folder, tmp_path).seed(6, stream(), quiet) == first
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "generation").iterdir()} == kept
        # Negative control: other numbers or settings are not served from these chunks.
        for other in ({"temperature": 0.9}, {"top_k": 7}, {"top_p": 0.5}):
            with pytest.raises(AssertionError, match="must not be loaded"):
                tiny_generator(folder, tmp_path, **other).seed(6, stream(), quiet)
        with pytest.raises(AssertionError, match="must not be loaded"):
            tiny_generator(folder, tmp_path).seed(6, stream(1), quiet)
    # A killed run lost one chunk: it is written again, the same.
    next(iter(kept)).unlink()
    assert tiny_generator(folder, tmp_path).seed(6, stream(), quiet) == first


def test_chunks_of_equal_prompts_and_other_random_numbers_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    one = AttributeGrid(
        axes={axis: entries[:1] for axis, entries in GRID.axes.items()},
        groups={"a late train": "any"},
        length_words={"short": (5, 10)},
    )
    generator = tiny_generator(folder, tmp_path, grid=one, examples=load_examples()[:1] * 3)
    texts = [generator.seed(3, stream(seed), quiet).corpus for seed in (0, 1)]
    assert {example.prompt for corpus in texts for example in corpus} == {texts[0].examples[0].prompt}
    assert not set(texts[0].texts) & set(texts[1].texts)


def test_too_few_kept_texts_say_why(folder: Path, tmp_path: Path) -> None:
    strict = tiny_generator(folder, tmp_path, filters=replace(LENIENT, min_words=400), attempts=1.0)
    with pytest.raises(GenerationError, match=r"only 0 of 3 texts were kept after 8 attempts \(.*too short \d"):
        strict.seed(3, stream(), quiet)


# What is asked for and what becomes of it: decoding is scripted, so that every text is known.


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Decoding writes a numbered email; returns the prompts of every chunk."""
    chunks: list[list[str]] = []

    def write(model: Any, tokenizer: Any, start: str, prompts: list[str], *rest: Any) -> list[str]:
        chunks.append(prompts)
        return [f"Text {len(chunks)} {i} is here. And more\nSubject: S{i}\n" for i in range(len(prompts))]

    monkeypatch.setattr(decoding, "decode", write)
    return chunks


def parents(n: int) -> Corpus:
    asked = GRID.sample(n, np.random.default_rng(0))
    return Corpus(
        tuple(
            Example(
                text=f"Parent {i}.",
                subject=f"About {i}",
                attributes=asked[i],
                operator="seed",
                round=0,
                model="m",
                prompt="p",
                family="" if i else "0123456789abcdef",
            )
            for i in range(n)
        )
    )


def test_children_follow_the_weights_and_record_their_lineage(
    folder: Path, tmp_path: Path, scripted: list[list[str]]
) -> None:
    corpus = parents(4)
    generator = tiny_generator(folder, tmp_path, chunk=7)
    made = generator.vary(corpus, np.array([4.0, 1.0, 0.0, 3.0]), 16, 3, stream(), quiet)
    by_id = dict(zip(corpus.ids, corpus, strict=True))
    assert Counter(child.parents[0] for child in made.corpus) == {corpus.ids[0]: 8, corpus.ids[1]: 2, corpus.ids[3]: 6}
    assert {child.operator for child in made.corpus} == {PARENT_AS_EXAMPLE, ATTRIBUTE_CHANGE}
    prompts = [prompt for chunk in scripted for prompt in chunk]
    for child, prompt in zip(made.corpus, prompts, strict=False):
        parent = by_id[child.parents[0]]
        assert child.family == parent.root and child.round == 3 and child.model == generator.name
        assert child.attributes["topic"] == parent.attributes["topic"]
        assert child.attributes != parent.attributes
        assert request(child.attributes) in prompt
        # Only one of the two operators shows the model its parent.
        assert (f"{parent.text}\nSubject: {parent.subject}" in prompt) == (child.operator == PARENT_AS_EXAMPLE)
    assert made.corpus.examples[0].text == "Text 1 0 is here." and made.corpus.examples[0].subject == "S0"
    assert made.attempted == 21 and made.drops == {"surplus": 5}


@pytest.mark.parametrize(("share", "operator"), [(1.0, PARENT_AS_EXAMPLE), (0.0, ATTRIBUTE_CHANGE)])
def test_the_share_of_few_shot_variations(
    folder: Path, tmp_path: Path, scripted: list[list[str]], share: float, operator: str
) -> None:
    made = tiny_generator(folder, tmp_path, few_shot_share=share).vary(parents(3), np.ones(3), 9, 1, stream(), quiet)
    assert {child.operator for child in made.corpus} == {operator}
    assert Counter(child.parents[0] for child in made.corpus) == dict.fromkeys(parents(3).ids, 3)


def test_seeds_spread_over_the_topics(folder: Path, tmp_path: Path, scripted: list[list[str]]) -> None:
    made = tiny_generator(folder, tmp_path).seed(30, stream(), quiet)
    topics = Counter(example.attributes["topic"] for example in made.corpus)
    assert set(topics) == set(GRID.axes["topic"]) and min(topics.values()) >= 3
    assert {len(chunk) for chunk in scripted} == {5}


def test_the_topic_filter_is_used_once_an_encoder_is_given(
    folder: Path, tmp_path: Path, scripted: list[list[str]]
) -> None:
    def encode(texts: Any) -> NDArray[np.float32]:
        # Every other text of a chunk is off its topic.
        off = [bool(re.search(r"Text \d+ [13] ", text)) for text in texts]
        return np.array([[0.0, 1.0] if o else [1.0, 0.0] for o in off], dtype=np.float32)

    made = tiny_generator(folder, tmp_path).with_encoder(encode).seed(6, stream(), quiet)
    assert made.corpus.texts == [f"Text {chunk} {i} is here." for chunk in (1, 2) for i in (0, 2, 4)]
    assert made.drops == {"off topic": 4}


@pytest.mark.parametrize(
    ("corpus", "weights"),
    [(Corpus(), []), (parents(2), [0.0, 0.0]), (parents(2), [2.0, -1.0]), (parents(2), [1.0, np.nan])],
)
def test_nothing_to_vary(folder: Path, tmp_path: Path, corpus: Corpus, weights: list[float]) -> None:
    with pytest.raises(GenerationError, match=f"nothing to vary: {len(corpus)} parents"):
        tiny_generator(folder, tmp_path).vary(corpus, np.array(weights), 3, 1, stream(), quiet)


def test_check_finds_missing_folders(folder: Path, tmp_path: Path) -> None:
    tiny_generator(folder, tmp_path).check()
    with pytest.raises(GenerationError, match="does not exist"):
        tiny_generator(tmp_path / "none", tmp_path).check()


@pytest.mark.parametrize("fields", [{"chunk": 0}, {"few_shot_share": 1.5}, {"attempts": 0.5}])
def test_bad_settings(folder: Path, tmp_path: Path, fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"generator.{next(iter(fields))} is {next(iter(fields.values()))}"):
        tiny_generator(folder, tmp_path, **fields)
