"""What a count claims, and who reports in it, where several keys, runs and parts meet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from aggregate.histogram import ReleaseRule
from aggregate.trust import ShuffledTrust
from experiments.count import counting, poll
from experiments.count.counting import build_groups
from experiments.device_log import device_log
from experiments.folder.store import StoreError
from experiments.statement.count import build_statement
from experiments.statement.facts import most_revealing
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource
from tests.experiments.use_case_files import job_of as loaded
from tests.experiments.use_case_files import play, screen, write_files


@pytest.fixture
def files(tmp_path) -> Path:
    return write_files(tmp_path / "files")


def job_of(files: Path, experiment: str, *overrides: str):
    return loaded(files, experiment, *overrides)[0]


def of(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def test_the_claim_is_that_of_the_poll_that_reveals_most():
    fake_job = SimpleNamespace(trust=ShuffledTrust(delta=1e-6), reports=1)
    big, small = (RandomizedResponse(epsilon=4.0, domain_size=values) for values in (2000, 2))
    polls = {"big": (big, 1000), "small": (small, 1001)}
    weakest = fake_job.trust.claim(small, 1001).epsilon
    assert most_revealing(fake_job, polls) == "small" and weakest > 4 * fake_job.trust.claim(big, 1000).epsilon
    assert min(polls, key=lambda name: polls[name][1]) == "big"  # the fewest reports say nothing about it
    assert most_revealing(fake_job, {"more": (small, 1001), "fewer": (small, 1000)}) == "fewer"


def test_nothing_is_claimed_of_a_key_to_come_that_a_minimum_batch_would_not_keep(tmp_path, files):
    job = job_of(files, "health_types", "trust=shuffled", "population=40000")
    ((group,), _) = build_groups(job, NoiseSource.seeded(job.seed))
    before, after = (build_statement(job, group.keys, came, "config") for came in ({}, {"health_types": 30_000}))
    floor = job.trust.claim(group.keys[0].mechanism, job.minimum_batch).epsilon
    assert before["central"]["epsilon"] == floor > 2 * after["central"]["epsilon"]
    assert "at delta 1e-06, for 100 reports or more, trust shuffled" in before["headline"]
    assert "or more" not in after["headline"]
    assert "at least 100 reports of a key" in before["summary"] and "at least 30000 reports" in after["summary"]
    assert before["accuracy"]["reports"] == group.keys[0].expected_reports  # which is no claim


def test_who_agreed_to_another_run_is_not_asked_in_this_one(tmp_path, files):
    shared = [f"ledger={tmp_path / 'ledger.db'}", "caps.lifetime=100"]
    play(tmp_path / "all", files, "health_types", "opt_in=1.0", *shared)
    alone = play(tmp_path / "alone", files, "genmoji_fragments", "opt_in=0.3")
    beside = play(tmp_path / "beside", files, "genmoji_fragments", "opt_in=0.3", *shared)
    name = "segments/genmoji_fragments/segment.json"
    assert of(beside, name)["reports"] == of(alone, name)["reports"] < 1400
    ledger = str(tmp_path / "ledger.db")
    logs = [bool(json.loads(device_log(beside, device, ledger))["segments"]) for device in range(40)]
    assert logs == [bool(json.loads(device_log(alone, device))["segments"]) for device in range(40)]
    assert 0 < sum(logs) < 40


def test_a_ledger_without_the_debits_of_a_complete_key_is_refused(tmp_path, files, monkeypatch):
    """The second group was played and paid for in a file that is not there any more."""
    ledger, older = tmp_path / "ledger.db", tmp_path / "older.db"
    overrides = ["emoji", f"ledger={ledger}", "caps.lifetime=6", "caps.daily=6"]

    def stop(job, group, *rest):
        if group.name == "fr":
            raise KeyboardInterrupt
        return poll.play(job, group, *rest)

    monkeypatch.setattr(counting, "play", stop)
    with pytest.raises(KeyboardInterrupt):
        play(tmp_path / "run", files, *overrides)
    monkeypatch.undo()
    shutil.copy(ledger, older)
    play(tmp_path / "run", files, *overrides)
    shutil.copy(older, ledger)
    with pytest.raises(StoreError, match=r"reports of emoji.fr, but its ledger has debits for 0; give the ledger"):
        play(tmp_path / "run", files, *overrides)


@pytest.mark.parametrize(
    ("experiment", "impossible"),
    [("new_words", {"secure_aggregation", "central"}), ("genmoji_fragments", {"central"}), ("health_types", set())],
)
def test_the_statement_lists_no_trust_model_that_the_run_would_refuse(files, experiment, impossible):
    groups, _ = build_groups(job := job_of(files, experiment), NoiseSource.seeded(0))
    stated = build_statement(job, [key for group in groups for key in group.keys], {}, "config")["trust_models"]
    assert {row["model"] for row in stated if "not_possible" in row} == impossible
    for name in sorted(impossible):
        with pytest.raises(Exception, match=r"trust"):
            job_of(files, experiment, f"trust={name}")


def test_an_error_of_a_rule_is_no_lack_of_devices(tmp_path, files, monkeypatch):
    def broken(self, *arguments):
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(ReleaseRule, "decide", broken)
    with pytest.raises(ValueError, match="broadcast") as error:
        play(tmp_path / "run", files, "health_types")
    assert type(error.value) is ValueError


@pytest.mark.parametrize("setting", ["search.fragment_z=-1", "search.largest_join=0", "search.top_fragments=0"])
def test_a_senseless_search_is_refused_before_a_device_pays(tmp_path, files, setting):
    ledger = tmp_path / "ledger.db"
    with pytest.raises(Exception, match=rf"{setting.split('=')[0].split('.')[1]} is "):
        play(tmp_path / "run", files, "new_words", setting, f"ledger={ledger}", "caps.lifetime=100")
    assert not (tmp_path / "run").exists() and not ledger.exists()


def test_one_delta(files):
    with pytest.raises(Exception, match=r"trust\.delta is 0\.01, but delta=1e-06; expected the same: set delta only"):
        job_of(files, "emoji", "trust=shuffled", "trust.delta=0.01")


def test_a_page_is_told_from_its_place_in_the_run(tmp_path, files):
    console = screen()
    play(tmp_path / "oracle" / "run", files, "health_types", console=console)
    printed = [line.split(": ")[0] for line in console.file.getvalue().splitlines() if "report.html" in line]
    assert printed == ["Page", "Page with the truth"]
