"""Attack: make a poll be played again after owners have changed their minds, and compare both releases.

A poll that was killed is played again. If anything about its noise changed, its devices would have sent two reports for
one debit; if the sum lacked somebody under the same noise, the difference would be what that device reported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aggregate.secure_aggregation import SecureAggregation
from device_poll.accounts import Accounts
from device_poll.events.activity import Activity
from device_poll.events.fleet import EventFleet
from device_poll.events.held import Held
from device_poll.population import PopulationError
from embed.compact import compact
from privacy.budget import MICRO, Budget
from privacy.ledger import Ledger
from privacy.ledger_stores import SimulatedLedger
from privacy.mechanism import Mechanism, Tally
from privacy.poll import Ask
from privacy.randomness import NoiseSource, Stage
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.attacks.test_noise_used_twice import BATCH, DEVICES, SLATE, fleet
from tests.device_poll.event_fleets import senders

OUE = OptimizedUnaryEncoding(epsilon=1.0, domain_size=9)
SUM = SecureAggregation(epsilon=2.0, delta=1e-6).mechanism(lambda n: OUE, 9, BATCH)
NO = 17
"""The device whose owner said no at first."""


def booked(cap: float = 1.0) -> SimulatedLedger:
    ledger = SimulatedLedger(devices=DEVICES, budget=Budget.of(lifetime=cap, daily=cap))
    ledger.enroll(np.arange(DEVICES), np.arange(DEVICES) != NO)
    return ledger


def accounts(ledger: Ledger, alone: bool = True) -> Accounts:
    return Accounts(ledger=ledger, run="run", cost=lambda _: 1.0, minimum_batch=1, reports_alone=alone)


def mail(ledger: Ledger, mechanism: Mechanism, alone: bool = True) -> dict[int, bytes]:
    """The main job: every device's report."""
    some = fleet(NoiseSource.seeded(0), accounts=accounts(ledger, alone))
    ask = Ask(use_case="mail", round=0, mechanism=mechanism, needs=compact(SLATE))
    return reports(list(some.answer([ask])))


def count(ledger: Ledger, mechanism: Mechanism, alone: bool = True, **changes: Any) -> dict[int, bytes]:
    """A count, in blocks of 43 devices."""
    held = Held(
        key="emoji", encoded=np.arange(8), weights=np.full(8, 1 / 8), fits=np.ones(8, dtype=bool), mechanism=mechanism,
        null=mechanism.null,
    )  # fmt: skip
    values: dict[str, Any] = {"activity": Activity(mean=1500.0, sigma=0.1), "cap": 1, "seed": 0, **changes}
    some = EventFleet(
        held=(held,), devices=DEVICES, noise=NoiseSource.seeded(0), accounts=accounts(ledger, alone), **values
    )  # fmt: skip
    return reports(list(some.send(0)))


def reports(batches: list[Any]) -> dict[int, bytes]:
    assert len(senders(batches)) == len(set(senders(batches).tolist()))
    return {
        int(sender): report.tobytes()
        for batch in batches
        for sender, report in zip(batch.senders, batch.reports, strict=True)
    }


POLLS = pytest.mark.parametrize("poll", [mail, count])


@POLLS
@pytest.mark.parametrize("mechanism", [OUE, SUM], ids=["local", "sums"])
def test_who_agrees_after_a_poll_was_closed_does_not_join_it(poll, mechanism):
    ledger = booked()
    first = poll(ledger, mechanism)
    ledger.opt_in(np.array([NO]))
    assert poll(ledger, mechanism) == first and NO not in first
    assert ledger.spent(np.array([NO])).tolist() == [0]
    ledger.verify()
    # Negative control: a poll that was not closed takes in who agrees.
    other = booked()
    other.opt_in(np.array([NO]))
    assert NO in poll(other, mechanism)


@POLLS
@pytest.mark.parametrize("change", ["opt_out", "forget_devices"])
def test_who_withdraws_is_left_out_and_nobody_reports_twice(poll, change):
    ledger = booked()
    first = poll(ledger, OUE)
    getattr(ledger, change)(np.array([5]))
    again = poll(ledger, OUE)
    assert again == {device: report for device, report in first.items() if device != 5}
    assert ledger.spent(np.arange(DEVICES)).max() == MICRO
    # Negative control: noise that follows from who has paid NOW gives all others a second report for one debit.
    other = booked()
    other.opt_out(np.array([5]))
    fresh = poll(other, OUE)
    assert sum(fresh[device] != first[device] for device in fresh) > len(fresh) / 2


@POLLS
@pytest.mark.parametrize("change", ["opt_out", "forget_devices"])
@pytest.mark.parametrize(("mechanism", "alone"), [(SUM, True), (OUE, False)], ids=["sums", "shuffled"])
def test_a_sum_without_who_withdrew_is_not_made(poll, change, mechanism, alone, monkeypatch):
    """Nor a second shuffled crowd: what is claimed of it is not true of the one report that it lacks."""
    ledger = booked()
    first = poll(ledger, mechanism, alone)
    getattr(ledger, change)(np.array([5]))
    with pytest.raises(PopulationError, match="a sum without them would give them away, so the poll cannot be played"):
        poll(ledger, mechanism, alone)
    # Negative control: if it is played, the two differ in the one report, and in nothing else.
    monkeypatch.setattr(Accounts, "check_whole", lambda *_, **__: None)
    assert poll(ledger, mechanism, alone) == {device: report for device, report in first.items() if device != 5}


def test_two_ledgers_that_differ_in_one_device_share_no_noise_in_any_block(monkeypatch):
    """Bound block by block, two sums of one seed shared all noise but that of one block: one raw report came out."""
    one, other = booked(), booked()
    other.opt_out(np.array([DEVICES - 1]))
    first, second = count(one, SUM), count(other, SUM)
    assert set(first) - set(second) == {DEVICES - 1}
    for start in range(0, DEVICES - 43, 43):
        block = [device for device in range(start, start + 43) if device in second]
        assert any(first[device] != second[device] for device in block)
    # Negative control: noise that is not bound to the day.
    monkeypatch.setattr(EventFleet, "_digest", lambda *_: "the same")
    one, other = booked(), booked()
    other.opt_out(np.array([DEVICES - 1]))
    first, second = count(one, SUM), count(other, SUM)
    assert all(first[device] == second[device] for device in second)


def drawn_count(ledger: Ledger) -> Tally:
    held = Held(
        key="emoji", encoded=np.arange(8), weights=np.full(8, 1 / 8), fits=np.ones(8, dtype=bool), mechanism=OUE,
        null=OUE.null,
    )  # fmt: skip
    some = EventFleet(
        held=(held,), devices=DEVICES, noise=NoiseSource.seeded(0), accounts=accounts(ledger), activity=Activity(),
        cap=1, seed=0,
    )  # fmt: skip
    return some.shortcut(0, 0)[0]


def drawn_answers(ledger: Ledger) -> Tally:
    """As a poll of fragments is drawn: of the answers of those who paid."""
    some = fleet(NoiseSource.seeded(0), accounts=accounts(ledger))
    ask = Ask(use_case="fragments", round=0, mechanism=OUE, needs=compact(SLATE))
    some.pay(ask)
    counts = np.bincount(some.true_answers(ask.needs, 0).values, minlength=OUE.domain_size)
    return OUE.simulate_tally(counts, some.drawn(ask, counts).generator(Stage.PRIVATIZE, round=0))


@pytest.mark.parametrize("draw", [drawn_count, drawn_answers])
def test_a_tally_that_was_drawn_is_not_drawn_again_without_who_was_forgotten(draw, monkeypatch):
    ledger = booked()
    first = draw(ledger)
    assert np.array_equal(first.sums, draw(ledger).sums)
    ledger.opt_in(np.array([NO]))
    assert np.array_equal(first.sums, draw(ledger).sums), "nobody joins"
    ledger.forget_devices(np.array([5]))
    with pytest.raises(PopulationError, match="the poll cannot be played again"):
        draw(ledger)
    # Negative control: if it is, it is a second tally of almost the same devices, for one debit.
    monkeypatch.setattr(Accounts, "check_whole", lambda *_, **__: None)
    again = draw(ledger)
    assert again.reports == first.reports - 1 and not np.array_equal(again.sums, first.sums)
