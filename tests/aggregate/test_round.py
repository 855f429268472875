"""A round is a pure function: poll, estimate, select, vary. Fakes stand for the models and the devices."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from aggregate.intake import BatchError
from aggregate.round import RoundRecord, RoundState, Rules, play_round, slate_of
from aggregate.secure_aggregation import SecureAggregation
from aggregate.selection import RandomSelector, RankSelector, SampleSelector, Selector, ZScoreSelector
from aggregate.survival import Survival
from aggregate.trust import LocalTrust
from device_poll.sealing import sealed
from embed.hashed import HashedFakeEncoder
from privacy.no_privacy import NoPrivacy
from privacy.poll import Advance, Ask, ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import DeviceStream, NoiseSource, Stage, seed_sequence
from privacy.unary_encoding import OptimizedUnaryEncoding
from synth.scripted import ScriptedFakeGenerator

CANDIDATES, KEEP, DEVICES = 12, 4, 900


@dataclass
class FakeFleet:
    """Fake: two thirds of the devices hold gas prices, the others nothing that any candidate is about."""

    devices: int = DEVICES
    use_case: str | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)

    def answer(self, asks: Sequence[Ask], advance: Advance | None = None) -> Iterator[ReportBatch]:
        (ask,) = asks
        slate: Any = ask.needs
        self.asked.append((ask.round, len(slate)))
        wanted = HashedFakeEncoder().encode(["gas prices"])[0]
        values = np.full(self.devices, len(slate), dtype=np.int64)
        values[: self.devices * 2 // 3] = (slate.decode() @ wanted).argmax()
        rng = DeviceStream.simulation(seed=0, round=ask.round, stage=Stage.PRIVATIZE, chunk=0)
        batch = ReportBatch(
            self.use_case or ask.use_case, np.arange(self.devices), ask.mechanism.privatize(values, rng)
        )
        yield from sealed([batch], {batch.use_case: ask}, NoiseSource.seeded(0))


def rules(**changes: object) -> Rules:
    return replace(
        Rules(
            mechanism=partial(_oue, 4.0),
            decision=Survival(selector=RankSelector(), keep=KEEP),
            generator=ScriptedFakeGenerator(),
            encoder=HashedFakeEncoder(),
            candidates=CANDIDATES,
            minimum_batch=100,
            use_case="mail",
        ),
        **changes,
    )


def by(selector: Selector, concentration: float = 1.0) -> Survival:
    return Survival(selector=selector, keep=KEEP, concentration=concentration)


def keeping(keep: int) -> Survival:
    return Survival(selector=RankSelector(), keep=keep)


def _oue(epsilon: float, size: int) -> OptimizedUnaryEncoding:
    return OptimizedUnaryEncoding(epsilon=epsilon, domain_size=size)


def quiet(kept: int, wanted: int) -> None:
    pass


def first_state(n: int = CANDIDATES) -> RoundState:
    seeds = ScriptedFakeGenerator().seed(n, seed_sequence(0, 0, Stage.SEED_CORPUS), quiet)
    return RoundState(number=0, corpus=seeds.corpus)


def play(state: RoundState, fleet: FakeFleet | None = None, seed: int = 0, **changes: object):
    return play_round(state, rules(**changes), fleet or FakeFleet(), seed, NoiseSource.seeded(seed), quiet)


def same(a: RoundRecord, b: RoundRecord) -> bool:
    return (
        all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for name in ("embeddings", "next_weights", "none", "drops", "attempted", "bytes_down", "report_bits")
        )
        and np.array_equal(a.tally.sums, b.tally.sums)
        and np.array_equal(a.estimate.counts, b.estimate.counts)
        and np.array_equal(a.selection.picks, b.selection.picks)
    )


@pytest.mark.parametrize("selector", [RankSelector(), ZScoreSelector(at_least=2), SampleSelector(), RandomSelector()])
def test_the_same_input_gives_the_same_output_and_is_left_alone(selector) -> None:
    state = first_state()
    before = copy.deepcopy(state)
    np.random.seed(1)  # noqa: NPY002  # a round must not look at the global state
    (next_state, record) = play(state, decision=by(selector))
    np.random.seed(2)  # noqa: NPY002
    (again, record_again) = play(state, decision=by(selector))
    assert next_state == again
    assert same(record, record_again)
    assert state == before
    other_state, other = play(state, decision=by(selector), seed=1)
    assert other_state != next_state, "another seed, other children"
    assert np.array_equal(other.tally.sums, record.tally.sums), "the fake fleet has its own seed"


def test_winners_lead_the_next_corpus_and_children_fill_it() -> None:
    state = first_state()
    next_state, record = play(state)
    picks = record.selection.picks
    assert (
        len(picks) == KEEP
        and record.estimate.counts[picks].tolist() == sorted(record.estimate.counts, reverse=True)[:4]
    )
    assert next_state.number == 1
    assert len(next_state.corpus) == CANDIDATES
    assert next_state.corpus.examples[:KEEP] == state.corpus.take(picks).examples
    winners = {example.id for example in next_state.corpus.examples[:KEEP]}
    for child in next_state.corpus.examples[KEEP:]:
        assert child.round == 1
        assert child.parents[0] in winners
        assert child.family in state.corpus.ids
    assert "gas prices" in state.corpus.examples[picks[0]].text, "what the devices hold wins"


def test_the_record_says_what_the_server_learned() -> None:
    state = first_state()
    fleet = FakeFleet()
    _, record = play(state, fleet)
    vectors, slate = slate_of(HashedFakeEncoder(), state.corpus)
    np.testing.assert_array_equal(record.embeddings, vectors)
    assert record.bytes_down == slate.nbytes == CANDIDATES * 64 + 4
    assert record.report_bits == CANDIDATES + 1
    assert record.tally.reports == record.estimate.reports == DEVICES
    assert len(record.tally.sums) == CANDIDATES + 1
    assert len(record.estimate.counts) == len(record.estimate.stderr) == CANDIDATES
    assert record.attempted == CANDIDATES - KEEP and record.drops == {}
    # One third of the devices hold nothing that is asked about; five standard errors.
    none, stderr = record.none
    assert stderr > 0 and abs(none - DEVICES / 3) < 5 * stderr
    assert abs(record.estimate.counts.max() - DEVICES * 2 / 3) < 5 * record.estimate.stderr.max()
    assert fleet.asked == [(0, CANDIDATES)]


def test_without_privacy_the_estimate_is_the_truth() -> None:
    _, record = play(first_state(), mechanism=lambda size: NoPrivacy(domain_size=size))
    assert sorted(record.estimate.counts.tolist()) == [0.0] * (CANDIDATES - 1) + [600.0]
    assert record.none == (300.0, 0.0)


@pytest.mark.parametrize("selector", [RankSelector(), RandomSelector(), ZScoreSelector(z=3, at_least=1)])
def test_weights_are_shares_that_a_family_splits_evenly(selector) -> None:
    next_state, record = play(first_state(), decision=by(selector))
    weights, corpus = record.next_weights, next_state.corpus
    assert len(weights) == len(corpus) == CANDIDATES
    assert weights.sum() == pytest.approx(1, abs=1e-12) and (weights >= 0).all()
    shares = record.selection.weights / record.selection.weights.sum()
    for i, share in enumerate(shares):
        winner = corpus.examples[i].id
        family = [j for j, e in enumerate(corpus) if j == i or (j >= len(shares) and e.parents[0] == winner)]
        np.testing.assert_allclose(weights[family], share / len(family), atol=1e-12)


def test_rounds_follow_one_another() -> None:
    state, fleet = first_state(), FakeFleet()
    for _ in range(3):
        state, record = play(state, fleet)
    assert fleet.asked == [(0, CANDIDATES), (1, CANDIDATES), (2, CANDIDATES)]
    assert record.number == 2 and state.number == 3
    about = [example.attributes["topic"] for example in state.corpus]
    assert about.count("gas prices") > CANDIDATES / 2, "the corpus moves to what the devices hold"
    assert {example.round for example in state.corpus} >= {3}


def test_a_seed_corpus_may_have_another_size_than_the_slate() -> None:
    next_state, record = play(first_state(30))
    assert len(record.estimate.counts) == 30
    assert len(next_state.corpus) == CANDIDATES


def test_too_few_reports_are_not_used() -> None:
    with pytest.raises(BatchError, match="use case 'mail' has 99 reports, fewer than the minimum batch of 100"):
        play(first_state(), FakeFleet(devices=99))
    with pytest.raises(BatchError, match="no reports of use case 'mail' arrived"):
        play(first_state(), FakeFleet(devices=0))


def test_reports_of_another_use_case_are_refused() -> None:
    with pytest.raises(BatchError, match="a batch of use case 'chat' arrived where 'mail' was expected"):
        play(first_state(), FakeFleet(use_case="chat"))


def test_the_question_of_a_round_is_the_slate_under_the_rules() -> None:
    _, slate = slate_of(HashedFakeEncoder(), first_state().corpus)
    ask = rules().ask(slate, 3, np.random.default_rng(0))
    assert (ask.use_case, ask.round, ask.days, ask.shares) == ("mail", 3, 1, None) and ask.needs is slate
    assert ask.mechanism == _oue(4.0, CANDIDATES + 1) and ask.report_bits == CANDIDATES + 1
    shared = rules(trust=SecureAggregation(epsilon=2.0, delta=1e-6), mechanism=noiseless).ask(
        slate, 3, np.random.default_rng(0)
    )
    assert shared.shares is not None and shared.shares.minimum_reports == 100
    assert shared.report_bits == 2 * 64 * (CANDIDATES + 1 + 2)


def test_a_round_by_shares_releases_the_plain_counts_of_the_same_reports() -> None:
    """Without noise on the reports, so that shares have to add up to the truth; only how reports travel differs."""
    plain, shared = (
        play(first_state(), mechanism=noiseless, trust=trust)[1]
        for trust in (LocalTrust(), SecureAggregation(epsilon=2.0, delta=1e-6))
    )
    np.testing.assert_array_equal(plain.tally.sums, shared.tally.sums)
    np.testing.assert_array_equal(plain.estimate.counts, shared.estimate.counts)
    assert plain.none == shared.none == (300.0, 0.0)
    assert shared.report_bits == 2 * 64 * (CANDIDATES + 1 + 2) > plain.report_bits


def noiseless(size: int) -> NoPrivacy:
    return NoPrivacy(domain_size=size)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 1}, "candidates is 1; expected 2 or more"),
        ({"decision": keeping(CANDIDATES)}, f"keep is {CANDIDATES}; expected 1 to candidates - 1 = {CANDIDATES - 1}"),
        ({"decision": keeping(CANDIDATES + 5)}, f"decision.keep is {CANDIDATES + 5}"),
        ({"decision": keeping(0)}, "decision.keep is 0"),
        ({"minimum_batch": 0}, "minimum_batch is 0"),
        ({"candidates": OptimizedUnaryEncoding.largest_domain}, str(OptimizedUnaryEncoding.largest_domain + 1)),
        ({"mechanism": partial(_oue, -1.0)}, "epsilon"),
    ],
)
def test_rules_that_cannot_be_played_are_refused_at_once(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rules(**changes)


def test_the_largest_slate_a_mechanism_supports() -> None:
    most = OptimizedUnaryEncoding.largest_domain - 1
    assert rules(candidates=most).candidates == most
    wider = rules(
        candidates=most + 1, mechanism=lambda size: RandomizedResponse(epsilon=4.0, domain_size=size)
    )  # another mechanism has room for it
    assert wider.candidates == most + 1


@dataclass(frozen=True, kw_only=True)
class RecordingFakeGenerator(ScriptedFakeGenerator):
    """Fake: also keeps the weights it was given."""

    given: list[np.ndarray] = field(default_factory=list)

    def vary(self, parents, weights, n, round, stream, progress):
        self.given.append(weights)
        return ScriptedFakeGenerator.vary(self, parents, weights, n, round, stream, progress)


def test_concentration_sets_how_strongly_children_follow_votes_and_not_the_released_weights() -> None:
    generator = RecordingFakeGenerator()
    records = [
        play(first_state(), generator=generator, decision=by(SampleSelector(), power))[1] for power in (0.0, 0.5, 1.0)
    ]
    votes = records[0].selection.weights
    assert all((record.selection.weights == votes).all() for record in records)
    for power, given in zip((0.0, 0.5, 1.0), generator.given, strict=True):
        np.testing.assert_allclose(given, votes**power)
    assert generator.given[0].std() == 0 < generator.given[1].std() < generator.given[2].std()
