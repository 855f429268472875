"""`synthpoll device-log`: exactly what a device sent, in the documented shape, and nothing that it holds."""

from __future__ import annotations

import contextlib
import json
import sys

import numpy as np
import pytest

from device_poll.device_ledger import DeviceLedger
from device_poll.population import PopulationError
from experiments.accounts import accounts_in
from experiments.cli import main
from experiments.count.counting import build_groups
from experiments.count.groups import PromptGroup
from experiments.count.segments import DeviceNames, build_segments, fleet_of
from experiments.device_log import device_log
from experiments.finished import load_run
from experiments.folder.store import StoreError
from experiments.noise import noise_of
from privacy.budget import MICRO, Budget, LedgerError, Token
from privacy.device_log import read_log, reports_of
from privacy.ledger_stores import SimulatedLedger
from privacy.local_hashing import LocalHashing
from privacy.poll import Ask, ReportBatch
from privacy.randomized_response import RandomizedResponse
from privacy.randomness import NoiseSource
from privacy.subset_selection import SubsetSelection
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.experiments.conftest import contents
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
        fleet = fleet_of(job, noise_in(folder), segment, accounts_of(job, segment))
        fleet.enroll()
        batches = [batch for day in range(job.days) for batch in fleet.send(day)]
        for device in (segment.first_device, segment.first_device + 17, segment.first_device + segment.devices - 1):
            told = {entry.key: entry for entry in read_log(device_log(folder, device))}
            for name, dictionary in segment.dictionaries.items():
                sent = _of(batches, dictionary.key, device)
                assert len(sent) <= job.reports
                if not len(sent):
                    assert dictionary.key not in told, name
                    continue
                entry = told[dictionary.key]
                assert entry.algorithm == algorithm
                assert (reports_of(entry, dictionary.mechanism) == sent).all()


def noise_in(folder):
    """The source of a run's noise."""
    run = load_run(folder)
    return noise_of(run.job, run.folder, run.config)


def accounts_of(job, segment):
    """A ledger of the run's own."""
    ledger = SimulatedLedger(devices=segment.first_device + segment.devices, budget=job.caps.budget)
    return accounts_in(ledger, job, "a run", NoiseSource.seeded(job.seed))


def _of(batches: list[ReportBatch], key: str, device: int) -> np.ndarray:
    own = [batch.reports[batch.senders == device] for batch in batches if batch.use_case == key]
    return np.concatenate(own) if own else np.zeros(0)


@pytest.mark.parametrize(("nulls", "sent"), [("always", {0, 2}), ("never", {0, 1, 2})])
def test_a_device_has_two_reports_a_day_or_none(tmp_path, files, nulls, sent):
    folder = play(tmp_path / "run", files, "safari_energy", "opt_in=0.7", f"nulls={nulls}")
    records = [sum(len(entry.records) for entry in read_log(device_log(folder, d))) for d in range(60)]
    assert set(records) == sent


def test_fragments(tmp_path, files):
    folder = play(tmp_path / "run", files, "genmoji_fragments", "opt_in=0.5", "population=40000")
    job = job_of(files, "genmoji_fragments", "opt_in=0.5", "population=40000")[0]
    ((group,), _) = build_groups(job, NoiseSource.seeded(job.seed))
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
    assert sum(report == answer for report, answer in reports) > len(reports) / 2


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


def test_a_run_of_an_earlier_version_had_other_noise(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji")
    told = json.loads((folder / "privacy.json").read_text())
    del told["noise"]
    (folder / "privacy.json").write_text(json.dumps(told))
    with pytest.raises(StoreError, match="a run of an earlier version, whose reports had other noise"):
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


@pytest.mark.parametrize("trust", ["shuffled", "secure_aggregation"])
@pytest.mark.parametrize("experiment", ["emoji", "genmoji_fragments"])
def test_under_other_trust_models(tmp_path, files, experiment, trust):
    """What the devices' mechanism under this model made: under secure aggregation before the split into shares."""
    overrides = ("opt_in=0.7", f"trust={trust}", "release.minimum_count=1") if experiment == "emoji" else ()
    overrides = overrides or ("opt_in=0.7", f"trust={trust}")
    job = job_of(files, experiment, *overrides)[0]
    folder = play(tmp_path / "run", files, experiment, *overrides)
    (group, *_), _ = build_groups(job, noise_in(folder))
    key = group.keys[0]
    ask = Ask(use_case=key.key, round=0, mechanism=key.mechanism, needs=key.needs)
    sent = {}
    for batch in group.fleet(None).answer([ask]):
        sent |= dict(zip(batch.senders.tolist(), batch.reports, strict=True))
    logs = 0
    for device in range(40):
        entries = read_log(device_log(folder, device))
        assert len(entries) == (device in sent and agreed(group, device))
        for entry in entries:
            assert (reports_of(entry, key.mechanism)[0] == sent[device]).all()
            logs += 1
    assert 5 < logs < 40


def agreed(group, device: int) -> bool:
    """Where the fleet has no accounts, those who did not agree answer too."""
    return bool(group.agreed[device]) if isinstance(group, PromptGroup) else True


def test_whom_a_run_watches_is_told_under_oracle_only_and_changes_nothing(smoke):
    watched = smoke("watched", "watch=resident-000007", "rounds=1")
    plain, told = contents(smoke("plain", "rounds=1")), contents(watched)
    assert {name for name in told if told[name] != plain.get(name)} == {
        "oracle/watched.json", "rounds/000/oracle/report_log.json"
    }  # fmt: skip
    assert [name for name, data in told.items() if b"resident-000007" in data] == ["oracle/watched.json"]
    assert b"resident-000007" not in watched.with_name("watched.log").read_bytes()
    for changed in (["watch=resident-000008"], []):
        with pytest.raises(StoreError, match="was begun with another watch=ID"):
            smoke("watched", "rounds=1", *changed)
    with pytest.raises(StoreError, match="was begun without watch=ID"):
        smoke("plain", "rounds=1", "watch=resident-000007")
    assert contents(smoke("watched", "watch=resident-000007", "rounds=1")) == told


@pytest.mark.parametrize("trust", ["shuffled", "secure_aggregation"])
def test_of_the_main_job_under_other_trust_models(smoke, trust):
    folder = smoke("run", "watch=resident-000007", "rounds=1", f"trust={trust}")
    (entry,) = read_log(device_log(folder, "resident-000007"))
    job = load_run(folder).job
    assert len(reports_of(entry, job.randomizer(41))) == 1


@pytest.mark.parametrize("experiment", ["health_types", "genmoji_fragments"])
def test_a_shared_ledger_says_what_was_refused_and_is_not_written_to(tmp_path, files, experiment):
    """The run finds no budget where another took it: from every other device."""
    path = tmp_path / "ledger.db"
    caps = (f"ledger={path}", "caps.lifetime=4", "opt_in=0.9")
    caps = (*caps, "activity.mean=1") if experiment == "health_types" else caps
    budget = Budget.of(lifetime=4.0, daily=4.0)
    with contextlib.closing(DeviceLedger(path, device_ids=DeviceNames(4000), budget=budget)) as ledger:
        poor, other = np.arange(0, 4000, 2), Token(use_case="other", round=0, day=0)
        ledger.opt_in(poor)
        assert ledger.debit(other, poor, 3 * MICRO).all() and ledger.send(other, poor).all()
    folder = play(tmp_path / "run", files, experiment, *caps, *half(experiment), "seed=1", "first_day=1")
    own = tmp_path / "own.db"
    alone = play(
        tmp_path / "alone", files, experiment, f"ledger={own}", *caps[1:], *half(experiment), "seed=1", "first_day=1"
    )
    with pytest.raises(PopulationError, match="alone knows which reports were refused"):
        device_log(folder, 3)
    before = path.read_bytes()
    told = {device: records(device_log(folder, device, str(path))) for device in range(60)}
    free = {device: records(device_log(alone, device, str(own))) for device in range(60)}
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.glob("ledger.db*")] == ["ledger.db"]
    assert not any(told[device] for device in range(0, 60, 2))
    assert all(len(told[device]) == len(free[device]) for device in range(1, 60, 2))
    assert 0 < sum(map(len, told.values())) < sum(map(len, free.values()))
    other = play(
        tmp_path / "other", files, experiment, *half(experiment), f"ledger={tmp_path / 'other.db'}", caps[1], "seed=2"
    )
    for wrong, why in ((path, "has no debits of this run"), (tmp_path / "none.db", "there is no ledger")):
        with pytest.raises(LedgerError, match=why):
            device_log(other, 3, str(wrong))
    assert not (tmp_path / "none.db").exists()


def half(experiment: str) -> tuple[str, ...]:
    """A report costs 4 of 4 for fragments; for health types 2, and a device may send two."""
    return ("days=2",) if experiment == "health_types" else ("minimum_batch=10",)


def records(text: str) -> list[str]:
    return [record for entry in read_log(text) for record in entry.records]


def test_the_command_with_a_ledger(tmp_path, files, monkeypatch, capsys):
    folder = play(tmp_path / "run", files, "emoji", f"ledger={tmp_path / 'ledger.db'}")
    for given in (["--ledger", f"{tmp_path / 'ledger.db'}"], [f"ledger={tmp_path / 'ledger.db'}"]):
        monkeypatch.setattr(sys, "argv", ["synthpoll", "device-log", *given, str(folder), "--device=3"])
        main()
        assert capsys.readouterr().out == device_log(folder, 3, str(tmp_path / "ledger.db")) + "\n"
    monkeypatch.setattr(sys, "argv", ["synthpoll", "device-log", str(folder), "--device", "3"])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    assert "give it with --ledger FILE" in error and error.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["synthpoll", "device-log", str(folder), "--ledger"])
    with pytest.raises(SystemExit):
        main()
    assert "takes RUN --device ID [--ledger FILE]" in capsys.readouterr().err
