"""`synthpoll audit`: of a mechanism, and of a whole run, with negative controls that must be caught."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from aggregate.trust import CentralBaseline, LocalTrust
from embed.compact import compact
from experiments.audit_run import Canary, MechanismAudit, Polling, audit_folder, audit_polls
from experiments.cli import main
from experiments.store import RunFolder, StoreError
from privacy.no_privacy import NoPrivacy
from privacy.randomized_response import RandomizedResponse
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.experiments.conftest import contents


@pytest.fixture
def run(smoke):
    return smoke("run", "rounds=2", "evaluation.sample=20", "trust=shuffled")


@pytest.fixture
def polling(compose_job, tmp_path):
    """The polls of the run."""
    job = compose_job("experiment=smoke", "devices.devices=900", "rounds=2", "trust=shuffled")[0]
    names = ("name", "seed", "rounds", "minimum_batch", "devices", "participation", "answer", "mechanism", "trust")
    return Polling(**{name: getattr(job, name) for name in names}, encoder=job.encoder, cache=str(tmp_path / "cache"))


def command(monkeypatch, capsys, *arguments: str, status: int = 0) -> str:
    monkeypatch.setattr(sys, "argv", ["synthpoll", "audit", *arguments])
    if status:
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == status
        return capsys.readouterr().err
    main()
    return capsys.readouterr().out


def canary_of(run, polling) -> Canary:
    slates = [compact(np.load(run / "rounds" / f"00{r}" / "embeddings.npy")) for r in range(2)]
    return Canary.of(polling.fleet(), slates)


def test_the_bound_joins_the_statement_and_stays_on_resume(run, smoke, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SYNTHPOLL_CACHE", str(tmp_path / "cache"))
    before = contents(run)
    said = command(monkeypatch, capsys, str(run), "trials=60", "seed=5")
    audit, statement = (json.loads((run / name).read_text()) for name in ("audit.json", "privacy.json"))
    assert audit == statement["audit"]
    assert audit["sentence"] in said and audit["sentence"] in (run / "privacy.md").read_text()
    assert audit["plays"] == 120 and audit["rounds_played"] == 1 and audit["refutes_claim"] is False
    assert 0 <= audit["epsilon_lower"] <= audit["claimed_epsilon"] == statement["central"]["epsilon"]
    after = contents(run)
    assert {name for name in after if after[name] != before.get(name)} == {"audit.json", "privacy.json", "privacy.md"}
    smoke("run", "rounds=2", "evaluation.sample=20", "trust=shuffled")
    assert contents(run) == after
    command(monkeypatch, capsys, str(run), "trials=60", "seed=5")
    assert contents(run) == after


def test_a_canary_changes_two_counts_of_its_round_alone(run, polling):
    canary = canary_of(run, polling)
    ((_, (present, absent)),) = canary.rounds.items()
    (changed,) = np.flatnonzero(present != absent)
    assert (present[changed], absent[changed]) == canary.candidates
    # Hardly any other device votes for the two.
    votes = np.bincount(np.delete(present, changed), minlength=41)
    assert votes[list(canary.candidates)].max() <= np.sort(votes[:-1])[1] + 1


def attack(canary, trust, mechanism, claimed, trials=600):
    mechanisms = [mechanism] * 2
    return audit_polls(canary, trust, mechanisms, minimum_batch=100, claimed=claimed, trials=trials, seed=0)


def test_a_run_without_privacy_is_caught(run, polling):
    found = attack(canary_of(run, polling), LocalTrust(), NoPrivacy(domain_size=41), (4.0, 0.0))
    assert found.hits == found.trials and found.alarms == 0
    assert found.refutes_claim and found.epsilon_lower == found.ceiling > 4


def test_a_run_with_too_little_noise_is_caught_and_an_honest_one_is_not(run, polling):
    canary, raw = canary_of(run, polling), NoPrivacy(domain_size=41)
    lax, honest = CentralBaseline(epsilon=8.0, delta=1e-6), CentralBaseline(epsilon=1.0, delta=1e-6)
    assert attack(canary, lax, raw, (1.0, 1e-6)).refutes_claim
    found = attack(canary, honest, raw, (1.0, 1e-6), trials=2000)
    assert not found.refutes_claim
    assert attack(canary, lax, raw, (8.0, 1e-6)).refutes_claim is False


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


def test_what_cannot_be_audited(run, polling, tmp_path, monkeypatch, capsys):
    error = command(monkeypatch, capsys, str(tmp_path / "nothing"), status=2)
    assert "has no config.yaml" in error and error.count("\n") == 1
    assert "takes trials=N and seed=N, not 'x'" in command(monkeypatch, capsys, str(run), "x", status=2)
    assert "trials is 3; expected 4 or more" in command(monkeypatch, capsys, str(run), "trials=3", status=2)
    assert "epsilon is 0" in command(monkeypatch, capsys, "epsilon=0", status=2)
    assert "trials is 1" in command(monkeypatch, capsys, "trials=1", status=2)
    (run / "rounds" / "001" / "round.json").unlink()
    with pytest.raises(StoreError, match="is not a complete run"):
        audit_folder(RunFolder(run), polling, trials=10, seed=0)
