"""Fragments of prompts: what the server asks, what devices answer, and that the two halves do not mix."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from device_poll.events.activity import Activity
from device_poll.events.fragments import BLOCK, PromptFragments, PromptPool, _fragments, _share_of
from device_poll.population import PopulationError
from device_poll.sources.items import SourceError
from privacy.poll import Choice
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import DeviceStream, Stage

SECRET = "zanzibar"
ACTIVITY = Activity(mean=2.0, sigma=1.0)
COLOURS, ANIMALS = ("red", "blue", "green"), ("cat", "dog", "owl", "newt")


def rows(n: int = 400) -> list[dict[str, Any]]:
    """Prompts 'a red cat in the style of ...', of two kinds and one that is not read."""
    rng = np.random.default_rng(0)
    prompts = []
    for i in range(n):
        colour, animal = COLOURS[rng.choice(3, p=[0.6, 0.3, 0.1])], ANIMALS[rng.choice(4, p=[0.5, 0.3, 0.15, 0.05])]
        text = f"A {colour} {animal.upper()} of the sea"
        prompts.append({"id": f"p{i}", "kind": "emoji" if i % 2 else "image", "text": text})
    return [*prompts, {"id": "x", "kind": "support", "text": SECRET}]


def write(folder: Path, prompts: list[dict[str, Any]]) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in prompts), encoding="utf-8")
    return path


@pytest.fixture
def pool(tmp_path: Path) -> PromptPool:
    return PromptFragments(path=write(tmp_path, rows()), candidates=8).load()


def test_fragments_of_a_prompt() -> None:
    assert _fragments("A red CAT, a red cat's hat of the sea", (1,)) == {"red", "cat", "cat's", "hat", "sea"}
    pairs = _fragments("the red cat of the sea", (2,))
    assert pairs == {"the red", "red cat", "cat of", "the sea"}, "'of the' is stop words alone"
    assert _fragments("8 k", (1, 2)) == set()
    assert _fragments("a cat", (1, 2, 3)) == {"cat", "a cat"}
    assert _fragments("snake_case-name", (1,)) == {"snake", "case", "name"}


def test_the_most_common_fragments_of_the_public_half(tmp_path: Path, pool: PromptPool) -> None:
    public = [row for row in rows() if row["kind"] != "support" and _share_of(row["id"]) < 0.5]
    assert pool.public_prompts == len(public) and pool.public_prompts + pool.private_prompts == 400
    assert abs(pool.public_prompts - 200) < 5 * np.sqrt(100)
    counts = {name: sum(name in _fragments(row["text"], (1, 2)) for row in public) for name in pool.candidates}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert {"sea", "the sea", "red", "cat"} <= set(pool.candidates)
    assert SECRET not in pool.candidates, "another kind"
    ordered = PromptFragments(path=write(tmp_path, rows()[::-1]), candidates=8).load()
    assert ordered.candidates == pool.candidates, "the order of rows decides nothing"


def test_nothing_of_the_private_half_is_asked_about(tmp_path: Path) -> None:
    private = [row | {"text": f"{SECRET} {i}"} for i, row in enumerate(rows()) if _share_of(row["id"]) >= 0.5]
    public = [row for row in rows() if _share_of(row["id"]) < 0.5]
    pool = PromptFragments(path=write(tmp_path, public + private), candidates=8).load()
    assert not any(SECRET in candidate for candidate in pool.candidates)
    answers = pool.answers(500, ACTIVITY, seed=0)
    assert (answers.values == 8).all() and not answers.held.any(), "none of these"


def scalar_answers(pool: PromptPool, devices: int, seed: int, round: int) -> tuple[list[int], list[int]]:
    """One device after the other, with sets."""
    prompts, owned = pool._owned(devices, ACTIVITY, seed, 0)
    stream = DeviceStream.simulation(seed=seed, round=round, stage=Stage.SAMPLE_ITEMS, chunk=0)
    values, held = [], [0] * len(pool.candidates)
    for device in range(devices):
        own: list[int] = []
        for prompt in prompts[owned[device] : owned[device + 1]].tolist():
            own += [c for c in pool.ids[pool.offsets[prompt] : pool.offsets[prompt + 1]].tolist() if c not in own]
        for candidate in own:
            held[candidate] += 1
        word = int.from_bytes(stream.bytes(8), "little")
        values.append(own[word * len(own) >> 64] if own else len(pool.candidates))
    return values, held


def test_answers_agree_with_a_scalar_reading(pool: PromptPool) -> None:
    answers = pool.answers(700, ACTIVITY, seed=4, round=2)
    values, held = scalar_answers(pool, 700, seed=4, round=2)
    assert answers.values.tolist() == values and answers.held.tolist() == held
    assert answers.values.dtype == np.int64


def test_rounds_ask_the_same_devices_anew(pool: PromptPool) -> None:
    one, again, other = (pool.answers(2000, ACTIVITY, seed=1, round=r) for r in (0, 0, 1))
    assert np.array_equal(one.values, again.values) and not np.array_equal(one.values, other.values)
    assert np.array_equal(one.held, other.held), "what a device holds stays"
    assert np.array_equal(one.values == 8, other.values == 8)


def test_an_answer_is_any_of_the_fragments_held_as_likely(pool: PromptPool) -> None:
    # A device with one prompt of four candidates answers each in a quarter of the rounds.
    one = PromptPool(candidates=pool.candidates, offsets=np.array([0, 4]), ids=np.array([6, 1, 3, 0]), public_prompts=1)
    busy = Activity(mean=50.0, sigma=0.0)  # every device holds the prompt, many times
    values = one.answers(40_000, busy, seed=3).values
    counts = np.bincount(values, minlength=8)
    assert set(np.flatnonzero(counts).tolist()) == {0, 1, 3, 6}
    assert chisquare(counts[[0, 1, 3, 6]]).pvalue > 1e-3
    assert chisquare(counts[[0, 1, 3, 6]] + np.array([1000, 0, 0, 0])).pvalue < 1e-6  # negative control


def test_shares_of_devices_are_those_of_prompts(pool: PromptPool) -> None:
    n = 2 * BLOCK + 100
    answers = pool.answers(n, ACTIVITY, seed=0)
    with_fragment = np.bincount(pool.ids, minlength=8) / pool.private_prompts
    # A device without a prompt of the fragment: none among a Poisson number of them, averaged over rates.
    expected = np.array([1 - ACTIVITY.sent_law(1, thinning=min(1.0, share))[0] for share in with_fragment])
    spread = np.sqrt(n * expected * (1 - expected))
    assert (np.abs(answers.held - n * expected) < 5 * spread).all()
    assert (np.abs(np.roll(answers.held, 1) - n * expected) > 5 * spread).any()  # negative control
    assert (np.bincount(answers.values, minlength=9)[:8] <= answers.held).all()
    # Blocks have streams of their own, and further devices do not change the first.
    fewer = pool.answers(BLOCK + 5, ACTIVITY, seed=0)
    assert np.array_equal(answers.values[:BLOCK], fewer.values[:BLOCK])
    assert not np.array_equal(answers.values[:BLOCK], answers.values[BLOCK : 2 * BLOCK])


def test_the_mechanism_takes_the_answers(pool: PromptPool) -> None:
    answers = pool.answers(20_000, ACTIVITY, seed=0)
    choice = Choice(len(pool.candidates))
    poll = RandomizedResponse(epsilon=4.0, domain_size=choice.answers)
    tally = poll.tally(poll.privatize(answers.values, np.random.default_rng(0)))
    truth, (estimate, none) = choice.counted(answers.values), choice.split(poll.estimate(tally))
    assert (np.abs(estimate.counts - truth[:8]) < 5 * estimate.stderr).all()
    assert abs(none.counts[0] - truth[8]) < 5 * none.stderr[0] and truth[8] > 1000
    # Negative control: the counts of other fragments are far off.
    assert (np.abs(estimate.counts - np.roll(truth[:8], 1)) > 5 * estimate.stderr).any()


def test_what_a_device_downloads_and_what_it_is_called(tmp_path: Path, pool: PromptPool) -> None:
    assert pool.nbytes == sum(len(name) + 1 for name in pool.candidates) and pool.asked is None
    fewer = PromptFragments(path=write(tmp_path, rows()), candidates=7).load()
    assert fewer.digest != pool.digest == PromptFragments(path=write(tmp_path, rows()), candidates=8).load().digest
    other_prompts = dataclasses.replace(pool, offsets=np.array([0, 1]), ids=np.array([3]))
    assert other_prompts.digest == pool.digest, "nothing of the private half is in it"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, r"vocabulary.path is null; expected JSON lines of prompts with id, kind, text"),
        ({"path": "nowhere.jsonl"}, r"nowhere.jsonl, which does not exist"),
        ({"kinds": ()}, r"vocabulary.kinds is \(\); expected a list of names"),
        (
            {"kinds": ("emoji", "photo")},
            r"no prompts of kind 'photo'; it has: emoji, image, support; name one of these",
        ),
        ({"kind": "sort"}, r"has no field 'sort'; it has: id, kind, text; name one of these"),
        ({"kinds": ("photo",), "kind": "id"}, r"no prompts of kind 'photo'; it has: 401 different names, not shown"),
        ({"words": (0,)}, r"vocabulary.words is \[0\]; expected some of 1, 2, 3"),
        ({"candidates": 1}, r"vocabulary.candidates is 1; expected 2 or more"),
        ({"candidates": 10_000}, r"fragments in its \d+ public prompts; expected 10000 or more; lower"),
        ({"public_share": 1.0}, r"vocabulary.public_share is 1; expected a share between 0 and 1"),
        ({"on_bad_row": "pass"}, r"vocabulary.on_bad_row is 'pass'"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        PromptFragments(**{"path": write(tmp_path, rows()), **options}).load()
    assert SECRET not in str(caught.value)


def test_bad_rows(tmp_path: Path) -> None:
    path = write(
        tmp_path, [*rows(), {"id": "y", "kind": "emoji", "text": ""}, {"id": 7, "kind": "emoji", "text": SECRET}]
    )
    with pytest.raises(SourceError, match="line 402 has an empty text"):
        PromptFragments(path=path, candidates=8).load()
    pool = PromptFragments(path=path, candidates=8, on_bad_row="skip").load()
    assert pool.dropped == {"empty": 1, "not_text": 1}
    assert pool.public_prompts + pool.private_prompts == 400


def test_too_few_devices(pool: PromptPool) -> None:
    with pytest.raises(PopulationError, match="devices is 0; expected 1 or more"):
        pool.answers(0, ACTIVITY, seed=0)
