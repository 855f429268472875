"""Reading Hugging Face folders that the `datasets` package itself wrote."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from device_poll.sources.items import Fields, SourceError
from device_poll.sources.read import read_items

ROWS = {
    "message": ["the third note", "the first note", "short", "the second note"],
    "owner": ["ann", "bob", "bob", "ann"],
    "at": ["2024-03-03", "2024-01-01", "2024-01-01", "2024-02-02"],
}
FIELDS = Fields(text="message", user="owner", time="at")


def test_a_saved_dataset(tmp_path: Path) -> None:
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "saved", num_shards=2)
    items = read_items(tmp_path / "saved", FIELDS)
    assert items.texts == ("the first note", "the second note", "the third note")
    assert items.users == ("bob", "ann", "ann")
    assert items.skipped == {"short": 1}


def test_a_saved_dataset_keeps_a_selection_and_its_order(tmp_path: Path) -> None:
    datasets.Dataset.from_dict(ROWS).select([3, 1]).save_to_disk(tmp_path / "saved")
    items = read_items(tmp_path / "saved", Fields(text="message", user="owner"))
    assert items.texts == ("the second note", "the first note")


def test_a_saved_dataset_dict_reads_every_split(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_dict(ROWS)
    splits = datasets.DatasetDict({"train": whole.select([0, 1]), "test": whole.select([2, 3])})
    splits.save_to_disk(tmp_path / "saved")
    assert len(read_items(tmp_path / "saved", FIELDS)) == 3
    assert read_items(tmp_path / "saved" / "test", FIELDS).texts == ("the second note",)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_hub_layout(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("---\nconfigs: []\n---\n")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "old.parquet").write_bytes(b"left over")
    whole = datasets.Dataset.from_dict(ROWS)
    for number, part in enumerate((whole.select([0, 1]), whole.select([2, 3]))):
        path = tmp_path / "data" / f"train-0000{number}-of-00002.{suffix}"
        {"parquet": part.to_parquet, "jsonl": part.to_json, "csv": part.to_csv}[suffix](path)
    items = read_items(tmp_path, FIELDS)
    assert items.texts == ("the first note", "the second note", "the third note")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "saved")
    with pytest.raises(SourceError, match=r"no field 'text'; it has: message, owner, at"):
        read_items(tmp_path / "saved")


def test_files_of_two_kinds(tmp_path: Path) -> None:
    datasets.Dataset.from_dict(ROWS).to_parquet(tmp_path / "a.parquet")
    datasets.Dataset.from_dict(ROWS).to_csv(tmp_path / "b.csv")
    with pytest.raises(SourceError, match=r"1 \.parquet, 1 \.csv; expected one kind"):
        read_items(tmp_path, FIELDS)


def test_broken_folders(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    datasets.Dataset.from_dict(ROWS).save_to_disk(saved)
    state = json.loads((saved / "state.json").read_text())
    arrow = saved / state["_data_files"][0]["filename"]
    whole = arrow.read_bytes()
    arrow.write_bytes(whole[:-400])
    with pytest.raises(SourceError, match=r"not a complete Arrow stream"):
        read_items(saved, FIELDS)
    arrow.unlink()
    with pytest.raises(SourceError, match=r"does not exist"):
        read_items(saved, FIELDS)
    for broken in ('{"_data_files": [{"filename": "../other.arrow"}]}', "{", "[]", '{"_data_files": 3}'):
        (saved / "state.json").write_text(broken)
        with pytest.raises(SourceError, match=r"no list '_.*files' of names"):
            read_items(saved, FIELDS)
    (saved / "state.json").write_text(json.dumps(state | {"_indices_data_files": [{"filename": "indices.arrow"}]}))
    with pytest.raises(SourceError, match=r"keeps its row order in an index file"):
        read_items(saved, FIELDS)
