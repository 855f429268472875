"""The scripted fake generator keeps the promises of a generator."""

from __future__ import annotations

import numpy as np
import pytest

from synth.corpus import Corpus
from synth.generator import GenerationError
from synth.scripted import ScriptedFakeGenerator

FAKE = ScriptedFakeGenerator()


def stream(seed: int = 0) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed)


def quiet(kept: int, wanted: int) -> None:
    pass


def test_seed_takes_topics_in_turn_and_repeats() -> None:
    told: list[tuple[int, int]] = []
    made = FAKE.seed(12, stream(), lambda kept, wanted: told.append((kept, wanted)))
    assert [e.attributes["topic"] for e in made.corpus] == [FAKE.topics[i % 5] for i in range(12)]
    assert all(e.attributes["topic"] in e.text and e.round == 0 and e.parents == () for e in made.corpus)
    assert len(set(made.corpus.ids)) == 12 and made.attempted == 12 and told[-1] == (12, 12)
    assert FAKE.seed(12, stream(), quiet).corpus == made.corpus
    assert FAKE.seed(12, stream(1), quiet).corpus != made.corpus


def test_children_follow_the_weights_and_name_their_parents() -> None:
    parents = FAKE.seed(3, stream(), quiet).corpus
    n, weights = 4000, np.array([3.0, 1.0, 0.0])
    children = FAKE.vary(parents, weights, n, 2, stream(1), quiet).corpus
    by_id = dict(zip(parents.ids, parents, strict=True))
    for child in children:
        parent = by_id[child.parents[0]]
        assert child.round == 2 and child.family == parent.root
        assert child.attributes["topic"] == parent.attributes["topic"]
    counts = np.array([sum(c.parents[0] == i for c in children) for i in parents.ids])
    assert (np.abs(counts - n * weights / 4) <= 5 * np.sqrt(n * 0.75 * 0.25) * (weights > 0)).all()
    assert FAKE.vary(parents, weights, n, 2, stream(1), quiet).corpus == children


def test_a_grandchild_belongs_to_the_seeds_family() -> None:
    parents = FAKE.seed(1, stream(), quiet).corpus
    children = FAKE.vary(parents, np.ones(1), 2, 1, stream(), quiet).corpus
    grandchildren = FAKE.vary(children, np.ones(2), 3, 2, stream(), quiet).corpus
    assert {e.root for e in grandchildren} == set(parents.ids)
    assert {e.parents[0] for e in grandchildren} <= set(children.ids)


def test_nothing_to_vary() -> None:
    for parents, weights in ((Corpus(), np.array([])), (FAKE.seed(2, stream(), quiet).corpus, np.zeros(2))):
        with pytest.raises(GenerationError, match="nothing to vary"):
            FAKE.vary(parents, weights, 3, 1, stream(), quiet)


def test_it_says_that_it_is_a_fake() -> None:
    assert "fake" in FAKE.name
    assert FAKE.with_encoder(lambda texts: np.zeros((len(texts), 1), np.float32)) is FAKE
