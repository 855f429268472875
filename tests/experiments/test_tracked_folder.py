"""The run folder's side of tracking: tables as Parquet, and the numbers and the key that a tracker is told."""

from __future__ import annotations

import csv
import json
import shutil

import pyarrow.parquet as pq
import pytest
import yaml

from experiments.folder.store import RunFolder
from experiments.metrics import metrics_table
from experiments.trackers.run_folder import read_rows, read_truth, tracked_run
from experiments.trackers.tracker import agrees, artifacts
from tests.experiments.tracked_runs import run_in
from tests.experiments.use_case_files import play, write_files


def test_a_key_belongs_to_one_folder_and_one_configuration(tmp_path):
    first, second = run_in(tmp_path / "a"), run_in(tmp_path / "b")
    keys = {tracked_run(folder, "made", config, None).key for folder in (first, second) for config in ("x: 1", "x: 2")}
    assert len(keys) == 4
    run = tracked_run(first, "made", "x: 1", None)
    assert run.key in keys
    assert "watch" not in run.parameters
    assert run.parameters["epsilon"] == yaml.safe_load((first / "config.yaml").read_text())["epsilon"]


def test_what_is_logged_is_compared_as_float32():
    rows = {0: {"a": 0.1, "b": 3.0}}
    assert agrees({0: {"a": 0.10000000149011612}}, rows)
    assert agrees({}, rows)
    assert not agrees({0: {"a": 0.1001}}, rows)
    assert not agrees({1: {"a": 0.1}}, rows)
    assert not agrees({0: {"c": 0.1}}, rows)


def test_metrics_in_parquet_are_those_in_csv(tmp_path):
    folder = RunFolder(tmp_path)
    rows = [{"round": 0, "share": 0.1, "reports": 300}, {"round": 1, "share": 2.0, "late": 1}, {"round": 2, "share": 3}]
    folder.write_csv("metrics.csv", rows)
    folder.write_table("metrics.parquet", metrics_table(rows))
    table = pq.read_table(tmp_path / "metrics.parquet")
    assert {name: str(kind) for name, kind in zip(table.column_names, table.schema.types, strict=True)} == {
        "round": "int64", "share": "double", "reports": "int64", "late": "int64",
    }  # fmt: skip
    cells = [{name: "" if value is None else float(value) for name, value in row.items()} for row in table.to_pylist()]
    text = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert cells == [{name: value if value == "" else float(value) for name, value in row.items()} for row in text]
    once = (tmp_path / "metrics.parquet").read_bytes()
    folder.write_table("metrics.parquet", metrics_table(rows))
    assert (tmp_path / "metrics.parquet").read_bytes() == once


@pytest.mark.parametrize("value", ["a text", True, [1]])
def test_only_numbers_get_into_a_table_of_metrics(tmp_path, value):
    rows = [{"round": 0, "note": value}]
    with pytest.raises(ValueError, match=r"metric note is a .*; expected a number"):
        metrics_table(rows, names=["key"])
    RunFolder(tmp_path).write_table(
        "metrics.parquet", metrics_table([{"key": "emoji.en", "reports": 3}], names=["key"])
    )
    assert pq.read_table(tmp_path / "metrics.parquet").to_pylist() == [{"key": "emoji.en", "reports": 3}]


def test_every_key_of_a_count_has_a_step_of_its_own(tmp_path):
    """Its place in run.json, whichever keys are complete: one that is logged keeps it."""
    folder = RunFolder(tmp_path)
    folder.write_json("run.json", {"keys": {"a.fr": {"place": 2}, "b.de": {"place": 1}, "c.en": {"place": 0}}})
    folder.write_csv("metrics.csv", [{"key": "c.en", "rule": "none", "reports": 3}, {"key": "a.fr", "reports": 4}])
    folder.write_csv("oracle/metrics.csv", [{"key": "c.en", "recall": 0.5}])
    assert read_rows(tmp_path) == {0: {"c.en/reports": 3}, 2: {"a.fr/reports": 4}}
    assert read_truth(tmp_path) == {0: {"oracle/c.en/recall": 0.5}}


def test_a_tracker_is_told_the_facts_of_a_count(tmp_path):
    folder = play(tmp_path / "run", write_files(tmp_path / "files"), "emoji", "days=2", "epsilon=2")
    run = tracked_run(folder, "emoji", (folder / "config.yaml").read_text(), None)
    told = {name: run.parameters[f"run.privacy.{name}"] for name in ("epsilon_per_report", "epsilon_per_device")}
    assert told == {"epsilon_per_report": 2, "epsilon_per_device": 4}
    assert run.parameters["run.keys.emoji.fr.place"] == 1
    assert run.parameters["run.devices.count"] == 4000
    assert run.parameters["run.privacy.central"] is None
    assert run.note.startswith("epsilon 2 per report")
    rows = read_rows(folder)
    assert sorted(rows) == [0, 1]
    assert "emoji.en/released" in rows[0] and "oracle/emoji.en/recall" in read_truth(folder)[0]
    assert not any("emoji.en" in name for name in rows[1])


def test_a_tracker_is_told_no_number_that_rests_on_the_devices_data(tmp_path):
    """Under oracle/ or in run.json: how many are expected to answer, and what earlier versions counted there."""
    folder = run_in(tmp_path / "run")
    path = folder / "run.json"
    facts = json.loads(path.read_text())
    facts["devices"] |= {"items": 1234567}
    facts["keys"] = {"a.en": {"place": 0, "devices": 900, "expected_reports": 7654321, "values_left_out": 2345671}}
    path.write_text(json.dumps(facts))
    told = {oracle: tracked_run(folder, "made", "x: 1", None, oracle=oracle) for oracle in (False, True)}
    hidden = {"run.devices.items", "run.keys.a.en.expected_reports", "run.keys.a.en.values_left_out"}
    assert not hidden & set(told[False].parameters) and hidden <= set(told[True].parameters)
    assert told[False].parameters["run.keys.a.en.devices"] == 900
    assert told[False].key != told[True].key and told[True].experiment == "made.oracle"
    assert "oracle" not in " ".join([told[False].note, told[False].experiment, *told[False].parameters])


def test_a_run_folder_without_its_truth_is_tracked_alike(tmp_path):
    """What a tracker is told does not depend on anything under oracle/; with tracker.oracle=true it does."""
    folder = run_in(tmp_path / "run")

    def told() -> tuple[object, ...]:
        return tracked_run(folder, "made", "x: 1", None), read_rows(folder), [p.read_bytes() for p in artifacts(folder)]

    before, known = told(), read_truth(folder)
    run_in(folder, lift=0.1)
    assert told() == before and read_truth(folder) != known
    shutil.rmtree(folder / "oracle")
    assert told() == before


def test_rows_before_the_first_round(tmp_path):
    folder = run_in(tmp_path / "run")
    (folder / "metrics.csv").unlink()
    assert read_rows(folder) == {} == read_truth(folder)
