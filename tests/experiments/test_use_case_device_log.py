"""`synthpoll device-log`: exactly what a device sent, in the documented shape, and nothing that it holds."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from device_poll.population import PopulationError
from experiments.cli import main
from experiments.store import StoreError
from experiments.use_cases.device_log import device_log
from experiments.use_cases.fragments import FragmentGroup
from experiments.use_cases.population import build_segments, fleet_of, ledger_of
from privacy.device_log import read_log, reports_of
from privacy.local_hashing import LocalHashing
from privacy.mechanism import ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.subset_selection import SubsetSelection
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.experiments.use_case_files import EMOJI, job_of, play, write_files

MECHANISMS = {
    "subset_selection": SubsetSelection,
    "local_hashing": LocalHashing,
    "randomized_response": RandomizedResponse,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize(
    ("experiment", "algorithm"),
    [("emoji", "CMS"), ("safari_energy", "HCMS"), ("health_types", "optimized_unary_encoding"), ("new_words", "SFP")],
)
def test_the_log_is_what_left_the_device_to_the_last_bit(tmp_path, files, experiment, algorithm):
    """Against all batches of a fleet made anew: every report of the device, of every key it sent, in order."""
    overrides = ("days=2", "opt_in=0.7", "seed=5")
    folder = play(tmp_path / "run", files, experiment, *overrides)
    job = job_of(files, experiment, *overrides)[0]
    for segment in build_segments(job)[0]:
        fleet = fleet_of(job, segment, ledger_of(job, segment))
        fleet.enroll()
        batches = [batch for day in range(job.days) for batch in fleet.send(day)]
        for device in (segment.first_device, segment.first_device + 17, segment.first_device + segment.devices - 1):
            told = {entry.key: entry for entry in read_log(device_log(folder, device))}
            for name, dictionary in segment.dictionaries.items():
                sent = _of(batches, dictionary.key, device)
                assert len(sent) <= job.reports_per_device
                if not len(sent):
                    assert dictionary.key not in told, name
                    continue
                entry = told[dictionary.key]
                assert entry.algorithm == algorithm
                assert (reports_of(entry, dictionary.mechanism) == sent).all()


def _of(batches: list[ReportBatch], key: str, device: int) -> np.ndarray:
    own = [batch.reports[batch.senders == device] for batch in batches if batch.use_case == key]
    return np.concatenate(own) if own else np.zeros(0)


def test_some_device_has_two_reports_a_day_and_some_has_none(tmp_path, files):
    folder = play(tmp_path / "run", files, "safari_energy", "opt_in=0.7")
    records = [sum(len(entry.records) for entry in read_log(device_log(folder, d))) for d in range(60)]
    assert set(records) == {0, 1, 2}


def test_fragments(tmp_path, files):
    folder = play(tmp_path / "run", files, "genmoji_fragments", "opt_in=0.5", "population=40000")
    job = job_of(files, "genmoji_fragments", "opt_in=0.5", "population=40000")[0]
    group = FragmentGroup(job=job, pool=job.vocabulary.load())
    answers, reports = group.pool.answers(job.devices, job.activity, job.seed), []
    # In the second block of devices, too.
    for device in (*range(30), *range(32760, 32790)):
        text = device_log(folder, device)
        entries = read_log(text)
        if not entries:
            continue
        (entry,) = entries
        assert entry.algorithm == "randomized_response" and len(entry.records) == 1
        reports.append((int(entry.records[0]), int(answers.values[device])))
    assert 15 < len(reports) < 45
    # At epsilon 4 most reports are true: this is the device's own answer, privatized.
    symbols = len(group.pool.candidates)
    assert sum(report == (symbols if answer < 0 else answer) for report, answer in reports) > len(reports) / 2


def test_the_log_holds_nothing_else_and_the_run_nothing_of_the_log(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji")
    text = device_log(folder, 3)
    log = json.loads(text)
    assert set(log) == {"version", "segments"}
    assert {key for entry in log["segments"] for key in entry} <= {"algorithm", "key", "parameters", "records"}
    assert not any(emoji in text for emoji in EMOJI)
    for entry in log["segments"]:
        for record in entry["records"]:
            for path in folder.rglob("*"):
                assert not path.is_file() or record.encode() not in path.read_bytes(), path


def test_the_command(tmp_path, files, monkeypatch, capsys):
    folder = play(tmp_path / "run", files, "emoji")
    monkeypatch.setattr(sys, "argv", ["synthpoll", "device-log", str(folder), "--device", "3"])
    main()
    assert capsys.readouterr().out == device_log(folder, 3) + "\n"


@pytest.mark.parametrize("device", ["4000", "-1", "x", "1.0", "٣"])
def test_no_such_device(tmp_path, files, device):
    folder = play(tmp_path / "run", files, "emoji")
    with pytest.raises(PopulationError, match="expected the number of a device, 0 to 3999"):
        device_log(folder, device)


def test_a_run_without_reports_has_no_logs(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji", "exact_above=100")
    with pytest.raises(PopulationError, match="run it with exact_above=4000 to have logs"):
        device_log(folder, 3)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(StoreError, match=r"has no config\.yaml"):
        device_log(tmp_path, 3)


def test_of_the_main_job_only_the_watched_device_has_a_log(smoke):
    folder = smoke("run", "watch=resident-000007")
    (entry,) = read_log(device_log(folder, "resident-000007"))
    assert (entry.algorithm, entry.key) == ("optimized_unary_encoding", "smoke")
    assert entry.parameters == {"epsilon": 4.0, "domain_size": 41}
    mechanism = OptimizedUnaryEncoding(epsilon=4.0, domain_size=41)
    assert reports_of(entry, mechanism).shape == (1, 6)
    with pytest.raises(PopulationError, match="watch=ID"):
        device_log(folder, "resident-000008")
    with pytest.raises(PopulationError, match="watch=ID"):
        device_log(smoke("unwatched"), "resident-000007")


@pytest.mark.parametrize("name", ["subset_selection", "local_hashing", "randomized_response"])
def test_of_the_main_job_under_other_mechanisms(smoke, name):
    folder = smoke("run", "watch=resident-000007", "rounds=1", f"mechanism={name}")
    (entry,) = read_log(device_log(folder, "resident-000007"))
    mechanism = MECHANISMS[name](epsilon=4.0, domain_size=41)
    assert len(reports_of(entry, mechanism)) == 1
