"""Runs whose rounds are decided by the density of all votes: what they leave, and that they go on where they were."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from device_poll.town.build import build_town
from embed.hashed import HashedFakeEncoder
from experiments.folder.layout import Round, truth
from experiments.folder.store import RunFolder
from experiments.refine.evaluate import EvaluationRule, Oracle
from synth.corpus import Corpus
from synth.scripted import ScriptedFakeGenerator
from tests.experiments.conftest import contents

DENSITY = ("decision.pool=120", "decision.written=30")


class Killed(BaseException):
    """Stands for a kill at this point: nothing after it runs."""


def test_what_it_leaves(smoke):
    folder = smoke("run", *DENSITY)
    pools = [Corpus.from_parquet(folder / Round(number).pool) for number in range(4)]
    assert [len(pool) for pool in pools] == [120, 30, 30, 30]
    assert [{example.round for example in pool} for pool in pools] == [{0}, {1}, {2}, {3}]
    known: set[str] = set()
    for number in range(4):
        known |= set(pools[number].ids)
        slate = Corpus.from_parquet(folder / Round(number).corpus)
        assert len(set(slate.ids)) == 40 and set(slate.ids) <= known, "chosen from all that was written so far"
    weights = np.load(folder / Round(2).next_weights)
    assert len(weights) == 40 and weights.sum() == pytest.approx(1) and (weights >= 0).all()
    rows = [json.loads((folder / Round(number).metrics).read_text()) for number in range(4)]
    assert [row.get("pool") for row in rows] == [150, 180, 210, None]
    assert "predicted_votes" not in rows[0], "before the first poll nothing is known"
    told, errors = ([row[name] for row in rows[1:3]] for name in ("predicted_votes", "predicted_votes_stderr"))
    assert sum(told) > 3 * float(np.hypot(*errors)) > 0, "before a poll the density knows something of it"
    ranks = pq.read_table(folder / Round(0).estimate)["rank"].to_numpy()
    assert (
        (ranks >= 0).sum()
        == rows[0]["winners"]
        == len(
            set(Corpus.from_parquet(folder / Round(0).corpus).ids)
            & set(Corpus.from_parquet(folder / Round(1).corpus).ids)
        )
    )
    released = pq.read_table(next((folder / "dataset").rglob("*train*.parquet")))
    assert "weight" in released.column_names


def test_it_comes_nearer_to_devices_than_what_looks_at_no_vote(smoke):
    """By the judge, against the arms: what covers the pool, and texts at random."""
    arms = "arms=[diversity,random_selection]"
    found: dict[str, list[float]] = {}
    for seed in range(3):
        folder = smoke(f"run{seed}", *DENSITY, arms, f"seed={seed}")
        for name, place in (
            ("run", folder), ("diversity", folder / "oracle/arms/diversity"),
            ("random", folder / "oracle/arms/random_selection"),
        ):  # fmt: skip
            last = json.loads((place / "rounds/003/oracle/metrics.json").read_text())
            found.setdefault(name, []).append(last["fid_pca16"])
    assert max(found["run"]) < min(found["diversity"] + found["random"]), found


@pytest.mark.parametrize("kill_at", [4, 9, 21, 34])
def test_a_killed_run_resumes_to_the_same_bytes(smoke, monkeypatch, kill_at):
    whole = contents(smoke("whole", *DENSITY, "arms=[diversity]"))
    write, calls = RunFolder.write_bytes, 0

    def dying(self, name, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == kill_at:
            raise Killed
        write(self, name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_bytes", dying)
        with pytest.raises(Killed):
            smoke("broken", *DENSITY, "arms=[diversity]")
    assert contents(smoke("broken", *DENSITY, "arms=[diversity]")) == whole


def test_trust_models_that_share_or_shuffle_decide_by_it_too(smoke):
    rows = [
        json.loads((smoke(trust, *DENSITY, f"trust={trust}") / Round(number).metrics).read_text())
        for trust in ("shuffled", "secure_aggregation", "central")
        for number in (1, 2)
    ]
    told, errors = (np.array([row[name] for row in rows]) for name in ("predicted_votes", "predicted_votes_stderr"))
    assert (told / errors).min() > -3 and told.sum() > 3 * np.linalg.norm(errors)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("decision.pool=40", "decision.pool is 40 and candidates 40; expected a larger pool"),
        ("decision.pool=1", "decision.pool is 1; expected 2 or more"),
        ("decision.written=-1", "decision.written is -1; expected 0 or more"),
        ("decision.most_demand=0", "decision.most_demand is 0; expected 1 or more"),
        ("decision.follows=rank", "decision.follows is 'rank'; expected one of votes, nothing, chance"),
    ],
)
def test_refused_before_anything_is_made(compose_job, override, message):
    with pytest.raises(Exception, match=message.replace("(", r"\(")):
        compose_job("experiment=smoke", *DENSITY, override)


def test_an_arm_without_votes_needs_a_pool(compose_job):
    with pytest.raises(
        Exception, match="arms has 'diversity', which is a choice from a pool; expected decision=density"
    ):
        compose_job("experiment=smoke", "decision=survival", "arms=[diversity]")


def test_the_table_has_its_rounds(smoke):
    screen = Console(file=io.StringIO(), width=200)
    smoke("run", *DENSITY, console=screen)
    assert "run round 2:" in screen.file.getvalue() and "final" in screen.file.getvalue()


def test_nothing_more_is_written_if_so_asked(smoke, monkeypatch):
    """A language model cannot be asked for no variation at all: it is not asked."""
    monkeypatch.setattr(ScriptedFakeGenerator, "vary", lambda *_: pytest.fail("asked"))
    folder = smoke("run", *DENSITY, "decision.written=0", "arms=[no_privacy]")
    assert len(Corpus.from_parquet(folder / Round(3).pool)) == 0
    assert len(Corpus.from_parquet(folder / Round(3).corpus)) == 40


def test_topics_of_texts_are_held_against_the_known_ones(smoke):
    """The devices' own mail has them nearly right. Negative control: texts of one topic have not."""
    folder = smoke("run", *DENSITY, "rounds=1")
    for number in range(2):
        with (folder / Round(number).topics).open() as file:
            rows = list(csv.DictReader(file))
        known, texts = (np.array([float(row[name]) for row in rows]) for name in ("known", "texts"))
        assert known.sum() == pytest.approx(1) and texts.sum() == pytest.approx(1)
        found = json.loads((folder / truth(Round(number).metrics)).read_text())
        assert found["topic_distance"] == pytest.approx(np.abs(known - texts).sum() / 2)

    town, judge = build_town(2000, 1, 0), HashedFakeEncoder(dimension=48)
    vectors = judge.encode(town.texts)
    oracle = Oracle(
        fleet=None, population=None, judge=judge, sample=vectors[:1000], sampled=np.arange(1000),
        rule=EvaluationRule(), labels=np.array(town.topics), shares=town.proportions,
    )  # fmt: skip

    def off(rows: np.ndarray) -> float:
        return sum(abs(row["known"] - row["texts"]) for row in oracle.topics(rows).values()) / 2

    of_one = vectors[1000:][np.array(town.topics[1000:]) == town.topics[0]]
    assert off(vectors[1000:]) < 0.25 and off(of_one) > 0.5
