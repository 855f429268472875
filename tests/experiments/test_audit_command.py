"""`synthpoll audit`: of a mechanism, and of a whole run, with negative controls that must be caught."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

import experiments.audit.run
from aggregate.trust import CentralBaseline, LocalTrust
from device_poll.cohorts import draw_cohorts
from device_poll.device_ledger import DeviceLedger
from device_poll.town.build import build_town
from embed.compact import compact
from experiments.audit.mechanism import MechanismAudit
from experiments.audit.polls import CanaryPoll, audit_polls
from experiments.audit.refine import polls_with_canary, population_of, reporting
from experiments.audit.run import audit_run_folder
from experiments.cli import main
from experiments.finished import Run, load_run
from experiments.folder.store import RunFolder, StoreError
from privacy.budget import MICRO, Budget, Token
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.experiments.conftest import contents
from tests.experiments.use_case_files import screen


@pytest.fixture
def run(smoke):
    return smoke("run", "rounds=2", "evaluation.sample=20", "trust=shuffled")


@pytest.fixture
def job(compose_job, tmp_path):
    """The job of the run."""
    return job_of(compose_job, tmp_path, "rounds=2", "trust=shuffled")


def residents() -> tuple[str, ...]:
    return tuple(sorted(set(build_town(900, 2, 0).users)))


def job_of(compose_job, tmp_path, *overrides: str):
    return compose_job("experiment=smoke", "devices.devices=900", f"cache={tmp_path / 'cache'}", *overrides)[0]


def audit(folder, job, **more):
    run = Run(folder=RunFolder(folder), config="", job=job)
    return audit_run_folder(run, **{"trials": 4, "seed": 0, "screen": screen()} | more)


def command(monkeypatch, capsys, *arguments: str, status: int = 0) -> str:
    monkeypatch.setattr(sys, "argv", ["synthpoll", "audit", *arguments])
    if status:
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == status
        return capsys.readouterr().err
    main()
    return capsys.readouterr().out


def canary_of(run, job) -> CanaryPoll:
    """The one round that tells the two worlds apart."""
    slates = [compact(np.load(run / "rounds" / f"00{r}" / "embeddings.npy")) for r in range(2)]
    population = population_of(job)
    cohorts = draw_cohorts(population.devices, job.rounds, job.participation, job.seed)
    fleet = reporting(job, population, [len(cohort) for cohort in cohorts.answering])
    (poll,) = polls_with_canary(job, fleet, population, slates)
    return poll


def test_the_bound_joins_the_statement_and_stays_on_resume(run, smoke, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SYNTHPOLL_CACHE", str(tmp_path / "cache"))
    before = contents(run)
    said = command(monkeypatch, capsys, str(run), "trials=60", "seed=5")
    (found,), statement = (json.loads((run / name).read_text()) for name in ("audit.json", "privacy.json"))
    assert [found] == statement["audits"]
    assert found["sentence"] in said and found["sentence"] in (run / "privacy.md").read_text()
    assert found["plays"] == 120 and found["rounds_played"] == 1 and found["refutes_claim"] is False
    assert 0 <= found["epsilon_lower"] <= found["claimed_epsilon"] == statement["central"]["epsilon"]
    after = contents(run)
    assert {name for name in after if after[name] != before.get(name)} == {"audit.json", "privacy.json", "privacy.md"}
    smoke("run", "rounds=2", "evaluation.sample=20", "trust=shuffled")
    assert contents(run) == after
    # Given again, it is one more audit, with noise of its own.
    command(monkeypatch, capsys, str(run), "trials=60", "seed=5")
    first, second = json.loads((run / "audit.json").read_text())
    assert first == found and (second["number"], second["seed"]) == (2, 5)
    assert second["sentence"] != found["sentence"].replace("audit 1", "audit 2")


def test_a_canary_changes_two_counts_of_its_round_alone(run, job):
    poll = canary_of(run, job)
    assert [world.tolist() for world in poll.worlds] == [[value] for value in poll.asked]
    assert poll.reports == json.loads((run / "rounds/000/round.json").read_text())["reports"]
    # Hardly any other device votes for the two.
    assert poll.counts[poll.asked].max() <= np.sort(poll.counts[:-1])[1] + 1


def attack(canary, trust, mechanism, claimed, trials=600):
    poll = replace(canary, mechanism=mechanism)
    return audit_polls([poll], trust, minimum_batch=100, claimed=claimed, trials=trials, seed=0)


def test_a_run_without_privacy_is_caught(run, job):
    found = attack(canary_of(run, job), LocalTrust(), NoPrivacy(domain_size=41), (4.0, 0.0), trials=2000)
    assert found.hits == found.trials and found.alarms == 0
    assert found.refutes_claim and found.epsilon_refuting == found.refuting_ceiling > 4


def test_a_run_with_too_little_noise_is_caught_and_an_honest_one_is_not(run, job):
    canary, raw = canary_of(run, job), NoPrivacy(domain_size=41)
    lax, honest = CentralBaseline(epsilon=16.0, delta=1e-6), CentralBaseline(epsilon=1.0, delta=1e-6)
    assert attack(canary, lax, raw, (1.0, 1e-6), trials=2000).refutes_claim
    found = attack(canary, honest, raw, (1.0, 1e-6), trials=2000)
    assert not found.refutes_claim
    assert attack(canary, lax, raw, (16.0, 1e-6)).refutes_claim is False


def test_as_many_devices_report_as_did_in_the_run(smoke, compose_job, tmp_path, monkeypatch):
    """Some were silent for lack of budget; more reports than the run had would hide the canary better."""
    ledger, caps = tmp_path / "ledger.db", ("caps.lifetime=4", "caps.daily=4")
    with contextlib.closing(
        DeviceLedger(ledger, device_ids=residents(), budget=Budget.of(lifetime=4.0, daily=4.0))
    ) as before:
        spent, other = np.arange(0, 900, 3), Token(use_case="emoji", round=0, day=3)
        before.opt_in(spent)
        assert before.debit(other, spent, MICRO).all() and before.send(other, spent).all()
    shape = ("rounds=2", "evaluation.sample=20", "trust=shuffled", "participation.availability=0.9", *caps)
    silent, all_paid = smoke("silent", *shape, f"ledger={ledger}"), smoke("paid", *shape)
    job = job_of(compose_job, tmp_path, *shape)
    reachable = [len(c) for c in draw_cohorts(900, job.rounds, job.participation, job.seed).answering]
    played: list[CanaryPoll] = []

    def watched(polls, *arguments, **more):
        played.extend(polls)
        return audit_polls(polls, *arguments, **more)

    monkeypatch.setattr(experiments.audit.run, "audit_polls", watched)
    for folder, fewer in ((silent, True), (all_paid, False)):
        audit(folder, job)
        reports = [json.loads((folder / f"rounds/00{r}/round.json").read_text())["reports"] for r in range(2)]
        assert (reports != reachable) is fewer
        assert played.pop().reports == min(reports) and not played
        assert json.loads((folder / "audit.json").read_text())[0]["reports_per_round"] == [min(reports)]


def test_an_audit_is_refused_where_its_sentence_would_be_about_something_else(run, job):
    def refused(folder=run, job=job) -> str:
        with pytest.raises(StoreError) as caught:
            audit(folder, job)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    before = contents(run)
    with RunFolder(run).opened((run / "config.yaml").read_text()):
        assert "another process is using the run folder" in refused()
    fewer = replace(job, participation=replace(job.participation, availability=0.5))
    assert "round 0 has 450 reports, but only" in refused(job=fewer)
    assert contents(run) == before
    (run / "oracle" / "devices.json").write_text('{"items": 1799}')
    assert "polled devices with other items (see oracle/devices.json)" in refused()
    with (run / "config.yaml").open("a") as file:
        file.write("# changed\n")
    assert "privacy.json is no statement about" in refused()
    assert not (run / "audit.json").exists()


def test_a_mechanism_comes_near_its_epsilon(monkeypatch, capsys):
    for mechanism in (OptimizedUnaryEncoding, RandomizedResponse):
        found = MechanismAudit(
            mechanism=partial(mechanism, epsilon=1.0), domain_size=5, trials=8000, seed=0, epsilon=1.0
        ).run()
        assert 0.8 < found.epsilon_lower <= 1.0
    said = command(monkeypatch, capsys, "mechanism=randomized_response", "epsilon=2", "trials=500", "domain_size=4")
    assert "claimed epsilon 2" in said and "does not refute" in said


@dataclass(frozen=True, kw_only=True)
class Boastful(OptimizedUnaryEncoding):
    """Negative control: claims half of the epsilon that it spends."""

    def privatize(self, values, rng):
        return OptimizedUnaryEncoding(epsilon=2 * self.epsilon, domain_size=self.domain_size).privatize(values, rng)


def test_a_mechanism_that_claims_too_little_is_caught():
    found = MechanismAudit(
        mechanism=partial(Boastful, epsilon=1.0), domain_size=5, trials=8000, seed=0, epsilon=1.0
    ).run()
    assert found.refutes_claim and found.epsilon_lower > 1.5


def test_what_cannot_be_audited(run, job, tmp_path, monkeypatch, capsys):
    error = command(monkeypatch, capsys, str(tmp_path / "nothing"), status=2)
    assert "has no config.yaml" in error and error.count("\n") == 1
    assert "takes trials=N and seed=N, not 'x'" in command(monkeypatch, capsys, str(run), "x", status=2)
    assert "trials is 3; expected 4 or more" in command(monkeypatch, capsys, str(run), "trials=3", status=2)
    assert "epsilon is 0" in command(monkeypatch, capsys, "epsilon=0", status=2)
    assert "trials is 1" in command(monkeypatch, capsys, "trials=1", status=2)
    (run / "rounds" / "001" / "round.json").unlink()
    with pytest.raises(StoreError, match="is not a complete run"):
        audit(run, job, trials=10)


def test_a_folder_of_an_earlier_version(run, tmp_path, monkeypatch, capsys):
    """Of the main job it is read, with the names that it had; of a use case the command says what to do."""
    monkeypatch.setenv("SYNTHPOLL_CACHE", str(tmp_path / "cache"))
    config = (run / "config.yaml").read_text()
    old = config.replace("experiments.refine.job.RefineJob", "experiments.job.Job")
    (run / "config.yaml").write_text(old.replace("experiments.refine.evaluate.", "experiments.evaluate."))
    read, now = load_run(run).job, load_run_of(run, config).job
    assert replace(read, mechanism=now.mechanism) == now and read.local(41) == now.local(41)
    (run / "config.yaml").write_text(
        config.replace("experiments.refine.job.RefineJob", "experiments.use_cases.job.UseCaseJob")
    )
    error = command(monkeypatch, capsys, str(run), status=2)
    assert "run of an earlier version; give its run command again into another folder" in error
    assert error.count("\n") == 1


def load_run_of(run, config: str) -> Run:
    (run / "config.yaml").write_text(config)
    return load_run(run)
