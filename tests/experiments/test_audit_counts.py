"""`synthpoll audit RUN` of counts: a canary that sends all it may for one key, with negative controls."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from aggregate.intake import BatchError
from aggregate.secure_aggregation import SecureAggregation
from aggregate.trust import LocalTrust
from experiments.audit.count import canary_polls
from experiments.audit.polls import CanaryPoll, _play, audit_polls, evenly, how_played
from experiments.audit.run import audit_run_folder
from experiments.cli import main
from experiments.finished import load_run
from experiments.folder.store import RunFolder, StoreError
from privacy.mechanism import Reports
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.experiments.conftest import contents
from tests.experiments.use_case_files import play, screen, write_files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


def audit(folder, trials=200, seed=0):
    return audit_run_folder(load_run(folder), trials=trials, seed=seed, screen=screen())


def truth_of(folder) -> dict[str, dict[str, object]]:
    return {
        path.parent.parent.name: json.loads(path.read_text()) for path in folder.glob("segments/*/oracle/metrics.json")
    }


def reports_of(folder) -> dict[str, int]:
    return {
        path.parent.name: json.loads(path.read_text())["reports"] for path in folder.glob("segments/*/segment.json")
    }


@pytest.mark.parametrize(
    ("experiment", "overrides"),
    [
        ("emoji", ()),
        ("emoji", ("trust=shuffled", "days=2")),
        ("emoji", ("trust=secure_aggregation",)),
        ("genmoji_fragments", ()),
        ("health_types", ()),
        ("new_words", ("population=1000",)),
        ("safari_energy", ()),
    ],
)
def test_the_bound_of_a_count_joins_its_statement(tmp_path, files, experiment, overrides):
    folder = play(tmp_path / "run", files, experiment, "opt_in=0.7", *overrides)
    before, reports = contents(folder), reports_of(folder)
    found = audit(folder, trials=60 if experiment == "new_words" else 200)
    (told,), statement = (json.loads((folder / name).read_text()) for name in ("audit.json", "privacy.json"))
    assert [told] == statement["audits"] and told["sentence"] in (folder / "privacy.md").read_text()
    assert found.refutes_claim is False
    central, spent = statement["central"], statement["spent"]
    assert (central is None) == ("trust=" not in "".join(overrides))
    claimed = (spent["run"], 0.0) if central is None else (central["epsilon"], central["delta"])
    assert (found.claimed_epsilon, found.delta) == claimed
    assert told["reports_per_round"] == [min(reports.values())] and reports[told["keys"][0]] == min(reports.values())
    assert told["reports_of_the_canary"] == [statement["contribution"]["reports_per_device"]]
    assert "report by report, debited, with noise of its own, through the front door" in told["kind"]
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} == {"audit.json", "privacy.json", "privacy.md"}


@pytest.mark.parametrize(
    "overrides",
    [
        ("trust=shuffled", "minimum_batch=50"),
        ("trust=shuffled", "minimum_batch=50", "days=2", "exact_above=100"),
        ("minimum_batch=1",),
    ],
    ids=["shuffled", "drawn", "canary alone"],
)
def test_where_a_count_of_reports_is_not_told_the_fewest_are_played(tmp_path, files, overrides):
    """How many came depends on what devices hold; the most that could come would hide the canary too well."""
    folder = play(tmp_path / "run", files, "emoji", "nulls=never", *overrides)
    claimed = json.loads((folder / "privacy.json").read_text())["thresholds"]["reports_claimed"]
    most = reports_of(folder)
    assert all(claimed < row["reports_sent"] < most[key] for key, row in truth_of(folder).items()) and len(most) == 2
    read = told_of(folder)
    assert read["reports_per_round"] == [claimed]
    assert "with the fewest reports that the claim is made for" in read["kind"] and "(nulls=never)" in read["kind"]
    # What the devices really sent is under oracle/, and moves nothing.
    for path in folder.glob("segments/*/oracle/metrics.json"):
        path.write_text("{}")
    assert told_of(folder) == read


def test_where_all_report_as_many_are_played_as_came(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji", "trust=shuffled")
    read = told_of(folder)
    assert read["reports_per_round"] == [min(reports_of(folder).values())] and "fewest" not in read["kind"]


def told_of(folder):
    run = load_run(folder)
    polls = canary_polls(run.folder, run.job)
    return {"reports_per_round": [poll.reports for poll in polls], "kind": how_played(polls, run.job.trust)}


def test_too_many_others_would_hide_the_canary(tmp_path, files):
    """Why it matters. Negative control: the most reports that could come, as audits of earlier versions played."""
    few = ("nulls=never", "minimum_batch=5", "population=500", "epsilon=4")
    folder = play(tmp_path / "run", files, "health_types", *few)
    run = load_run(folder)
    (poll,) = canary_polls(run.folder, run.job)
    assert poll.reports == 5
    most = replace(poll, counts=evenly(reports_of(folder)[poll.key] - 1, len(poll.values)))
    shown = [
        audit_polls([each], run.job.trust, minimum_batch=5, claimed=(4.0, 0.0), trials=1000, seed=0).epsilon_lower
        for each in (poll, most)
    ]
    assert shown[0] > 1 > shown[1]


def test_resumed_it_keeps_its_audits(tmp_path, files, monkeypatch, capsys):
    folder = play(tmp_path / "run", files, "health_types")
    monkeypatch.setattr(sys, "argv", ["synthpoll", "audit", str(folder), "trials=50", "seed=3"])
    main()
    assert "cannot refute the claimed epsilon 2, which needs more trials" in capsys.readouterr().out
    after = contents(folder)
    assert contents(play(tmp_path / "run", files, "health_types")) == after
    main()
    after = contents(folder)
    assert len(json.loads(after["audit.json"])) == len(json.loads(after["privacy.json"])["audits"]) == 2
    assert contents(play(tmp_path / "run", files, "health_types")) == after


def test_the_canary_is_one_device_that_sends_all_it_may_of_one_value_or_another(tmp_path, files):
    folder = play(tmp_path / "run", files, "safari_energy", "days=3")
    run = load_run(folder)
    (poll,) = canary_polls(run.folder, run.job)
    first, second = poll.worlds
    assert len(first) == len(second) == run.job.reports == 6
    assert (first == poll.asked[0]).all() and (second == poll.asked[1]).all() and poll.asked[0] != poll.asked[1]
    assert np.ptp(poll.counts) <= 1, "the others answer evenly: an audit tells nothing of what devices hold"
    assert poll.reports == min(reports_of(folder).values())


def weak(tmp_path, files):
    """So few others over so many days that a canary stands out, as its claim of 60 allows."""
    return play(tmp_path / "run", files, "health_types", "population=20", "days=30", "minimum_batch=5")


def test_a_statement_that_claims_too_little_is_refuted(tmp_path, files):
    folder = weak(tmp_path, files)
    honest = audit(folder, trials=400)
    assert honest.claimed_epsilon == 60 and not honest.refutes_claim and honest.epsilon_lower > 0.3
    path = folder / "privacy.json"
    statement = json.loads(path.read_text())
    statement["spent"]["run"] = 0.1
    path.write_text(json.dumps(statement))
    found = audit(folder, trials=400)
    assert found.claimed_epsilon == 0.1 and found.refutes_claim
    assert "REFUTES" in (folder / "privacy.md").read_text()


def test_a_central_claim_that_is_too_low_is_refuted(tmp_path, files):
    folder = play(
        tmp_path / "run", files, "health_types", "population=20", "days=30", "minimum_batch=5", "trust=shuffled"
    )
    assert not audit(folder, trials=400).refutes_claim
    path = folder / "privacy.json"
    statement = json.loads(path.read_text())
    statement["central"]["epsilon"] = 0.1
    path.write_text(json.dumps(statement))
    assert audit(folder, trials=400).refutes_claim


@dataclass(frozen=True, kw_only=True)
class Noiseless(RandomizedResponse):
    """Negative control: reports the truth."""

    def privatize(self, values, rng) -> Reports:
        return values.astype(super().privatize(values, rng).dtype)


@dataclass(frozen=True, kw_only=True)
class Bare(OptimizedUnaryEncoding):
    """Negative control: bits without noise, at a front door that does not notice that there are far too few of them."""

    def refused(self, reports):
        return np.zeros(0, dtype=np.int64)

    def privatize(self, values, rng) -> Reports:
        bits = np.zeros((len(values), self.domain_size), dtype=np.uint8)
        bits[np.arange(len(values)), values] = 1
        return np.packbits(bits, axis=1, bitorder="little")


@pytest.mark.parametrize(("experiment", "double"), [("genmoji_fragments", Noiseless), ("health_types", Bare)])
def test_a_mechanism_without_noise_is_caught(tmp_path, files, experiment, double):
    named = f"mechanism._target_={double.__module__}.{double.__name__}"
    folder = play(tmp_path / "run", files, experiment, named, "epsilon=1")
    found = audit(folder, trials=100)
    assert found.hits == found.trials and found.alarms == 0
    assert found.refutes_claim and found.epsilon_refuting == found.refuting_ceiling > 1
    # The same run with its noise is not refuted.
    assert not audit(play(tmp_path / "noisy", files, experiment, "epsilon=1"), trials=100).refutes_claim


def test_of_a_run_whose_tallies_were_drawn_the_others_are_drawn(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji", "exact_above=100")
    assert not audit(folder, trials=100).refutes_claim
    (told,) = json.loads((folder / "audit.json").read_text())
    assert "drawn from its exact law, without the front door" in told["kind"]
    assert told["reports_per_round"] == [min(reports_of(folder).values())]


@pytest.mark.parametrize("trust", [LocalTrust(), SecureAggregation(epsilon=4.0, delta=1e-6)], ids=["local", "sums"])
def test_drawn_and_reported_plays_have_one_law(trust):
    mechanism = trust.mechanism(lambda n: OptimizedUnaryEncoding(epsilon=1.0, domain_size=n), 5, 100)
    poll = CanaryPoll(
        key="k",
        mechanism=mechanism,
        values=np.arange(5),
        counts=np.array([200, 50, 20, 3, 0]),
        worlds=(np.full(40, 3), np.full(40, 4)),
        asked=np.array([3, 4]),
    )
    assert not poll.draws(trust) and replace(poll, drawn=True).draws(trust)
    assert replace(poll, counts=1000 * poll.counts).draws(trust)
    for world, expected in ((0, (43.0, 0.0)), (1, (3.0, 40.0))):
        seen = []
        for each in (poll, replace(poll, drawn=True)):
            plays = [_play(each, trust, 100, world, np.random.default_rng([7, i])).counts for i in range(400)]
            seen.append(np.array(plays))
        for of in seen:
            error = of.std(axis=0, ddof=1) / 20
            assert (np.abs(of.mean(axis=0) - expected) < 5 * error).all()
        ratio = seen[0].var(axis=0) / seen[1].var(axis=0)
        assert ((ratio > 0.6) & (ratio < 1.7)).all()


def test_a_minimum_batch_holds_in_a_play():
    mechanism = RandomizedResponse(epsilon=1.0, domain_size=3)
    poll = CanaryPoll(
        key="k",
        mechanism=mechanism,
        values=np.arange(3),
        counts=np.array([5, 5, 5]),
        worlds=(np.array([0]), np.array([1])),
        asked=np.array([0, 1]),
    )
    for each in (poll, replace(poll, drawn=True)):
        with pytest.raises(BatchError, match="has 16 reports, fewer than the minimum batch of 17"):
            audit_polls([each], LocalTrust(), minimum_batch=17, claimed=(1.0, 0.0), trials=4, seed=0)
        audit_polls([each], LocalTrust(), minimum_batch=16, claimed=(1.0, 0.0), trials=4, seed=0)


def test_a_shared_ledger_is_not_needed(tmp_path, files):
    """Two runs over the same devices; the second finds many without budget, and is audited with its own reports."""
    caps = ("caps.lifetime=4", f"ledger={tmp_path / 'ledger.db'}", "days=2")
    play(tmp_path / "first", files, "health_types", "days=1", "caps.lifetime=4", caps[1])
    folder = play(tmp_path / "second", files, "health_types", *caps, "seed=1", "first_day=1")
    run = load_run(folder)
    (poll,) = canary_polls(run.folder, run.job)
    (reports,) = reports_of(folder).values()
    assert poll.reports == reports
    (group,) = load_groups(run.job)
    assert group.true_reports(group.keys[0])[1].sum() > reports
    assert not audit(folder, trials=50).refutes_claim


def load_groups(job):
    from experiments.count.counting import build_groups

    return build_groups(job, NoiseSource.seeded(job.seed))[0]


def test_what_cannot_be_audited(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji")
    with (
        RunFolder(folder).opened((folder / "config.yaml").read_text()),
        pytest.raises(StoreError, match="another process is using the run folder"),
    ):
        audit(folder)
    facts = folder / "oracle" / "devices.json"
    told = facts.read_text()
    facts.write_text(json.dumps(json.loads(told) | {"rows_left_out": {"emoji.fr": {"no frequency": 7}}}))
    with pytest.raises(StoreError, match="polled devices that held something else"):
        audit(folder)
    facts.write_text(told)
    mark = next(folder.glob("segments/*/segment.json"))
    mark.unlink()
    with pytest.raises(StoreError, match="is not a complete run"):
        audit(folder)
    with (folder / "config.yaml").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(StoreError, match=r"privacy\.json is no statement about"):
        audit(folder)
