"""Use cases on the engine of the main job: every trust model, one ledger for all, and kills between keys."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hydra.errors import InstantiationException

import experiments.count.counting
from aggregate.intake import BatchError
from device_poll.device_ledger import DeviceLedger
from device_poll.population import PopulationError
from experiments.count.segments import DeviceNames
from experiments.folder.store import RunFolder, StoreError
from experiments.launch import told
from experiments.statement.page import rounded_up
from privacy import ledger_stores
from privacy.accounting import amplify_by_shuffling
from privacy.budget import MICRO, Budget, LedgerError
from privacy.count_mean_sketch import CountMeanSketch
from privacy.distributed_unary import DistributedUnaryEncoding
from tests.experiments.conftest import contents
from tests.experiments.fault_driver import shared_driver
from tests.experiments.use_case_files import EMOJI, arguments, job_of, play, write_files

DEVICES = 4000
SIGMAS = 5.0


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(autouse=True)
def speed(monkeypatch):
    """No waiting for the disk: what a process wrote outlives its SIGKILL in the system's cache."""
    monkeypatch.setattr(ledger_stores, "_PRAGMAS", (*ledger_stores._PRAGMAS, "synchronous = OFF"))


def of(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def rows(folder: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    return list(csv.DictReader((folder / name).open(encoding="utf-8")))


def row_of(told: dict, model: str) -> dict:
    (row,) = [row for row in told["trust_models"] if row["model"] == model]
    return row


def refused(files: Path, out: Path, experiment: str, *overrides: str) -> str:
    """The one line of a run that is refused before any work: no folder is there afterwards."""
    line = told(lambda: play(out, files, experiment, *overrides))
    assert line is not None and "\n" not in line
    assert not out.exists()
    return line


# Trust models


def test_a_shuffler_changes_the_statement_and_no_report(tmp_path, files, unbound_noise):
    local = play(tmp_path / "local", files, "emoji")
    folder = play(tmp_path / "shuffled", files, "emoji", "trust=shuffled", "delta=1e-6")
    one, other = contents(local), contents(folder)
    changed = {name for name in one if one[name] != other[name]}
    pages = {"report.html", "oracle/report.html"}
    assert set(one) == set(other)
    assert changed == {"config.yaml", "run.json", "privacy.json", "privacy.md", *pages}
    stated, page = of(folder, "privacy.json"), (folder / "privacy.md").read_text()
    fewest = min(stated["composition"]["reports_by_key"].values())
    sketch = CountMeanSketch(epsilon=4.0, rows=64, columns=256, hash_seed=0)
    epsilon = amplify_by_shuffling(sketch, fewest, 1e-6)
    assert stated["central"] == {"epsilon": epsilon, "delta": 1e-6, "trust_model": "shuffled"}
    assert epsilon < 4.0 == stated["spent"]["report"]
    assert row_of(stated, "shuffled")["in_force"] and not row_of(stated, "local")["in_force"]
    assert "Assumed: the shuffler drops senders, arrival times and order, and does not work together with" in page
    assert f"epsilon = {rounded_up(epsilon)} and delta = 1e-06" in page
    for name in pages:
        text = (folder / name).read_text()
        assert f"<b>{rounded_up(epsilon)}</b><span>central epsilon of this run</span>" in text
        assert "trust model shuffled" in text and stated["headline"] in text
        assert "central epsilon of this run" not in (local / name).read_text()


@pytest.mark.parametrize("noise", ["devices", "aggregators", "exact"])
def test_counts_of_a_sum_are_unbiased_and_only_the_sum_is_private(tmp_path, files, noise):
    more = {
        "devices": [],
        "aggregators": ["trust.noise_by=aggregators"],
        "exact": ["exact_above=100"],
    }[noise]
    if noise == "aggregators":
        pytest.importorskip("opendp")
    # A low bar, so that everything is released and no count is picked because its noise was large.
    all_of_it = ["release.minimum_count=0", "release.threshold=0", "release.false_discovery_rate=0.999999"]
    folder = play(
        tmp_path / "run", files, "emoji", "segments=[en]", "trust=secure_aggregation", "epsilon=1",
        "minimum_batch=1000", "release.discoveries=benjamini_hochberg", *all_of_it, *more,
    )  # fmt: skip
    place = folder / "segments" / "emoji.en"
    released, truth = (
        pq.read_table(place / name).to_pydict() for name in ("histogram.parquet", "oracle/truth.parquet")
    )
    (public,), (scores,) = rows(folder), rows(folder, "oracle/metrics.csv")
    reports = int(public["reports"])
    # The scores are over the whole known list, what was withheld too: about n squared standard normals.
    assert int(public["looked_at"]) == len(EMOJI)
    assert abs(float(scores["error_in_stderr"]) ** 2 - 1) < SIGMAS * np.sqrt(2 / len(EMOJI))
    assert float(scores["coverage"]) > 0.95 - SIGMAS * np.sqrt(0.95 * 0.05 / len(EMOJI))
    errors = (np.array(released["count"]) - truth["true_count"]) / np.array(released["stderr"])
    assert np.abs(errors).max() < SIGMAS
    # The most frequent are released for certain: their errors have mean 0.
    often = np.array(truth["true_count"]) > 8 * np.array(released["stderr"])
    assert often.sum() >= 5 and abs(errors[often].mean()) < SIGMAS / np.sqrt(often.sum())
    # No local epsilon; a central one at delta.
    stated, page = of(folder, "privacy.json"), (folder / "privacy.md").read_text()
    central = stated["central"]
    assert stated["spent"]["report"] is None and stated["spent"]["delta"] == 1e-6
    assert stated["spent"]["run"] == stated["spent"]["day"] == central["epsilon"] <= 1.0
    assert (central["delta"], central["trust_model"]) == (1e-6, "secure_aggregation")
    if noise != "aggregators":
        unary = DistributedUnaryEncoding(
            domain_size=len(EMOJI), central_epsilon=1.0, central_delta=1e-6, honest_reports=1000
        )
        assert central["epsilon"] == unary.central_epsilon_of(reports) < 1.0
    assert "| one report | infinite | 0 |" in page and "One report alone is not protected at all" in page
    assert "pure local differential privacy" not in stated["summary"] + stated["headline"]
    assert stated["headline"].startswith(f"central epsilon {rounded_up(central['epsilon'])} at delta 1e-06")
    for name in ("report.html", "oracle/report.html"):
        text = (folder / name).read_text()
        assert f"<b>{rounded_up(central['epsilon'])}</b><span>central epsilon of this run</span>" in text
        assert "<b>none</b><span>privacy of one report alone</span>" in text
        assert "pure local differential privacy" not in text and "baseline" not in text.split("</style>")[1].lower()


def test_the_central_model_is_a_baseline_and_says_so_everywhere(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji", "trust=central")
    stated, page = of(folder, "privacy.json"), (folder / "privacy.md").read_text()
    assert stated["trust"]["baseline"] and stated["central"]["trust_model"] == "central (baseline)"
    assert stated["headline"].startswith("BASELINE, not for release: ")
    assert stated["summary"].startswith("BASELINE, not for release: the server saw every device's true answer")
    assert page.startswith("# Privacy statement (baseline, not for release)")
    assert "baseline" in of(folder, "run.json")["privacy"]["trust_model"]
    for name in ("report.html", "oracle/report.html"):
        text = (folder / name).read_text()
        assert text.count("BASELINE, not for release") == 2  # in its lead, and in the statement at its end
        assert "trust model central (baseline)" in text
    assert {float(row["stderr"]) for row in rows(folder)} == {stated["mechanism"]["sigma"]}
    # Negative control: of all others none says so.
    assert "not for release" not in (play(tmp_path / "local", files, "emoji") / "privacy.md").read_text()


def test_fragments_in_a_sum(tmp_path, files):
    folder = play(
        tmp_path / "run", files, "genmoji_fragments", "trust=secure_aggregation", "epsilon=1", "minimum_batch=1000"
    )
    (public,), (scores,) = rows(folder), rows(folder, "oracle/metrics.csv")
    assert int(public["released"]) >= 5 and scores["false_releases"] == scores["below_minimum"] == "0"
    assert float(scores["coverage_released"]) == 1.0 and float(scores["held_by_fewer"]) == 0
    looked_at = int(public["looked_at"])
    assert abs(float(scores["error_in_stderr"]) ** 2 - 1) < SIGMAS * np.sqrt(2 / looked_at)
    stated = of(folder, "privacy.json")
    unary = DistributedUnaryEncoding(
        domain_size=looked_at + 1, central_epsilon=1.0, central_delta=1e-6, honest_reports=1000
    )
    assert stated["central"]["epsilon"] == unary.central_epsilon_of(DEVICES)


@pytest.mark.parametrize(
    ("experiment", "overrides", "said"),
    [
        (
            "genmoji_fragments",
            ["trust=central"],
            "under trust=central the noise on a count is Gaussian, no sum of two binomials; use trust=local",
        ),
        (
            "new_words",
            ["trust=secure_aggregation"],
            "under trust=secure_aggregation devices run distributed_unary_encoding, in whose tally no word can be "
            "searched for; words on nobody's list need trust=local or trust=shuffled",
        ),
        (
            "safari_costly",
            ["reports_per_day=2", "trust=secure_aggregation", "trust.noise_by=aggregators"],
            "a device may send 2 reports in this run, but under trust.noise_by=aggregators it can send one; use "
            "trust.noise_by=devices",
        ),
        (
            "emoji",
            ["trust=secure_aggregation", "trust.noise_by=aggregators", "exact_above=100"],
            "population is 4000, above exact_above=100, but where aggregators add the noise no tally can be drawn",
        ),
        ("emoji", ["trust=shuffled", "minimum_batch=1"], "hide nobody; expected at least 2: raise minimum_batch"),
        (
            "emoji",
            ["trust=secure_aggregation", "trust.colluding=99"],
            "100 reports with 99 colluding devices hide nobody; expected at least 101",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line_before_work_starts(tmp_path, files, experiment, overrides, said):
    if "trust.noise_by=aggregators" in overrides:
        pytest.importorskip("opendp")
    assert said in refused(files, tmp_path / "run", experiment, *overrides)


def test_more_reports_of_a_device_than_any_group_hides(tmp_path, files):
    """The deltas of 200 reports at epsilon 4 cannot be written as a number: local epsilons still add up, and say so."""
    many = ("days=200", "population=20", "minimum_batch=2", "segments=[en]", "exact_above=10")
    local = of(play(tmp_path / "local", files, "emoji", *many), "privacy.json")
    assert local["spent"]["run"] == 800.0 == row_of(local, "local")["epsilon"] == row_of(local, "shuffled")["epsilon"]
    assert "a device may send 200 reports in this run" in row_of(local, "secure_aggregation")["not_possible"]
    shuffled = of(play(tmp_path / "shuffled", files, "emoji", "trust=shuffled", *many), "privacy.json")
    assert shuffled["central"]["epsilon"] == 800.0
    line = refused(files, tmp_path / "sum", "emoji", "trust=secure_aggregation", *many)
    assert "too many to hide in one sum, each at epsilon 4" in line and "use trust=local" in line


def test_more_values_than_shares_can_carry(tmp_path, files):
    pytest.importorskip("opendp")
    path = tmp_path / "many.txt"
    path.write_text("\n".join(f"type{i}" for i in range((1 << 20) + 1)) + "\n", encoding="utf-8")
    with pytest.raises(
        PopulationError, match=r"health_types has 1048577 values and 'nothing to report': domain_size is"
    ):
        play(
            tmp_path / "run", files, "health_types", f"vocabulary.path={path}", "mechanism=local_hashing",
            "trust=secure_aggregation", "trust.noise_by=aggregators",
        )  # fmt: skip


# One ledger


@contextlib.contextmanager
def ledger_of(path: Path, devices: int = DEVICES):
    budget = Budget.of(lifetime=6.0, daily=6.0)
    with contextlib.closing(DeviceLedger(path, device_ids=DeviceNames(devices), budget=budget)) as ledger:
        ledger.verify()
        yield ledger


def spent(path: Path) -> np.ndarray:
    with ledger_of(path) as ledger:
        return ledger.spent(np.arange(DEVICES))


def shared(path: Path) -> list[str]:
    return [f"ledger={path}", "caps.lifetime=6", "caps.daily=6"]


def test_use_cases_over_the_same_devices_share_a_ledger(tmp_path, files):
    path = tmp_path / "ledger.db"
    first = play(
        tmp_path / "first", files, "safari_autoplay", "reports_per_day=1", "epsilon=4", "nulls=never",
        "population=2000", *shared(path),
    )  # fmt: skip
    once = spent(path)
    (sent,) = (int(row["reports_sent"]) for row in rows(first, "oracle/metrics.csv"))
    asked = np.arange(DEVICES) < 2000
    assert sent < 2000 and (once[asked] == 4 * MICRO).all(), "who had nothing to send pays like all others"
    assert not once[~asked].any()
    stated = of(first, "privacy.json")["ledger"]
    # What the devices have spent at most depends on what they hold, and is no part of what is released.
    assert stated["kept"] == "file"
    assert (
        "account is that of its number, 'device 0' and so on, the same in every use case"
        in (first / "privacy.md").read_text()
    )
    # 2,000 others join. Those who have paid for one report at 4 of 6 cannot pay for another: the second use case hears
    # from the others only.
    alone = play(tmp_path / "alone", files, "health_types", "epsilon=4", "caps.lifetime=6", "caps.daily=6")
    second = play(tmp_path / "second", files, "health_types", "epsilon=4", *shared(path))
    (whole,), (fewer,) = rows(alone), rows(second)
    (judged,) = rows(second, "oracle/metrics.csv")
    assert rows(alone, "oracle/metrics.csv")[0]["dropped_over_budget"] == "0"
    silent = int(judged["dropped_over_budget"])
    assert silent == 2000 == int(whole["reports"]) - int(fewer["reports"])
    assert 100 <= int(fewer["reports"]) < int(whole["reports"])
    assert judged["largest_spent"] == "4.0" and abs(float(judged["error_in_stderr"])) < 3
    both = spent(path)
    assert (both == 4 * MICRO).all() and len(both) == 2000 + int(fewer["reports"])  # each paid for one report
    # The statement counts the reports that came. Who was silent is on the devices' side.
    assert of(second, "privacy.json")["composition"]["reports_by_key"] == {"health_types": int(fewer["reports"])}
    public = {name: data for name, data in contents(second).items() if "oracle/" not in name}
    assert not [name for name, data in public.items() if b"over_budget" in data]
    # A third finds too few.
    with pytest.raises(BatchError) as stopped:
        play(tmp_path / "third", files, "health_types", "epsilon=4", "seed=1", "minimum_batch=1000", *shared(path))
    line = str(stopped.value)
    assert "no reports of use case 'health_types' arrived" in line and "\n" not in line
    assert told(lambda: play(tmp_path / "fourth", files, "genmoji_fragments", "minimum_batch=2000", *shared(path)))
    assert (spent(path) <= 6 * MICRO).all()
    # The same run again sends the same reports, which cost nothing more.
    before = spent(path)
    assert contents(play(tmp_path / "again", files, "health_types", "epsilon=4", *shared(path))) == contents(second)
    np.testing.assert_array_equal(spent(path), before)


def test_a_ledger_that_does_not_fit_is_refused(tmp_path, files, smoke):
    path = tmp_path / "ledger.db"
    play(tmp_path / "first", files, "health_types", *shared(path))
    with pytest.raises(LedgerError, match="caps are a promise to the devices and cannot change"):
        play(tmp_path / "caps", files, "health_types", f"ledger={path}", "caps.lifetime=8")
    assert not (tmp_path / "caps" / "segments").exists()


def test_one_ledger_for_the_main_job_and_every_use_case(tmp_path, files, smoke):
    """Devices come and go: each account is its device's own, and who has spent stays as poor as it is."""
    path = tmp_path / "ledger.db"
    small = ("rounds=1", "evaluation.sample=20", "candidates=20")
    play(tmp_path / "first", files, "health_types", "population=3000", "epsilon=4", *shared(path))
    smoke("mail", *small, *shared(path))
    with contextlib.closing(DeviceLedger.existing(path, ())) as ledger:
        assert ledger.accounts == 3900 and ledger.summary().charged == 3900
        ledger.verify()
    second = play(tmp_path / "second", files, "health_types", "population=4000", "epsilon=4", "seed=1", *shared(path))
    assert int(rows(second)[0]["reports"]) == 1000, "the new ones alone can pay"
    assert (spent(path) == 4 * MICRO).all()
    line = told(lambda: smoke("again", *small, *shared(path), "seed=1", "devices.seed=0"))
    assert line is not None and "round 0 has 0 devices that can report" in line


def test_a_run_is_continued_with_the_ledger_it_was_begun_with(tmp_path, files):
    path = tmp_path / "ledger.db"
    folder = play(tmp_path / "run", files, "emoji", *shared(path))
    whole = contents(folder)
    (folder / "segments" / "emoji.fr" / "segment.json").unlink()
    with pytest.raises(StoreError, match=r"other ledger \(\{'first_day': 0, 'kept': 'file'\}, now"):
        play(folder, files, "emoji", "caps.lifetime=6", "caps.daily=6")
    with pytest.raises(StoreError, match=r"reports of emoji.en, but its ledger has debits for 0; give the ledger"):
        play(folder, files, "emoji", *shared(tmp_path / "another.db"))
    assert contents(play(folder, files, "emoji", *shared(path))) == whole


KILLED = -int(signal.SIGKILL)


@pytest.mark.parametrize("trust", ["local", "secure_aggregation"])
def test_killed_around_debits_and_resumed_nobody_pays_twice(tmp_path, files, trust):
    driver = shared_driver()

    def command(name: str) -> list[str]:
        given = arguments(
            files, "emoji", *shared(tmp_path / f"{name}.db"), f"trust={trust}", "epsilon=1", "minimum_batch=500"
        )
        return ["run", *given, f"out={tmp_path / name}"]

    whole = driver.run(*command("whole"))
    assert whole.code == 0, whole.error
    # Before each change of an account that the first key makes, one life after the other; then around its files.
    changes = [["database insert into pages", number] for number in range(4)]
    files_of = [["flush .*/emoji.en/.*histogram.parquet"], ["mkdir .*/emoji.fr"], ["flush .*emoji.fr.*segment"]]
    paid = []
    for step in [*changes, *files_of]:
        killed = driver.run(*command("broken"), kill=step)
        assert killed.code == KILLED, (step, killed.code, killed.error)
        paid.append(int((spent(tmp_path / "broken.db") > 0).sum()))
    assert paid == sorted(paid) and paid[0] == 0 < paid[len(changes)] < paid[-1]
    resumed = driver.run(*command("broken"))
    assert resumed.code == 0, resumed.error
    assert driver.contents(tmp_path / "broken") == driver.contents(tmp_path / "whole")
    np.testing.assert_array_equal(spent(tmp_path / "broken.db"), spent(tmp_path / "whole.db"))
    assert (spent(tmp_path / "broken.db") <= MICRO).all() and spent(tmp_path / "broken.db").any()


# Folders


def test_the_folder_of_an_earlier_version_is_refused_in_one_line(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["_target_"] = "experiments.use_cases.job.UseCaseJob"
    config["frequency_oracle"] = config.pop("mechanism")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "privacy.json").unlink()
    before = contents(folder)
    line = told(lambda: play(folder, files, "emoji"))
    assert line is not None and "\n" not in line and len(line) < 400
    assert "experiments.use_cases.job.UseCaseJob -> experiments.count.job.CountJob" in line
    assert "of an earlier version" in line and line.endswith("choose another folder with out=DIR")
    assert contents(folder) == before
    # So is a run of the other kind.
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"_target_": "experiments.refine.job.RefineJob"}))
    assert "another kind" in str(told(lambda: play(folder, files, "emoji")))


class Killed(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("when", ["before its first file", "before the mark that it is complete"])
def test_killed_between_two_keys_all_files_agree_with_those_that_are_complete(tmp_path, files, monkeypatch, when):
    whole = contents(play(tmp_path / "whole", files, "safari_costly"))
    name = {"before its first file": "histogram.parquet", "before the mark that it is complete": "segment.json"}[when]
    write = RunFolder.write_bytes

    def dying(self, file, content):
        if file == f"segments/safari_memory/{name}":
            raise Killed
        write(self, file, content)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "write_bytes", dying)
        play(tmp_path / "run", files, "safari_costly")
    folder = tmp_path / "run"
    agrees(folder, ["safari_energy"], of(folder, "run.json")["keys"])
    played = []
    play_group = experiments.count.counting.play
    with monkeypatch.context() as patch:
        patch.setattr(
            experiments.count.counting,
            "play",
            lambda job, group, wanted, *rest: (
                played.extend(key.key for key in wanted) or play_group(job, group, wanted, *rest)
            ),
        )
        assert contents(play(folder, files, "safari_costly")) == whole
    assert played == ["safari_memory"]


def test_after_every_key_all_files_agree(tmp_path, files, monkeypatch):
    """As a look into the folder while the run plays finds them."""
    write_pages, seen = experiments.count.counting.write_pages, []

    def looking(folder):
        pages = write_pages(folder)
        keys = [key for key in of(folder, "run.json")["keys"] if (folder / "segments" / key / "segment.json").exists()]
        agrees(folder, keys, of(folder, "run.json")["keys"])
        seen.append(keys)
        return pages

    monkeypatch.setattr(experiments.count.counting, "write_pages", looking)
    play(tmp_path / "run", files, "emoji", "trust=shuffled")
    assert seen == [["emoji.en"], ["emoji.en", "emoji.fr"], ["emoji.en", "emoji.fr"]]


def agrees(folder: Path, complete: list[str], keys: dict) -> None:
    """metrics, statement and page are about the complete keys, with the reports that came; others as expected."""
    for name in ("metrics.csv", "oracle/metrics.csv"):
        assert [row["key"] for row in rows(folder, name)] == complete
    assert pq.read_table(folder / "metrics.parquet")["key"].to_pylist() == complete
    stated, came = of(folder, "privacy.json"), {row["key"]: int(row["reports"]) for row in rows(folder)}
    expected = {key: fact["expected_reports"] for key, fact in keys.items()}
    assert stated["composition"]["reports_by_key"] == {**expected, **came}
    assert stated["ledger"]["polls_paid"] == len(complete)
    text = (folder / "privacy.md").read_text()
    for key, reports in {**expected, **came}.items():
        assert f"| {key} | {reports} |" in text
    for name in ("report.html", "oracle/report.html"):
        page = (folder / name).read_text()
        assert re.findall(r'<section id="([^"]+)">', page) == complete
        assert all(f"<b>{reports:,}</b><span>reports</span>" in page for reports in came.values())
        assert stated["headline"] in page


def test_the_job_itself_is_refused_for_a_plan_over_its_caps(files):
    with pytest.raises(InstantiationException) as found:
        job_of(files, "emoji", "trust=secure_aggregation", "epsilon=4", "caps.lifetime=3")
    assert "but the daily cap is 3000000" in str(found.value.__cause__)


def test_minimum_counts_and_batches_are_of_devices(files):
    """Two devices that send two reports on each of 30 days are no crowd of 120."""
    overrides = ("reports_per_day=2", "days=30", "release.minimum_count=100", "minimum_batch=50")
    job = job_of(files, "health_types", *overrides)[0]
    assert job.rule.minimum_count == 100 * 60 and job.least_reports == 50 * 60
    assert job.release.minimum_count == 100, "as the user said it, and as the statement has it"
    once = job_of(files, "health_types", "release.minimum_count=100", "minimum_batch=50")[0]
    assert once.rule.minimum_count == 100 and once.least_reports == 50
