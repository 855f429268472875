"""The run folder's side of tracking: tables as Parquet, and the numbers and the key that a tracker is told."""

from __future__ import annotations

import csv

import pyarrow.parquet as pq
import pytest
import yaml

from experiments.store import RunFolder
from experiments.trackers.run_folder import read_rows, tracked_run, write_parquet
from experiments.trackers.tracker import agrees
from tests.experiments.tracked_runs import run_in


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
    write_parquet(folder, "metrics.parquet", rows)
    table = pq.read_table(tmp_path / "metrics.parquet")
    assert {name: str(kind) for name, kind in zip(table.column_names, table.schema.types, strict=True)} == {
        "round": "int64", "share": "double", "reports": "int64", "late": "int64",
    }  # fmt: skip
    cells = [{name: "" if value is None else float(value) for name, value in row.items()} for row in table.to_pylist()]
    text = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert cells == [{name: value if value == "" else float(value) for name, value in row.items()} for row in text]
    once = (tmp_path / "metrics.parquet").read_bytes()
    write_parquet(folder, "metrics.parquet", rows)
    assert (tmp_path / "metrics.parquet").read_bytes() == once


@pytest.mark.parametrize("value", ["a text", True, [1]])
def test_only_numbers_get_into_a_table_of_metrics(tmp_path, value):
    rows = [{"round": 0, "note": value}]
    with pytest.raises(ValueError, match=r"metric note is a .*; expected a number"):
        write_parquet(RunFolder(tmp_path), "metrics.parquet", rows, names=["key"])
    write_parquet(RunFolder(tmp_path), "metrics.parquet", [{"key": "emoji.en", "reports": 3}], names=["key"])
    assert pq.read_table(tmp_path / "metrics.parquet").to_pylist() == [{"key": "emoji.en", "reports": 3}]


def test_rows_of_use_cases_are_named_after_their_keys(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_csv("metrics.csv", [{"key": "emoji.en", "rule": "none", "reports": 3}, {"key": "words", "reports": 4}])
    folder.write_csv("oracle/metrics.csv", [{"key": "emoji.en", "recall": 0.5}])
    assert read_rows(tmp_path) == {0: {"emoji.en/reports": 3, "words/reports": 4, "oracle/emoji.en/recall": 0.5}}


def test_rows_before_the_first_round(tmp_path):
    folder = run_in(tmp_path / "run")
    (folder / "metrics.csv").unlink()
    assert read_rows(folder) == {}
