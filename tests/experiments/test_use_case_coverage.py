"""Intervals hold the truth as often as they say, from the devices' events to the scores of the run folder."""

from __future__ import annotations

import csv
import math

import pytest

from aggregate.fragments import FragmentRule
from tests.experiments.use_case_files import play, write_files

SEEDS = 5
WIDE = ("mechanism.rows=256", "mechanism.columns=256")
CASES = {
    "emoji": WIDE,  # CMS
    "safari_costly": WIDE,  # HCMS
    "health_types": ("population=6000",),
    "genmoji_fragments": ("vocabulary.candidates=18", "population=8000", "release.minimum_count=100"),
}
SIGMAS = 5.0


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


def judged(tmp_path, files, experiment: str, *overrides: str) -> list[dict[str, str]]:
    """The scores of every key and seed, with the number of elements looked at."""
    found = []
    for seed in range(SEEDS):
        folder = play(tmp_path / f"{seed}", files, experiment, f"seed={seed}", *CASES[experiment], *overrides)
        for scores, public in zip(
            *(csv.DictReader((folder / place / "metrics.csv").open()) for place in ("oracle", "")), strict=True
        ):
            found.append({**public, **scores})
    return found


def coverage(rows: list[dict[str, str]]) -> tuple[float, int]:
    elements = [int(row["looked_at"]) for row in rows]
    held = sum(float(row["coverage"]) * n for row, n in zip(rows, elements, strict=True))
    return held / sum(elements), sum(elements)


@pytest.mark.parametrize("experiment", sorted(CASES))
def test_95_of_100_intervals_hold_the_truth(tmp_path, files, experiment):
    rows = judged(tmp_path, files, experiment)
    share, elements = coverage(rows)
    tolerance = SIGMAS * math.sqrt(0.95 * 0.05 / elements)
    assert abs(share - 0.95) < tolerance < 0.12
    # The root mean square of n standard normals has a standard deviation of about 1 / sqrt(2 n).
    square = sum(float(row["error_in_stderr"]) ** 2 * int(row["looked_at"]) for row in rows) / elements
    assert abs(math.sqrt(square) - 1) < SIGMAS / math.sqrt(2 * elements)
    # Corrected over all elements looked at, an interval that fails is rare: one run in twenty has any.
    assert sum(float(row["coverage_released"] or 1) < 1 for row in rows) <= 3
    assert all(row["false_releases"] == "0" for row in rows) or experiment == "safari_costly"


@pytest.mark.parametrize("experiment", ["emoji", "genmoji_fragments"])
def test_negative_control_intervals_of_one_standard_error_fail(tmp_path, files, experiment, monkeypatch):
    monkeypatch.setattr(FragmentRule, "confidence", 0.6827)
    overrides = ["release.confidence=0.6827"] if experiment == "emoji" else []
    share, elements = coverage(judged(tmp_path, files, experiment, *overrides))
    assert abs(share - 0.95) > SIGMAS * math.sqrt(0.95 * 0.05 / elements)


def test_new_words_are_found_and_what_is_released_was_typed(tmp_path, files):
    folder = play(tmp_path / "run", files, "new_words", "population=40000", "mechanism.columns=256")
    (public,) = csv.DictReader((folder / "metrics.csv").open())
    (scores,) = csv.DictReader((folder / "oracle" / "metrics.csv").open())
    assert int(public["new_words"]) == int(public["released"]) >= 4
    assert scores["false_releases"] == "0" and float(scores["coverage_released"]) == 1.0
    assert int(public["wrong_joins"]) >= 0 and int(public["pieces_estimated"]) > int(public["pieces_kept"])
    place = folder / "segments" / "new_words.en" / "oracle" / "by_frequency.csv"
    told = list(csv.DictReader(place.open()))
    assert [float(row["frequency"]) for row in told] == [1e-3, 3e-4, 1e-4, 3e-5, 1e-5]
    # Six words that no dictionary has and that fit, all typed more often than one in a thousand.
    assert told[0]["words"] == "6" and float(told[0]["precision"]) == 1.0 and float(told[0]["recall"]) > 0.6
    # 'extraordinarily' is too long, two are not of the alphabet; the ten known words are never sent.
    assert int(scores["dropped_unfit"]) > 0


def test_with_the_lexicon_on_the_server_known_words_are_found_and_marked(tmp_path, files):
    folder = play(
        tmp_path / "run", files, "new_words", "population=40000", "mechanism.columns=256",
        "search.lexicon_on_device=false",
    )  # fmt: skip
    (public,) = csv.DictReader((folder / "metrics.csv").open())
    assert 0 <= int(public["new_words"]) < int(public["released"])
