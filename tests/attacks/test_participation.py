"""Attack: learn something of devices from what a run publishes beside its noisy tallies: counts, sizes, silence.

Two populations that hold different things are polled alike; everything that leaves a count is compared: how many
reports every key has, the numbers in its files, the size of what was sent. `FORMER` is the negative control, a count
whose devices send what they have, with the counts of reports that were published then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import experiments.count.poll
from aggregate.trust import LocalTrust
from device_poll.events.activity import Activity
from device_poll.events.fleet import EventFleet
from device_poll.events.held import Held
from privacy.audit import AuditResult, audit_run
from privacy.mechanism import Tally
from privacy.poll import ReportBatch
from privacy.randomness import NoiseSource, Stage
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.aggregate.asks import ask_of
from tests.experiments.use_case_files import play, write_files

RARE, COMMON = "site{:03d}.example", "a.very.long.name.that.no.word.mechanism.takes.{:03d}.example"


def other_files(folder: Path) -> Path:
    """The same lists, held quite differently: other words are frequent, and most do not fit the mechanism."""
    write_files(folder)
    rows = ["locale\trank\tword\tcount_per_billion\tin_debian_wamerican_huge\tin_npm_word_list"]
    for i, word in enumerate(["extraordinarily", "don't", "café", "smol", "rizz", "tbh", "yeet", "bruh", "lol"]):
        rows.append(f"en\t{i + 1}\t{word}\t{1_000_000 // (i + 1) ** 2}\t0\t0")
    (folder / "words.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    emoji = (folder / "emoji.jsonl").read_text(encoding="utf-8").splitlines()
    shifted = [json.loads(line) for line in emoji]
    for i, row in enumerate(shifted):
        row["per_billion_words"] = {"en": 1e6 / (60 - i) ** 2, "fr": 1e6 / (i + 1) ** 2}
    (folder / "emoji.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shifted), encoding="utf-8")
    return folder


def published_counts(folder: Path) -> dict[str, Any]:
    """Everything public of a count that is no noisy estimate: by file, what has to do with how many reports came."""
    run = json.loads((folder / "run.json").read_text())
    statement = json.loads((folder / "privacy.json").read_text())
    told: dict[str, Any] = {
        "keys": {
            key: [of["expected_reports"], of["stderr_of_a_count"], of["devices"]] for key, of in run["keys"].items()
        },
        "by_key": statement["composition"]["reports_by_key"],
        "claimed": [statement["thresholds"]["reports_claimed"], statement["accuracy"], statement["spent"]],
        "trust_models": statement["trust_models"],
    }
    for place in sorted((folder / "segments").iterdir()):
        mark, metrics = (json.loads((place / name).read_text()) for name in ("segment.json", "metrics.json"))
        told[place.name] = [mark["reports"], metrics["reports"], metrics["stderr"]]
    return told


@pytest.mark.parametrize("trust", ["local", "shuffled"])
@pytest.mark.parametrize("nulls", ["always", "never"])
@pytest.mark.parametrize("experiment", ["emoji", "new_words"])
def test_no_published_number_tells_how_many_reports_devices_had(tmp_path, experiment, nulls, trust):
    files = write_files(tmp_path / "one"), other_files(tmp_path / "other")
    one, other = (
        play(tmp_path / f"run{i}", each, experiment, f"nulls={nulls}", f"trust={trust}", "minimum_batch=50")
        for i, each in enumerate(files)
    )
    assert published_counts(one) == published_counts(other)
    sent = [
        json.loads(next(f.glob("segments/*/oracle/metrics.json")).read_text())["reports_sent"] for f in (one, other)
    ]
    assert (sent[0] == sent[1]) == (nulls == "always" or experiment == "emoji")


def test_what_was_published_before_told_it(tmp_path, monkeypatch):
    """Negative control: with the counts that were published, and devices that send what they have."""
    monkeypatch.setattr(experiments.count.poll, "_without_reports", lambda job, key, histogram, noise: histogram)
    one, other = (
        play(tmp_path / f"run{i}", each, "new_words", "nulls=never", "minimum_batch=50")
        for i, each in enumerate((write_files(tmp_path / "one"), other_files(tmp_path / "other")))
    )
    assert published_counts(one) != published_counts(other)


# One device: an audit of everything that leaves a count, and of two runs together.

VALUES, OTHERS, EPSILON = 5, 60, 1.0
MECHANISM = OptimizedUnaryEncoding(epsilon=EPSILON, domain_size=VALUES + 1)


class SharedKey(NoiseSource):
    """Test double: the key of earlier versions, whatever the reports depend on."""

    def of(self, *told: Any) -> SharedKey:
        return self


def held(weights: Sequence[float], *, key: str, nulls: bool) -> Held:
    return Held(
        key=key,
        encoded=np.arange(VALUES),
        weights=np.array(weights) / sum(weights),
        fits=np.ones(VALUES, dtype=bool),
        mechanism=MECHANISM,
        null=MECHANISM.null if nulls else None,
    )


FLAT = [1.0] * VALUES
BUSY, IDLE = Activity(mean=50.0, sigma=0.0), Activity(mean=1e-6, sigma=0.0)


def only(value: int) -> list[float]:
    """A device that holds this value and, in effect, nothing else."""
    return [1.0 if i == value else 1e-9 for i in range(VALUES)]


def polled(
    weights: list[float], activity: Activity, noise: NoiseSource, *, key: str = "emoji", nulls: bool = True
) -> list[float]:
    """All that leaves a count in which one device holds this: two estimates, how many reports came, how many bytes.

    The others hold the same every time, as the attacker of the definition knows."""
    devices_of = ((FLAT, OTHERS, Activity(mean=3.0, sigma=0.5), 0), (weights, 1, activity, OTHERS))
    fleets = [
        EventFleet(
            held=(held(each, key=key, nulls=nulls),), devices=devices, activity=how, cap=1, seed=7, noise=noise,
            first_device=first, segment_number=first,
        )
        for each, devices, how, first in devices_of
    ]  # fmt: skip
    ask, size = ask_of(MECHANISM, key), 0

    def travelling() -> Iterator[ReportBatch]:
        nonlocal size
        for fleet in fleets:
            for batch in fleet.answer([ask]):
                size += batch.reports.nbytes
                yield batch

    rng = noise.of("front door").generator(Stage.SHUFFLE, round=0)
    found = LocalTrust().collect(travelling(), [ask], 1, {key: rng})[key].estimate
    return [float(found.counts[0]), float(found.counts[1]), float(found.reports), float(size)]


def audited(release: Callable[[bool, int], Any], claimed: float, trials: int = 600) -> AuditResult:
    """So many plays of each world. The test is learned from half of them: nobody says where to look."""
    return audit_run(release, trials=trials, claimed_epsilon=claimed)


def refuted(found: AuditResult) -> bool:
    """Above the claim even at an error of 1e-6: no accident."""
    return found.refutes_claim and found.epsilon_lower > found.claimed_epsilon


def one_run(*, nulls: bool, counts: bool = True) -> Callable[[bool, int], Any]:
    """The device holds one value, or nothing at all."""

    def release(world: bool, trial: int) -> np.ndarray:
        noise = NoiseSource.seeded(2 * trial + world)
        seen = polled(only(0) if world else FLAT, BUSY if world else IDLE, noise, nulls=nulls)
        return np.array(seen if counts else seen[:2])

    return release


def test_an_audit_of_all_that_leaves_a_count_finds_no_more_than_it_costs() -> None:
    found = audited(one_run(nulls=True), EPSILON)
    assert not refuted(found) and found.refuting_ceiling > 2 * EPSILON


def test_a_device_that_has_nothing_and_is_silent_is_found() -> None:
    """Negative control: its silence is one report less, an infinite epsilon."""
    assert refuted(audited(one_run(nulls=False), EPSILON))
    assert not refuted(audited(one_run(nulls=False, counts=False), EPSILON)), "it is the number of reports that tells"


def two_runs(kind: type[NoiseSource]) -> Callable[[bool, int], Any]:
    """Two use cases of one seed, in which the others answer alike. The device answers the second like the first, or
    not. Observed is what both release, and how they differ."""

    def release(world: bool, trial: int) -> np.ndarray:
        noise = kind.seeded(trial)
        first = np.array(polled(only(0), BUSY, noise, key="emoji"))
        second = np.array(polled(only(1 if world else 0), BUSY, noise, key="words"))
        return np.concatenate([first, second, np.abs(first - second)])

    return release


def test_an_audit_of_two_runs_finds_no_more_than_both_cost() -> None:
    found = audited(two_runs(NoiseSource), 2 * EPSILON, trials=1500)
    assert not refuted(found) and found.refuting_ceiling > 2 * EPSILON


def test_two_runs_with_one_key_are_found() -> None:
    """Negative control: with shared noise the released tallies differ in the one answer and in nothing else."""
    assert refuted(audited(two_runs(SharedKey), 2 * EPSILON, trials=1500))


def plausible(counts: np.ndarray, mechanism: Any, most: int) -> list[int]:
    """The numbers of reports n with which every count is (t - n q) / (p - q) for a whole number t."""
    zero, one = (mechanism.estimate(Tally(sums, 1, mechanism.parameters)).counts[0] for sums in np.eye(2, 8, dtype=int))
    lattice = 1.0 / abs(zero - one)  # p - q
    offset = -mechanism.estimate(Tally(np.zeros(8, dtype=np.int64), 1, mechanism.parameters)).counts[0] * lattice  # q
    ns = np.arange(1, most)
    t = counts[:, None] * lattice + ns[None, :] * offset
    return ns[(np.abs(t - np.rint(t)) < 1e-6).all(axis=0)].tolist()


@pytest.mark.parametrize("dithered", [True, False], ids=["now", "former"])
def test_no_released_count_tells_how_many_reports_came(tmp_path, monkeypatch, dithered):
    """Under nulls=never: all digits of a count are a lattice that shifts with the number of reports."""
    if not dithered:  # negative control
        monkeypatch.setattr(experiments.count.poll, "_DITHER", 0.0)
    files = write_files(tmp_path / "files")
    (tmp_path / "list.txt").write_text("\n".join("abcdefgh") + "\n")
    folder = play(
        tmp_path / "run", files, "health_types", "nulls=never", f"vocabulary.path={tmp_path / 'list.txt'}",
        "release.minimum_count=1", "release.threshold=0", "release.false_discovery_rate=0.5",
    )  # fmt: skip
    place = folder / "segments" / "health_types"
    counts = np.array(pq.read_table(place / "histogram.parquet")["count"].to_pylist())
    sent = json.loads((place / "oracle" / "metrics.json").read_text())["reports_sent"]
    mechanism = OptimizedUnaryEncoding(epsilon=2.0, domain_size=8)
    found = plausible(counts, mechanism, 4001)
    assert len(counts) > 2 and 0 < sent < 4000
    assert (sent in found and len(found) < 5) if not dithered else found == []
