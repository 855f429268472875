"""The run folder: whole files or none, one process at a time, one configuration, and damage that is named."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import experiments
from experiments.folder.damage import mending
from experiments.folder.layout import Round
from experiments.folder.store import RunFolder, StoreError
from synth.corpus import Corpus, Example

CONFIG = "name: small\nepsilon: 4.0\nmechanism:\n  bits: 3\narms: []\n"


def _round(run: RunFolder, number: int):
    return run.path / Round(number).place


def corpus(number: int) -> Corpus:
    return Corpus(
        tuple(
            Example(text=f"text {number} {i}", subject="s", attributes={"topic": "t"}, operator="seed", round=number,
                    model="m", prompt="p")
            for i in range(4)
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with RunFolder(tmp_path_factory.mktemp("made") / "run").opened(CONFIG) as folder:
        folder.write_json("run.json", {"seed": 0})
        folder.write_json(
            "privacy.json", {"run": {"configuration_sha256": hashlib.sha256(CONFIG.encode()).hexdigest()}}
        )
        folder.write_json("seed_corpus.json", {"kept": 4})
        folder.write_json("oracle/devices.json", {"items": 7})
        folder.write_json("audit.json", {"bound": 1})
        write_rounds(folder, 2)
        write_rounds(RunFolder(folder.path / "oracle" / "arms" / "random_selection"), 1)
    return folder.path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> RunFolder:
    """A folder with two complete rounds, the start of a third, and an arm with one."""
    return RunFolder(Path(shutil.copytree(made, tmp_path / "run")))


def write_rounds(folder: RunFolder, complete: int) -> None:
    folder.write_table("rounds/000/corpus.parquet", corpus(0).to_table())
    for number in range(complete):
        place = f"rounds/{number:03d}"
        folder.write_array(f"{place}/embeddings.npy", np.arange(12.0).reshape(4, 3))
        folder.write_arrays(f"{place}/tally.npz", {"sums": np.arange(400), "reports": np.int64(7)})
        folder.write_table(f"{place}/estimate.parquet", pa.table({"count": np.arange(4.0)}))
        folder.write_json(f"{place}/metrics.json", {"round": number})
        folder.write_array(f"{place}/oracle/votes.npy", np.arange(5))
        folder.write_json(f"{place}/oracle/metrics.json", {"round": number})
        folder.write_csv(f"{place}/oracle/shares.csv", [{"label": "a", "known": 0.5}])
        folder.write_table(f"rounds/{number + 1:03d}/corpus.parquet", corpus(number + 1).to_table())
        folder.write_array(f"{place}/next_weights.npy", np.full(4, 0.25))
        folder.write_json(f"{place}/round.json", {"round": number})


def refused(folder: RunFolder, config: str = CONFIG) -> str:
    """The one line with which the folder is refused."""
    with pytest.raises(StoreError) as caught, folder.opened(config):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def accepted(folder: RunFolder, config: str = CONFIG) -> bool:
    with folder.opened(config):
        return True


# Whole files or none


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["mkdir", "open", "fsync", "replace"])
def test_a_write_that_fails_anywhere_keeps_what_was_there(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    owner = Path if call == "mkdir" else os
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, fail)
        with pytest.raises(StoreError) as caught:
            run.write_json("run.json", {"seed": 1})
    assert re.fullmatch(
        rf"cannot write {run.path}/run\.json \({os.strerror(number)}\); what is complete is kept: free space or allow "
        r"writing, then run the same command again",
        str(caught.value),
    )
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_write_into_a_folder_that_is_a_file(run: RunFolder) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*run\.json/more\.json"):
        run.write_json("run.json/more.json", {})


def test_what_a_killed_run_left_is_swept(run: RunFolder) -> None:
    for place in ("", "rounds/001", "oracle/arms/random_selection/rounds/000"):
        (run.path / place / ".writing-metrics.json").write_text("{")
    assert accepted(run)
    assert not list(run.path.rglob(".writing-*"))


def test_killed_before_the_configuration_was_written(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".writing-config.yaml").write_text("name")
    assert accepted(RunFolder(tmp_path / "run"))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_nothing_in_a_folder_of_something_else_is_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    for name in ("chapter", "thesis/.writing-chapter"):
        (tmp_path / name).write_text("mine")
    assert "is not empty and not a run folder" in refused(RunFolder(tmp_path))
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".writing-chapter", "chapter", "thesis"]


# One process


def test_a_folder_in_use_is_refused_and_left_alone(run: RunFolder) -> None:
    half = run.path / ".writing-metrics.csv"
    with run.opened(CONFIG):
        half.write_text("round")
        assert refused(run) == f"another process is using the run folder {run.path}; wait for it or use out=DIR"
        assert half.exists()
    assert accepted(run)


def test_a_file_system_without_locks(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    assert "cannot be locked (No locks available); choose one on a local disk" in refused(run)


# One configuration


@pytest.mark.parametrize(
    ("now", "shown"),
    [
        (CONFIG.replace("4.0", "2.0"), "(epsilon: 4.0 -> 2.0)"),
        (CONFIG.replace("bits: 3", "bits: 4"), "(mechanism.bits: 3 -> 4)"),
        (CONFIG.replace("[]", "[no_privacy, random_selection]"), "(arms: [] -> [no_privacy, random_selection])"),
        (CONFIG.replace("[]", "\n- no_privacy"), "(arms: [] -> [no_privacy])"),
        (CONFIG + "caps:\n  daily: null\n", "(caps.daily: (absent) -> null)"),
        (CONFIG.replace("epsilon: 4.0\n", ""), "(epsilon: 4.0 -> (absent))"),
        (CONFIG.replace("4.0", "2.0").replace("small", "'large'"), "(name: small -> large; epsilon: 4.0 -> 2.0)"),
        (
            CONFIG.replace("  bits: 3", "- {bits: 3}"),
            "(mechanism.bits: 3 -> (absent); mechanism.0.bits: (absent) -> 3)",
        ),
        (CONFIG.replace("\n  bits: 3", " {}"), "(mechanism.bits: 3 -> (absent); mechanism: (absent) -> {})"),
        ("epsilon: 4.0\nname: small\nmechanism:\n  bits: 3\narms: []\n", "(the same values in another order)"),
    ],
)
def test_another_configuration_is_refused_with_the_difference(run: RunFolder, now: str, shown: str) -> None:
    assert refused(run, now) == (
        f"{run.path} holds a run with another configuration {shown}; choose another with out=DIR"
    )
    assert accepted(run)


@pytest.mark.parametrize("content", [b"", b"name: small\nepsilon: 4", b"\xff\xfe\x00", b"a: [", b"- 1\n"])
def test_a_damaged_configuration_is_restored_from_the_command(run: RunFolder, content: bytes) -> None:
    path = run.path / "config.yaml"
    path.write_bytes(content)
    assert refused(run) == (
        f"{path} cannot be read (damaged: not what the run was begun with); delete it, then give the run's command "
        "again"
    )
    path.unlink()
    # Another command cannot adopt the folder.
    assert "not a run folder" in refused(run, CONFIG.replace("4.0", "2.0"))
    assert accepted(run)
    assert path.read_text() == CONFIG


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a: [", b"- 1\n"])
def test_a_damaged_configuration_of_a_run_that_has_no_statement_yet(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path / "run")
    assert accepted(folder)
    (folder.path / "config.yaml").write_bytes(content)
    assert "config.yaml cannot be read (damaged); restore it, or choose another" in refused(folder)


# Damaged files

KEPT = (
    "corpus.parquet", "embeddings.npy", "tally.npz", "estimate.parquet", "metrics.json", "next_weights.npy",
    "round.json", "oracle/votes.npy", "oracle/metrics.json", "oracle/shares.csv",
)  # fmt: skip
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "garbage": lambda content: bytes(np.random.default_rng(0).integers(128, 256, len(content), dtype=np.uint8)),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", KEPT)
def test_a_damaged_file_of_a_complete_round_is_named(run: RunFolder, name: str, how: str) -> None:
    assert accepted(run)
    path = _round(run, 1) / name
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    assert re.fullmatch(
        rf"{path} cannot be read \(damaged: [\w ]+\); delete the folder {_round(run, 1)}, then give the run's command "
        "again",
        refused(run),
    )
    # That takes back the round before it too, which wrote the corpus of this one.
    shutil.rmtree(_round(run, 1))
    assert accepted(run)
    assert run.completed_rounds() == 0


@pytest.mark.parametrize("name", [name for name in KEPT if name != "oracle/shares.csv"])
def test_a_missing_file_of_a_complete_round_is_an_error_or_plays_it_again(run: RunFolder, name: str) -> None:
    (_round(run, 1) / name).unlink()
    if name == "round.json":
        assert accepted(run) and run.completed_rounds() == 1
    elif name == "corpus.parquet":
        assert accepted(run) and run.completed_rounds() == 0
    else:
        assert f"{_round(run, 1) / name} cannot be read (damaged: FileNotFoundError)" in refused(run)


@pytest.mark.parametrize(("name", "position"), [("corpus.parquet", 284), ("estimate.parquet", 60), ("tally.npz", 400)])
def test_a_single_bit_is_noticed_where_a_file_has_checksums(run: RunFolder, name: str, position: int) -> None:
    path = _round(run, 0) / name
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert f"{path} cannot be read (damaged: " in refused(run)


def test_the_corpus_that_the_next_round_starts_from(run: RunFolder) -> None:
    path = _round(run, 2) / "corpus.parquet"
    path.write_bytes(path.read_bytes()[:100])
    assert f"{path} cannot be read (damaged: " in refused(run)
    shutil.rmtree(_round(run, 2))
    assert accepted(run)
    assert run.completed_rounds() == 1


def test_rounds_behind_a_gap_are_not_taken_for_complete(run: RunFolder) -> None:
    (_round(run, 0) / "round.json").unlink()
    assert accepted(run)
    assert run.completed_rounds() == 0
    assert not (_round(run, 1) / "round.json").exists()
    assert (_round(run, 1) / "tally.npz").exists()


def test_what_an_unfinished_round_left_is_written_again_anyway(run: RunFolder) -> None:
    (_round(run, 2) / "embeddings.npy").write_bytes(b"")
    assert accepted(run)
    assert run.completed_rounds() == 2


@pytest.mark.parametrize(
    ("name", "todo"),
    [
        ("run.json", "delete it, then give the run's command again"),
        ("oracle/devices.json", "delete it, then give the run's command again"),
        ("audit.json", "delete it, then give the run's command again"),
        ("seed_corpus.json", "delete the folder {run}/rounds/000, then give the run's command again"),
        (
            "oracle/arms/random_selection/rounds/000/tally.npz",
            "delete the folder {run}/oracle/arms/random_selection/rounds/000, then give the run's command again",
        ),
    ],
)
def test_other_files_that_are_kept(run: RunFolder, name: str, todo: str) -> None:
    (run.path / name).write_bytes(b"{")
    assert refused(run).endswith(f"); {todo.format(run=run.path)}")
    place = run.path / name
    shutil.rmtree(place.parent) if "arms" in name else place.unlink()
    assert accepted(run)


def test_a_run_that_lies_in_a_folder_called_rounds(run: RunFolder, tmp_path: Path) -> None:
    moved = RunFolder(run.path.rename(tmp_path / "rounds"))
    (moved.path / "run.json").write_text("{")
    assert "delete it" in refused(moved)
    (moved.path / "run.json").unlink()
    (_round(moved, 0) / "round.json").write_text("{")
    assert f"delete the folder {tmp_path}/rounds/rounds/000," in refused(moved)


@pytest.mark.parametrize(
    ("name", "deleted"),
    [
        ("config.yaml", "it"),
        ("privacy.json", "it"),
        ("metrics.csv", "it"),
        ("oracle/metrics.csv", "it"),
        ("oracle/arms/random_selection/metrics.csv", "it"),
        ("rounds/001/oracle/votes.npy", "the folder {run}/rounds/001"),
        ("oracle/arms/a/rounds/002/tally.npz", "the folder {run}/oracle/arms/a/rounds/002"),
        ("segments/emoji.en/oracle/truth.parquet", "the folder {run}/segments/emoji.en"),
        ("differences/emoji.en-fr.parquet", "it"),
    ],
)
def test_what_to_do_goes_by_the_kind_of_file(tmp_path: Path, name: str, deleted: str) -> None:
    RunFolder(tmp_path).write_text(name, "{")
    assert mending(tmp_path, name) == f"delete {deleted.format(run=tmp_path)}, then give the run's command again"


def test_a_missing_file_need_not_be_deleted_but_its_round_must(tmp_path: Path) -> None:
    assert mending(tmp_path, "run.json") == "give the run's command again"
    assert mending(tmp_path, "rounds/001/tally.npz").startswith(f"delete the folder {tmp_path}/rounds/001, then")


# A run that is there


def test_what_is_added_to_a_run_is_added_under_its_lock(run: RunFolder) -> None:
    (run.path / ".writing-audit.json").write_text("{")
    with run.reopened() as folder, pytest.raises(StoreError, match="another process is using"), folder.reopened():
        pass
    assert not (run.path / ".writing-audit.json").exists()


def test_nothing_is_added_to_a_folder_that_is_no_run(run: RunFolder, tmp_path: Path) -> None:
    def error(folder: RunFolder) -> str:
        with pytest.raises(StoreError) as caught, folder.reopened():
            pass
        return str(caught.value)

    assert error(RunFolder(tmp_path / "none")).endswith("; give the run's command again")
    assert not (tmp_path / "none").exists()
    with (run.path / "config.yaml").open("a") as file:
        file.write("# changed\n")
    assert "privacy.json is no statement about" in error(run)
    (run.path / "config.yaml").write_bytes(b"\xff")
    assert "config.yaml cannot be read (damaged: UnicodeDecodeError); delete it" in error(run)


# Its name


def test_where_a_run_is_put_is_said_in_one_place() -> None:
    place = {"runs": "runs", "name": "town", "seed": 3, "digest": "1a2b3c4d"}
    assert RunFolder.of(out=None, **place).path == Path("runs/town/seed3-1a2b3c4d")
    assert RunFolder.of(out="here", **place).path == Path("here")
    (root,) = experiments.__path__
    sources = {path.name: path.read_text(encoding="utf-8") for path in Path(root).rglob("*.py")}
    assert [name for name, text in sources.items() if re.search(r"seed\{[\w.]+\}-\{", text)] == ["store.py"]
