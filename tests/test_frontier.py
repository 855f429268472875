"""The benchmark of choices from a pool, at a small size: its parts are disjoint, and its rows are in order."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from benchmarks.frontier.__main__ import show, show_gain
from benchmarks.frontier.ways import Plan, central, levels, play
from benchmarks.frontier.world import World, parts_of, scale
from device_poll.town.build import build_town
from embed.hashed import HashedFakeEncoder
from privacy.randomness import Stage, seed_sequence
from synth.scripted import ScriptedFakeGenerator

TOPICS = ("soccer practice", "budget review", "dog adoption", "package delivery", "plumbing repair", "opera", "chess")


def test_parts_share_no_mailbox_and_no_beginning():
    rng = np.random.default_rng(0)
    users = [f"user{i}" for i in rng.integers(0, 40, 2000)]
    texts = [f"{'news' * 50 if i % 7 == 0 else i} of today" for i in range(2000)]
    parts = parts_of(users, texts, 300, rng)
    for of in (users, [text[:160] for text in texts]):
        seen = [{of[i] for i in part} for part in parts]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    voters, ceiling, test = map(len, parts)
    assert voters > 1000 and 200 < ceiling < 400 and 200 < test < 400


@pytest.fixture(scope="module")
def world() -> World:
    made = ScriptedFakeGenerator(topics=TOPICS).seed(400, seed_sequence(0, 0, Stage.SEED_CORPUS), lambda *_: None)
    town = build_town(2400, 1, 0)
    users = [str(place) for place in range(len(town.texts))]
    voters, ceiling, test = parts_of(users, [f"{place}" for place in users], 300, np.random.default_rng(0))
    encoders = {"voting": HashedFakeEncoder(), "judge": HashedFakeEncoder(dimension=96)}
    return World(
        corpus=made.corpus,
        pool={name: encoder.encode(made.corpus.texts) for name, encoder in encoders.items()},
        mail={name: encoder.encode(town.texts) for name, encoder in encoders.items()},
        voters=voters,
        ceiling=ceiling,
        test=test,
        keep=40,
        rounds=2,
        slate=60,
        none_below=0.1,
    )


def test_rows_are_in_order(world):
    """By similarity to mail: random, diversity, density, the best; and what knows nothing adds nothing."""
    random, best = scale(world)
    runs = [play(world, Plan(seed=seed), None) for seed in range(2)]
    found = {name: np.mean([world.measured(run[name])[0, 0] for run in runs]) for name in runs[0]}
    density = found["density, chosen slates"]
    assert random[0, 0] < density < best[0, 0] + 0.01
    assert density > found["diversity only"] > found["density of shuffled votes"] - 0.02
    assert density > found["density, an encoder of noise"]
    assert all(len(set(picks.tolist())) == 40 for run in runs for picks in run.values())
    screen = io.StringIO()
    console = Console(file=screen, width=200)
    show(console, world, runs, "small")
    show_gain(console, world, runs, "density, chosen slates")
    assert "best with the truth" in screen.getvalue() and "What the votes add to diversity, judge" in screen.getvalue()


def test_more_devices_and_a_larger_epsilon_lead_further(world):
    few = levels(world, Plan(seed=0, epsilon=0.1, devices=300), None)["density"]
    many = levels(world, Plan(seed=0, epsilon=8.0, devices=20000), None)["density"]
    assert world.measured(many)[0, 0] > world.measured(few)[0, 0]


def test_a_trusted_server_s_noise(world):
    """With little of it every loop is better than texts at random; with much, its votes say nothing of devices."""
    headings = [example.attributes["topic"] for example in world.corpus]
    random, _ = scale(world)
    near, far = (central(world, Plan(seed=0, devices=2000), sigma, headings) for sigma in (1.0, 1e5))
    assert len(near) == 4
    for name, picks in near.items():
        assert len(set(picks.tolist())) == 40 and world.measured(picks)[0, 0] > random[0, 0], name
    aug_pe = "Aug-PE: rank, a server's Gaussian noise"
    assert world.measured(far[aug_pe])[0, 0] < world.measured(near[aug_pe])[0, 0]
