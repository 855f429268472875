"""The poll of a count: keys of one group of devices, asked together and decided apart.

    play(job, group, group.keys, accounts, advance)      # {"emoji.en": Result(histogram, ...)}

A group is the unit that a resumed run plays again; a key of it that is complete is not judged twice. Groups differ in
what their devices hold (groups.py); `play` is the same for all: ask, answer, collect, decide.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from aggregate.histogram import Histogram, ReleaseRule, critical_value
from aggregate.intake import BatchError, check_minimum_batch
from aggregate.trust import Collected
from device_poll.accounts import Accounts
from device_poll.events.held import SentReport
from device_poll.population import PopulationError
from experiments.count.job import CountJob
from experiments.count.results import Result
from experiments.count.scores import score, true_counts, words_by_frequency
from privacy.budget import MICRO
from privacy.dictionary import Dictionary
from privacy.fragment_search import SearchError
from privacy.mechanism import Estimate, Mechanism, Tally
from privacy.poll import Advance, Ask, Fleet, Needs
from privacy.randomness import NoiseSource, Stage


@dataclass(frozen=True, kw_only=True, eq=False)
class Key:
    """One key before it is played: what is asked about, and about how many reports will come.

    `values`: what the server looks for, in the order of what it asks, and `answers`: how many different answers there
    are (None: it has no list); `unfit`: of the devices' values those that the mechanism cannot take, by reason.
    """

    key: str
    use_case: str
    segment: str
    devices: int
    mechanism: Mechanism = field(repr=False)
    needs: Needs = field(repr=False)
    values: tuple[str, ...] | None = field(repr=False)
    answers: int | None
    unfit: Mapping[str, int]
    expected_reports: int
    """About how many reports will come; the most that can, where it depends on what devices hold."""

    def stderr(self, job: CountJob) -> float:
        """Standard error of the count of a rare element, with the expected reports."""
        return job.trust.standard_error(self.mechanism, max(self.expected_reports, 1))

    def needed(self, job: CountJob, reports: int) -> float | None:
        """Reports of an element with which it is released with probability 0.95; None if no number is enough."""
        if reports < 1:
            return None
        count = job.rule.needed(job.trust, self.mechanism, reports, len(self.values) if self.values else 1)
        return count if math.isfinite(count) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """What devices really sent of one key, for evaluation only.

    `values`, and int64 `counts` of reports by value; `nothing`: null reports; `dropped`: what devices did not send, by
    reason; `held` int64: how
    many devices hold each value, where that is more; `estimate`: of all `values`; `shares`, `lexicon`: of words.
    """

    values: tuple[str, ...] = field(repr=False)
    counts: NDArray[np.int64] = field(repr=False)
    estimate: Estimate = field(repr=False)
    dropped: Mapping[str, int] = field(default_factory=dict)
    nothing: int = 0
    held: NDArray[np.int64] | None = field(default=None, repr=False)
    shares: Mapping[str, float] = field(default_factory=dict, repr=False)
    lexicon: frozenset[str] = field(default=frozenset(), repr=False)


class Group(Protocol):
    """Devices that share one budget, and what they are asked together."""

    @property
    def noise(self) -> NoiseSource:
        """Where its noise comes from."""

    @property
    def name(self) -> str:
        """For a progress bar."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys that are collected."""

    @property
    def devices(self) -> range:
        """The numbers of the group's devices."""

    def held(self) -> Iterator[object]:
        """All that they hold, for a digest: strings and arrays."""

    def fleet(self, accounts: Accounts | None) -> Fleet:
        """The group's devices, whose owners' consent is in the accounts."""

    def draw(self, fleet: Any, asks: Sequence[Ask], advance: Advance) -> dict[str, Tally]:
        """The tallies of the asks, drawn from their exact law, without a report."""

    def truth(self, fleet: Any, key: Key, collected: Collected) -> Truth:
        """What was sent of a key: after it was answered or drawn."""

    def paid(self, accounts: Accounts) -> int:
        """How many reports of this run the accounts have as sent, also of keys that are not collected."""

    def sent_by(self, device: int, accounts: Accounts | None) -> list[SentReport]:
        """For its owner, all that a device of the group sent, also of keys that are not collected. Debits nobody."""

    @property
    def mechanisms(self) -> Mapping[str, Mechanism]:
        """By key, of all that devices send: the owner sees them all."""

    def true_reports(self, key: Key) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """For an audit, what devices send of a key if each can pay: values as the mechanism takes them, those of
        `Key.values` first, and how many reports are of each, int64[d]."""


def play(
    job: CountJob,
    group: Group,
    wanted: Sequence[Key],
    accounts: Accounts | None,
    advance: Advance,
) -> dict[str, Result]:
    """Poll the wanted keys together, and decide on each. Raises BatchError or PopulationError for too few reports.

    Which keys are wanted together changes no result.
    """
    try:
        return _played(job, group, wanted, accounts, advance)
    except BatchError as error:
        if job.always_reports:
            raise
        raise BatchError(
            f"a key of {group.name} has fewer reports than are certain to come from minimum_batch={job.minimum_batch} "
            "devices (how many is not told under nulls=never); ask more devices or lower minimum_batch"
        ) from error.with_traceback(None)


def _played(
    job: CountJob,
    group: Group,
    wanted: Sequence[Key],
    accounts: Accounts | None,
    advance: Advance,
) -> dict[str, Result]:
    rngs = {key.key: _secret(job, group, key) for key in wanted}
    fleet = group.fleet(accounts)
    asks = [
        job.trust.ask(
            use_case=key.key,
            round=0,
            mechanism=key.mechanism,
            needs=key.needs,
            minimum_batch=job.least_reports,
            rng=rngs[key.key],
            days=job.days,
        )
        for key in wanted
    ]
    if job.exact:
        tallies = group.draw(fleet, asks, advance)
        for ask in asks:
            check_minimum_batch(tallies[ask.use_case].reports, ask.use_case, job.least_reports)
        collected = {a.use_case: job.trust.conclude(a, tallies[a.use_case], rngs[a.use_case]) for a in asks}
    else:
        collected = job.trust.collect(fleet.answer(asks, advance), asks, job.least_reports, rngs)
    spent = None
    if accounts is not None:
        accounts.ledger.verify()
        spent = accounts.ledger.summary().largest_lifetime / MICRO
    results = {}
    for key, ask in zip(wanted, asks, strict=True):
        of_key, null = _of_values(key, collected.pop(key.key))
        results[key.key] = _decide(job, key, ask, of_key, null, group.truth(fleet, key, of_key), spent, group.noise)
    return results


def _of_values(key: Key, collected: Collected) -> tuple[Collected, Estimate | None]:
    """What was collected of the values that are looked for, and the estimate of 'nothing to report'."""
    if not isinstance(key.needs, Dictionary):
        return collected, None
    estimate, null = key.needs.split(collected.estimate)
    total = None if null is None else max(estimate.reports - float(null.counts[0]), 0.0)
    return replace(collected, estimate=estimate, total=total), null


def _decide(
    job: CountJob,
    key: Key,
    ask: Ask,
    collected: Collected,
    null: Estimate | None,
    truth: Truth,
    spent: float | None,
    noise: NoiseSource,
) -> Result:
    try:
        decided = job.rule.decide(ask, collected, key.values or ())
    except SearchError as error:
        raise PopulationError(f"{key.key}: {error}") from None
    histogram, more = decided.histogram, dict(decided.more)
    if not job.always_reports:
        histogram = _without_reports(job, key, histogram, noise)
    if null is not None:
        reports = max(null.reports, 1)
        more |= {"nothing": float(null.counts[0]) / reports, "nothing_stderr": float(null.stderr[0]) / reports}
    new, by_frequency = None, []
    if job.search is not None:
        new = np.array([word not in truth.lexicon for word in histogram.values], dtype=np.bool_)
        more["new_words"] = int(new.sum())
        by_frequency = words_by_frequency(histogram, truth.shares, truth.counts, new, job.search.frequencies)
    place = {value: i for i, value in enumerate(truth.values)}
    held = None if truth.held is None else true_counts(histogram, place, truth.held)
    scores = score(
        truth.estimate,
        truth.counts,
        truth.values,
        histogram,
        confidence=job.rule.confidence,
        minimum_count=job.rule.minimum_count,
    )
    return Result(
        histogram=histogram,
        public={
            "key": key.key,
            "use_case": key.use_case,
            "segment": key.segment,
            "reports": histogram.reports,
            "refused_reports": collected.refused,
            "looked_at": histogram.looked_at,
            "released": len(histogram.values),
            "withheld": histogram.withheld,
            "stderr": job.trust.standard_error(key.mechanism, histogram.reports),
            "count_needed": key.needed(job, histogram.reports),
            "bytes_up": -(-ask.report_bits // 8),
            "post_processing": job.rule.post_processing,
            "rule": job.rule.describe(histogram.looked_at),
            **more,
        },
        truth=true_counts(histogram, place, truth.counts),
        held=held,
        oracle={
            "key": key.key,
            **scores,
            **({} if held is None else {"held_by_fewer": int((held < job.rule.minimum_count).sum())}),
            **{f"dropped_{reason}": count for reason, count in truth.dropped.items()},
            "nothing_sent": truth.nothing,
            "reports_sent": collected.tally.reports,
            "largest_spent": spent,
        },
        new=new,
        by_frequency=by_frequency,
    )


_DITHER = 0.3  # standard errors: hides what a count says about n, and adds 4.4% to its standard error


def _without_reports(job: CountJob, key: Key, histogram: Histogram, noise: NoiseSource) -> Histogram:
    """The histogram as it would be if the most reports had come that can: with standard errors that are no smaller, and
    nothing from which to tell how many came, which depends on what devices hold.

    A count is (t - n q) / (p - q) for a whole number t, so all its digits together say which n it can be. Gaussian
    noise many times wider than the steps 1 / (p - q) of that lattice is added to each.
    """
    reports = key.expected_reports
    held = np.maximum(histogram.counts, 0.0)
    stderr = np.array([job.trust.standard_error(key.mechanism, reports, float(n)) for n in held])
    rng = noise.of("dither", key.key, histogram.counts).generator(Stage.SHUFFLE, round=0)
    counts = histogram.counts + _DITHER * stderr * rng.standard_normal(len(stderr))
    stderr = stderr * math.sqrt(1 + _DITHER**2)
    assert isinstance(job.release, ReleaseRule)  # fragments are asked for once, and always answered
    half = critical_value(job.release.confidence, job.release.correction, max(histogram.looked_at, 1)) * stderr
    order = np.argsort(-counts, kind="stable")
    return replace(
        histogram,
        values=tuple(histogram.values[int(i)] for i in order),
        counts=counts[order],
        processed=counts[order],
        stderr=stderr[order],
        lower=np.clip(counts - half, 0, reports)[order],
        upper=np.clip(counts + half, 0, reports)[order],
        p_values=norm.sf(counts / stderr)[order],
        reports=reports,
    )


def _secret(job: CountJob, group: Group, key: Key) -> np.random.Generator:
    """What the shuffler, the aggregators and a trusted server draw for a key, whichever keys are played with it."""
    told = json.dumps(dict(job.trust.parameters(key.mechanism)), sort_keys=True)
    noise = group.noise.of(job.trust.name, key.key, key.needs.digest, told)
    return noise.generator(Stage.SHUFFLE, round=0)
