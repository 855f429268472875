"""Attack: make a poll be played again after owners have changed their minds, and compare both releases.

A poll that was killed is played again. If anything about its noise changed, its devices would have sent two reports for
one debit; if the sum lacked somebody under the same noise, the difference would be what that device reported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import experiments.run
from aggregate.secure_aggregation import SecureAggregation
from device_poll.accounts import Accounts
from device_poll.events.activity import Activity
from device_poll.events.fleet import EventFleet
from device_poll.events.held import Held
from device_poll.population import PopulationError
from embed.compact import compact
from experiments.folder.store import StoreError
from privacy.budget import MICRO, Budget
from privacy.ledger import Ledger
from privacy.ledger_stores import SimulatedLedger
from privacy.mechanism import Mechanism
from privacy.poll import Ask
from privacy.randomness import NoiseSource
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.attacks.test_noise_used_twice import BATCH, DEVICES, SLATE, fleet
from tests.device_poll.event_fleets import senders
from tests.experiments.use_case_files import play, write_files

OUE = OptimizedUnaryEncoding(epsilon=1.0, domain_size=9)
SUM = SecureAggregation(epsilon=2.0, delta=1e-6).mechanism(lambda n: OUE, 9, BATCH)
NO = 17
"""The device whose owner said no at first."""


def booked(cap: float = 1.0) -> SimulatedLedger:
    ledger = SimulatedLedger(devices=DEVICES, budget=Budget.of(lifetime=cap, daily=cap))
    ledger.enroll(np.arange(DEVICES), np.arange(DEVICES) != NO)
    return ledger


def accounts(ledger: Ledger) -> Accounts:
    return Accounts(ledger=ledger, run="run", cost=lambda _: 1.0, minimum_batch=1)


def mail(ledger: Ledger, mechanism: Mechanism) -> dict[int, bytes]:
    """The main job: every device's report."""
    some = fleet(NoiseSource.seeded(0), accounts=accounts(ledger))
    ask = Ask(use_case="mail", round=0, mechanism=mechanism, needs=compact(SLATE))
    return reports(list(some.answer([ask])))


def count(ledger: Ledger, mechanism: Mechanism, **changes: Any) -> dict[int, bytes]:
    """A count, in blocks of 43 devices."""
    held = Held(
        key="emoji", encoded=np.arange(8), weights=np.full(8, 1 / 8), fits=np.ones(8, dtype=bool), mechanism=mechanism,
        null=mechanism.null,
    )  # fmt: skip
    values: dict[str, Any] = {"activity": Activity(mean=1500.0, sigma=0.1), "cap": 1, "seed": 0, **changes}
    some = EventFleet(
        held=(held,), devices=DEVICES, noise=NoiseSource.seeded(0), accounts=accounts(ledger), **values
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
def test_a_sum_without_who_withdrew_is_not_made(poll, change):
    ledger = booked()
    poll(ledger, SUM)
    getattr(ledger, change)(np.array([5]))
    with pytest.raises(PopulationError, match="a sum without them would give them away, so the poll cannot be played"):
        poll(ledger, SUM)


def test_two_ledgers_that_differ_in_one_device_share_no_noise_in_any_block():
    """Bound block by block, two sums of one seed shared all noise but that of one block: one raw report came out."""
    one, other = booked(), booked()
    other.opt_out(np.array([DEVICES - 1]))
    first, second = count(one, SUM), count(other, SUM)
    assert set(first) - set(second) == {DEVICES - 1}
    for start in range(0, DEVICES - 43, 43):
        block = [device for device in range(start, start + 43) if device in second]
        assert any(first[device] != second[device] for device in block)


def test_a_tally_that_was_drawn_is_not_drawn_again_without_who_was_forgotten():
    ledger = booked()
    held = Held(
        key="emoji", encoded=np.arange(8), weights=np.full(8, 1 / 8), fits=np.ones(8, dtype=bool), mechanism=OUE,
        null=OUE.null,
    )  # fmt: skip
    some = EventFleet(
        held=(held,), devices=DEVICES, noise=NoiseSource.seeded(0), accounts=accounts(ledger), activity=Activity(),
        cap=1, seed=0,
    )  # fmt: skip
    first = some.shortcut(0, 0)[0]
    assert np.array_equal(first.sums, some.shortcut(0, 0)[0].sums)
    ledger.opt_in(np.array([NO]))
    assert np.array_equal(first.sums, some.shortcut(0, 0)[0].sums), "nobody joins"
    ledger.forget_devices(np.array([5]))
    with pytest.raises(PopulationError, match="the poll cannot be played again"):
        some.shortcut(0, 0)
    assert replace(some, accounts=None).shortcut(0, 0)[0].reports == DEVICES


class Killed(BaseException):
    """Stands for a kill."""


AGGREGATORS = ["trust=secure_aggregation", "trust.noise_by=aggregators"]


@pytest.mark.parametrize("with_ledger", [False, True], ids=["", "ledger"])
@pytest.mark.parametrize("job", ["refine", "count"])
def test_noise_that_does_not_repeat_is_drawn_once(smoke, tmp_path, monkeypatch, job, with_ledger):
    """The sum that was lost may have been seen: a second one over the same reports has other noise, and their
    difference tells of both."""
    given = [*AGGREGATORS, *([f"ledger={tmp_path / 'ledger.db'}", "caps.lifetime=100"] if with_ledger else [])]
    files = write_files(tmp_path / "files")

    def run():
        if job == "refine":
            return smoke("run", "rounds=1", "evaluation.sample=20", *given)
        return play(tmp_path / "run", files, "health_types", *given)

    def dying(self, *_):
        raise Killed

    first_result = {"refine": "write_arrays", "count": "write_table"}[job]
    monkeypatch.setattr(experiments.run.RunFolder, first_result, dying)
    with pytest.raises(Killed):
        run()
    monkeypatch.undo()
    with pytest.raises((PopulationError, StoreError), match=r"polled before|cannot be"):
        run()
    # Negative control: without the mark it would be polled again.
    if not with_ledger:
        for mark in (tmp_path / "run").rglob("polled*.json"):
            mark.unlink()
        run()
