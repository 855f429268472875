"""privacy.json and privacy.md: every number computed, the same on resume, and in agreement with what was released."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hydra.errors import InstantiationException
from rich.console import Console

import experiments.run
from experiments.compare.load import load_run
from experiments.statement.page import rounded_up
from privacy.accounting import amplify_by_shuffling
from privacy.distributed_unary import DistributedUnaryEncoding
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.experiments.conftest import contents

STATEMENT = {"privacy.json", "privacy.md", "config.yaml", "run.json", "report.html", "oracle/report.html"}
MODELS = ["local", "shuffled", "secure_aggregation", "central"]


def statement(folder: Path) -> dict:
    return json.loads((getattr(folder, "path", folder) / "privacy.json").read_text())


@pytest.fixture
def quick(smoke):
    """One round of a run under a trust model."""
    return lambda name, *overrides, **how: smoke(name, "rounds=1", "evaluation.sample=20", *overrides, **how)


def test_shuffling_changes_the_statement_and_nothing_else(quick, unbound_noise):
    one, other = contents(quick("local")), contents(quick("shuffled", "trust=shuffled"))
    assert set(one) == set(other)
    assert {name for name in one if one[name] != other[name]} == STATEMENT | {
        "dataset/README.md",
        "oracle/rounds.png",
        "oracle/shares.png",
    }


def test_every_model_states_what_its_accountant_says(quick):
    told = {
        model: statement(quick(model, f"trust={model}", "epsilon=1", "delta=1e-5", "minimum_batch=400"))
        for model in MODELS
    }
    unary = OptimizedUnaryEncoding(epsilon=1.0, domain_size=41)
    assert {model: one["spent"]["report"] for model, one in told.items()} == {
        "local": 1.0, "shuffled": 1.0, "secure_aggregation": None, "central": None
    }  # fmt: skip
    assert told["local"]["central"] is None
    alone = {"report": 1.0, "round": 1.0, "day": 1.0, "run": 1.0, "delta": 0.0, "lifetime": None}
    assert told["local"]["spent"] == alone
    expected = {"epsilon": amplify_by_shuffling(unary, 900, 1e-5), "delta": 1e-5, "trust_model": "shuffled"}
    assert told["shuffled"]["central"] == expected
    assert told["shuffled"]["spent"] == told["local"]["spent"]
    summed = DistributedUnaryEncoding(domain_size=41, central_epsilon=1.0, central_delta=1e-5, honest_reports=400)
    assert told["secure_aggregation"]["central"]["epsilon"] == summed.central_epsilon_of(900)
    assert told["central"]["central"]["trust_model"] == "central (baseline)"
    assert told["central"]["central"]["epsilon"] == pytest.approx(1.0)
    for model, one in told.items():
        rows = {row["model"]: row for row in one["trust_models"]}
        assert list(rows) == MODELS
        assert [name for name, row in rows.items() if row["in_force"]] == [model]
        assert rows["local"]["epsilon"] == 1.0 and rows["local"]["delta"] == 0.0
        assert rows["shuffled"]["epsilon"] == expected["epsilon"]


def test_the_card_the_page_and_run_json_agree_with_it(quick):
    for model in MODELS:
        folder = quick(model, f"trust={model}")
        one, card = statement(folder), (folder / "dataset" / "README.md").read_text()
        page, run = (folder / "privacy.md").read_text(), json.loads((folder / "run.json").read_text())
        assert one["summary"] in card and one["summary"] in page
        assert run["privacy"]["epsilon_per_report"] == one["spent"]["report"]
        assert run["privacy"]["mechanism"] == one["mechanism"]
        central = load_run(folder, oracle=False).central
        if one["central"] is None:
            assert central is None and "epsilon = 4;" in card
        else:
            assert (central.epsilon, central.delta) == (one["central"]["epsilon"], one["central"]["delta"])
            assert f"epsilon = {rounded_up(central.epsilon)} and delta = 1e-06" in card
        everywhere = (card.split("\n## Columns")[0], page, run["privacy"]["trust_model"], one["headline"])
        assert [("baseline" in text.lower()) for text in everywhere] == [
            model == "central", True, model == "central", model == "central"
        ]  # fmt: skip
        assert ("not for release" in page) == (model == "central")


@pytest.mark.parametrize(
    ("model", "epsilon"),
    [
        ("local", "local epsilon 4"),
        ("shuffled", r"local epsilon 4 \(central 1\.\d+ at delta 1e-06, shuffled\)"),
        ("secure_aggregation", r"central epsilon 0\.\d+ at delta 1e-06"),
        ("central", "central epsilon 4 at delta 1e-06"),
    ],
)
def test_titles_tell_whose_epsilon_it_is(quick, monkeypatch, model, epsilon):
    titles, screen = {}, Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(
        "experiments.refine.report._save",
        lambda folder, name, figure: titles.update({name: figure.get_suptitle() or figure.axes[0].get_title()}),
    )
    quick(model, f"trust={model}", "arms=[no_privacy]", console=screen)
    assert re.fullmatch(rf"smoke: {epsilon}, seed 0 \(noise-free evaluation\)", titles["oracle/rounds.png"])
    shares = titles["oracle/shares.png"]
    assert re.fullmatch(rf"The town's topics at {epsilon}, last poll", shares.replace("\n", " "))
    assert max(map(len, shares.splitlines())) <= 60
    tables = [line.strip() for line in screen.file.getvalue().splitlines() if ": smoke, " in line]
    assert tables[0] == "no_privacy: smoke, to compare with, seed 0"
    assert re.fullmatch(rf"run: smoke, {epsilon}, seed 0", tables[1])


def test_the_raw_votes_of_the_baseline_stay_under_oracle(quick):
    folder = quick("central", "trust=central") / "rounds" / "000"
    votes, kept = np.load(folder / "oracle" / "votes.npy"), np.load(folder / "tally.npz")["sums"]
    assert (votes != kept).mean() > 0.3


def test_numbers_come_from_the_population_and_the_configuration(smoke):
    """Nothing is typed: other inputs, other numbers."""
    folder = smoke(
        "run", "rounds=2", "participation.opt_in=0.9", "participation.availability=0.8", "devices.unit=item",
        "minimum_batch=50", "caps.lifetime=6", "answer.recent=7", "seed=3", "arms=[random_selection]",
    )  # fmt: skip
    one, page = statement(folder), (folder / "privacy.md").read_text()
    run = json.loads((folder / "run.json").read_text())
    reports = [json.loads((folder / f"rounds/00{r}/round.json").read_text())["reports"] for r in range(2)]
    assert one["composition"] == {"rounds": 2, "rounds_per_device": 1, "reports_per_round": reports}
    assert one["accuracy"]["reports"] == min(reports)
    assert one["sampling"]["opted_in"] == run["devices"]["opted_in"] < one["sampling"]["devices"] == 1800
    assert one["caps"] == {"lifetime": 6, "daily": None}
    assert one["ledger"] == {
        "kept": "memory", "shared_with_other_runs": False, "caps": one["caps"], "first_day": 0, "cost_of_a_report": 4,
        "polls_paid": 2, "devices_charged": sum(reports),
    }  # fmt: skip
    assert f"After 2 of 2 polls: {sum(reports)} devices charged" in page
    assert one["unit"]["is_a_person"] is False and "smaller than a person" in page
    assert one["run"]["seed"] == 3
    assert one["run"]["configuration_sha256"] == hashlib.sha256((folder / "config.yaml").read_bytes()).hexdigest()
    for number in (min(reports), 50, one["sampling"]["opted_in"], one["run"]["configuration_sha256"]):
        assert re.search(rf"\b{number}\b", page), number
    assert "its latest 7 items" in page and "random_selection" in page


def test_before_the_last_poll_a_shared_ledger_promises_no_more_than_a_minimum_batch(smoke, tmp_path, monkeypatch):
    """Who can still pay is not known before a poll; what came is known after it."""
    told = []

    def telling(folder, *args):
        write_statement(folder, *args)
        told.append((statement(folder), (folder.path / "privacy.md").read_text()))

    write_statement = experiments.run.write_statement
    monkeypatch.setattr(experiments.run, "write_statement", telling)
    shared = f"ledger={tmp_path / 'ledger.db'}"
    smoke("run", "rounds=2", "evaluation.sample=20", "trust=secure_aggregation", shared)
    smoke("own", "rounds=2", "evaluation.sample=20", "trust=secure_aggregation")
    (before, page), (between, _), (after, last), (own, _), _, (own_after, _) = told
    assert before["composition"]["reports_per_round"] == [100, 100]  # minimum_batch
    assert "expected of the last 2, which are still to be polled" in page and "expected of" not in last
    assert between["composition"]["reports_per_round"] == [450, 100]
    assert [one["ledger"]["devices_charged"] for one in (before, between, after)] == [0, 450, 900]
    assert after["composition"] == own["composition"] == own_after["composition"]
    assert after["composition"]["reports_per_round"] == [450, 450]
    assert before["central"]["epsilon"] > after["central"]["epsilon"] == own["central"]["epsilon"]


class Killed(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("model", ["shuffled", "secure_aggregation", "central"])
def test_a_resumed_run_has_the_same_bytes(smoke, monkeypatch, model):
    overrides = (f"trust={model}", "rounds=2", "evaluation.sample=20")
    whole = contents(smoke("whole", *overrides))
    write, count = experiments.run.RunFolder.write_bytes, 0

    def dying(self, name, content):
        nonlocal count
        count += 1
        if count in (4, 25):
            raise Killed
        write(self, name, content)

    monkeypatch.setattr(experiments.run.RunFolder, "write_bytes", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            smoke("broken", *overrides)
    assert contents(smoke("broken", *overrides)) == whole


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["caps.lifetime=3"],
            "takes 1 x 4000000 = 4000000 micro-epsilons from one device, but the daily cap is 3000000",
        ),
        (["caps.daily=0.5", "trust=central"], "but the daily cap is 500000"),
        (["caps.lifetime=0"], "caps.lifetime is 0; expected a finite number of epsilons > 0"),
        (["delta=0"], "delta is 0; expected a number in (0, 1)"),
        (["delta=1", "trust=shuffled"], "delta is 1; expected a number in (0, 1)"),
        (["minimum_batch=1", "trust=shuffled"], "1 reports with 0 colluding devices hide nobody"),
        (["minimum_batch=1", "trust=secure_aggregation"], "hide nobody"),
        (["minimum_batch=1", "trust=central"], "hide nobody"),
        (["epsilon=0", "trust=secure_aggregation"], "epsilon is 0; expected a number above 0"),
        (["epsilon=-1", "trust=central"], "epsilon is -1; expected a number above 0"),
        (["epsilon=0.1", "trust=secure_aggregation", "minimum_batch=20"], "ask more devices"),
        (["trust=secure_aggregation", "trust.noise_by=both"], "expected devices or aggregators"),
    ],
)
def test_what_cannot_be_claimed_is_refused_before_any_work(compose_job, overrides, said):
    with pytest.raises(InstantiationException) as refused:
        compose_job("experiment=smoke", *overrides)
    assert said in str(refused.value.__cause__)


def test_numbers_for_reading_never_claim_less():
    for value, text in [(0.817353, "0.8174"), (3.9999999, "4"), (40.0, "40"), (0.0, "0"), (1.23456e-7, "1.235e-07")]:
        assert rounded_up(value) == text
        assert float(text) >= value
