"""The main job end to end on fakes: what it leaves, that it repeats, that it resumes, that nothing private leaks."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import experiments.run
from device_poll.devices import TownDevices
from device_poll.town.build import build_town
from experiments.compare.load import load_rounds, load_run
from experiments.folder.store import StoreError
from synth.corpus import Corpus
from tests.experiments.conftest import contents


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_run_folder_holds_what_the_design_says(smoke):
    screen = io.StringIO()
    folder = smoke("run", "watch=resident-000007", console=Console(file=screen, width=150))
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "run.json", "metrics.csv", "metrics.parquet", "timings.csv", "seed_corpus.json", "rounds",
        "oracle", "dataset", "report.html", "privacy.json", "privacy.md",
    }  # fmt: skip
    for number in range(3):
        place = folder / "rounds" / f"{number:03d}"
        assert {path.name for path in place.iterdir()} == {
            "pool.parquet", "corpus.parquet", "embeddings.npy", "tally.npz", "estimate.parquet", "metrics.json",
            "next_weights.npy", "round.json", "oracle",
        }  # fmt: skip
        estimate = pq.read_table(place / "estimate.parquet")
        assert estimate.num_rows == len(Corpus.from_parquet(place / "corpus.parquet")) == 40
    public, truth = rows(folder / "metrics.csv"), rows(folder / "oracle" / "metrics.csv")
    assert [row["round"] for row in public] == [row["round"] for row in truth] == ["0", "1", "2", "3"]
    assert {"none_share", "over_threshold", "self_similarity", "bytes_down", "bytes_up", "stderr"} <= set(public[0])
    assert (public[0]["report_bits"], public[0]["bytes_up"]) == ("41", "6")
    assert {"rank_correlation", "similarity", "recall", "fid_pca16", "vote_mass_kept"} <= set(truth[0])
    assert not set(public[0]) & set(truth[0]) - {"round"}

    stages = ["encode slate", "poll", "tally", "vary", "evaluate"]  # one after the other: they add up to the round
    timed = [(row["round"], row["stage"]) for row in rows(folder / "timings.csv") if row["stage"].startswith("run: ")]
    played = [(str(r), f"run: {stage}") for r in range(3) for stage in stages]
    assert timed == [("0", "run: seed corpus"), *played, ("3", "run: evaluate")]
    told = (folder.parent / f"{folder.name}.log").read_text()
    assert "run: kept 200 of 200 texts (100%); dropped: none" in told and "run, round 2: kept" in told

    run = json.loads((folder / "run.json").read_text())
    assert run["generator_repeats"] == {"repeats": True, "why_not": None}
    assert run["ledger"] == {"kept": "memory", "first_day": 0}
    assert run["privacy"]["epsilon_per_device"] == 4.0
    assert run["resolution"]["reports_per_round"] == 300
    shown = screen.getvalue()
    # 4 n e^eps / (e^eps - 1)^2 at n = 300, eps = 4 is 4.78^2; 300 / 40 votes a candidate
    assert "standard error of 4.8 devices" in shown
    assert "mean is 7.5 votes" in shown
    assert str(folder) in shown


def test_a_terminal_shows_what_runs_now(smoke):
    screen = io.StringIO()
    smoke("run", "rounds=1", "evaluation.sample=20", console=Console(file=screen, width=150, force_terminal=True))
    shown = [
        screen.getvalue().find(f"run, round 0: {doing}") for doing in ("encoding", "polling", "counting", "varying")
    ]
    assert -1 < shown[0] < shown[1] < shown[2] < shown[3] < screen.getvalue().find("run, round 0: evaluating")
    assert "900/900" in screen.getvalue(), "devices"
    assert "40/40" in screen.getvalue(), "texts"


def test_estimates_are_near_the_truth_and_the_claimed_errors_are_right(smoke):
    folder = smoke("run", "devices.devices=6000")
    for row in rows(folder / "oracle" / "metrics.csv")[:3]:
        # 40 squared standard normals average 1 with standard error sqrt(2 / 40); 5 of those.
        assert abs(float(row["error_in_stderr"]) ** 2 - 1) < 5 * np.sqrt(2 / 40)
        assert float(row["rank_correlation"]) > 0.3


def test_same_seed_same_bytes_other_seed_other_bytes(smoke):
    first, second = contents(smoke("a")), contents(smoke("b", "workers=3"))
    assert first == second
    assert contents(smoke("c", "seed=1"))["rounds/000/tally.npz"] != first["rounds/000/tally.npz"]


class Killed(BaseException):
    """Stands for a kill at this point: nothing after it runs."""


# Every third of them with each change, the others in the soak.
@pytest.mark.parametrize("kill_at", [pytest.param(n, marks=[pytest.mark.soak] * (n % 3 != 2)) for n in range(2, 60, 7)])
def test_a_killed_run_resumes_to_the_same_bytes(smoke, monkeypatch, kill_at):
    """Killed after any number of written files, and again, a run ends bit-identical to an uninterrupted one."""
    whole = contents(smoke("whole", "arms=[random_selection]", "watch=resident-000007"))
    write, count = experiments.run.RunFolder.write_bytes, 0

    def dying(self, name, content):
        nonlocal count
        count += 1
        if count in (kill_at, kill_at + 9):
            # A kill in the middle of a write leaves a scratch file behind.
            scratch = self.path / name
            scratch.parent.mkdir(parents=True, exist_ok=True)
            scratch.with_name(f".writing-{scratch.name}").write_bytes(content[: len(content) // 2])
            raise Killed
        write(self, name, content)

    monkeypatch.setattr(experiments.run.RunFolder, "write_bytes", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            smoke("broken", "arms=[random_selection]", "watch=resident-000007")
    assert contents(smoke("broken", "arms=[random_selection]", "watch=resident-000007")) == whole


def test_kill_9_and_resume(smoke, tmp_path):
    """The same with a real process and a real SIGKILL after the first complete round."""
    whole = contents(smoke("whole"))
    command = [
        sys.executable, "-m", "experiments", "run", "experiment=smoke", "devices.devices=900",
        f"out={tmp_path / 'killed'}", f"cache={tmp_path / 'cache'}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mark = tmp_path / "killed" / "rounds" / "000" / "round.json"
    deadline = time.monotonic() + 120
    while not mark.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert mark.exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "killed") == whole


def test_arms_stay_under_oracle_and_change_nothing_else(smoke, unbound_noise):
    plain = contents(smoke("plain"))
    folder = smoke("arms", "arms=[no_privacy,random_selection]")
    with_arms = {name: content for name, content in contents(folder).items() if not name.startswith("oracle/arms/")}
    shows_arms = {
        "config.yaml", "privacy.json", "privacy.md", "oracle/rounds.png", "report.html", "oracle/report.html",
        "dataset/README.md",  # names the configuration's digest
    }  # fmt: skip
    same = set(plain) - shows_arms
    assert {name: with_arms[name] for name in same} == {name: plain[name] for name in same}
    arm = folder / "oracle" / "arms" / "no_privacy" / "rounds" / "000"
    votes = np.load(arm / "oracle" / "votes.npy")
    assert (np.load(arm / "tally.npz")["sums"] == votes).all()
    floor = rows(folder / "oracle" / "arms" / "random_selection" / "metrics.csv")
    assert 0 < int(floor[0]["winners"]) < 20, "what two random slates of 40 of 240 texts have in common"


def test_truth_and_private_text_stay_under_oracle(smoke, tmp_path):
    """No word sequence of a device's mail and no true count is anywhere but under oracle/."""
    folder = smoke("run", "watch=resident-000007")
    town = build_town(900, 2, 0)
    phrases = {" ".join(text.split()[3:8]) for text in town.texts}

    def leaks(name: str, data: bytes) -> bool:
        # Parquet is compressed: its text is only seen by reading it.
        text = str(pq.read_table(io.BytesIO(data)).to_pylist()) if name.endswith(".parquet") else data.decode("latin-1")
        flat = " ".join(text.split())
        return any(phrase in flat for phrase in phrases)

    outside = {name: data for name, data in contents(folder).items() if "oracle/" not in name}
    everywhere = contents(folder) | {f"cache/{n}": d for n, d in contents(tmp_path / "cache").items()}
    everywhere["log"] = (tmp_path / "run.log").read_bytes()
    assert [name for name, data in everywhere.items() if leaks(name, data)] == []
    # Negative control: the same search finds a mail in a plain file and in a Parquet file.
    planted = io.BytesIO()
    pq.write_table(pa.table({"text": [town.texts[0]]}), planted)
    assert leaks("planted.parquet", planted.getvalue())
    assert leaks("planted.log", town.texts[0].encode())
    for name, data in outside.items():
        if not name.endswith((".npy", ".npz", ".parquet")):
            assert b"resident-" not in data or name == "config.yaml", name
    truth = np.load(folder / "rounds" / "000" / "oracle" / "votes.npy")
    assert (np.load(folder / "rounds" / "000" / "tally.npz")["sums"] != truth).any()


def test_how_many_items_the_devices_hold_is_noise_free_truth(smoke):
    """It stands under oracle/ alone; the terminal says that only a simulation knows it."""
    screen = io.StringIO()
    folder = smoke(
        "run", "devices.devices=907", "rounds=1", "evaluation.sample=20", console=Console(file=screen, width=150)
    )
    items = json.loads((folder / "oracle" / "devices.json").read_text())["items"]
    assert items == 2 * 907
    assert "907 devices with 1,814 items* (unit: user)" in screen.getvalue()
    assert "(* noise-free truth, known only to the simulation)" in screen.getvalue()
    everywhere = contents(folder) | {"log": (folder.parent / "run.log").read_bytes()}

    def told(name: str) -> bool:
        return re.search(r"(?<![\w.])1,?814(?![\w.])", everywhere[name].decode("latin-1")) is not None

    texts = [name for name in everywhere if not name.endswith((".npy", ".npz", ".parquet", ".png"))]
    assert {"run.json", "report.html", "privacy.json", "log", "dataset/README.md", "oracle/report.html"} <= set(texts)
    assert [name for name in texts if told(name)] == ["oracle/devices.json"]


@pytest.mark.parametrize("change", ["fewer", "other texts", "other owners"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_run_notices_that_its_devices_hold_other_items(smoke, monkeypatch, change, finished):
    """A finished run, too: its numbers are about what devices held. Nothing is embedded or written before."""
    load = TownDevices.load
    folder = smoke("run", "rounds=1", "evaluation.sample=20")
    if not finished:
        shutil.rmtree(folder / "rounds" / "001")
    whole = contents(folder)

    def changed(self):
        items = load(self)
        if change == "fewer":
            return replace(items, texts=items.texts[:-1], users=items.users[:-1], labels=items.labels[:-1])
        if change == "other texts":
            return replace(items, texts=(*items.texts[:-1], "a text that was not there"))
        return replace(items, users=(*items.users[1:], items.users[0]))

    with monkeypatch.context() as patch:
        patch.setattr(TownDevices, "load", changed)
        with pytest.raises(StoreError, match=r"holds a run on devices that held something else: .* out=DIR"):
            smoke("run", "rounds=1", "evaluation.sample=20")
    # A round whose next corpus is gone loses its mark as the folder is opened.
    marks = set() if finished else {"rounds/000/round.json"}
    assert contents(folder) == {name: content for name, content in whole.items() if name not in marks}
    log = (folder.parent / "run.log").read_text()
    assert "something else" in log and "1800" not in log and "1799" not in log
    smoke("run", "rounds=1", "evaluation.sample=20")


def test_a_run_of_an_earlier_version_without_a_fingerprint_goes_on(smoke):
    folder = smoke("run", "rounds=1", "evaluation.sample=20")
    (folder / "oracle" / "devices.json").write_text('{"items": 1800}')
    smoke("run", "rounds=1", "evaluation.sample=20")


def test_dataset_is_released_without_oracle(smoke):
    folder = smoke("run")
    train, test = (
        pq.read_table(folder / "dataset" / "data" / f"{split}-00000-of-00001.parquet") for split in ("train", "test")
    )
    assert train.num_rows + test.num_rows == 40
    total = sum(train["weight"].to_pylist()) + sum(test["weight"].to_pylist())
    assert total == pytest.approx(1.0)
    assert not set(train["family"].to_pylist()) & set(test["family"].to_pylist()) - {""}
    card = (folder / "dataset" / "README.md").read_text()
    assert "epsilon = 4" in card
    assert "similarity" not in card.split("## Columns")[0]


def test_other_configuration_on_a_run_folder_is_refused(smoke):
    smoke("run")
    with pytest.raises(StoreError, match=r"another configuration \(.*epsilon: 4.0 -> 2.0; "):
        smoke("run", "epsilon=2.0")


def test_two_processes_on_one_folder_are_refused(smoke, tmp_path):
    folder = experiments.run.RunFolder(tmp_path / "run")
    with folder.opened("a: 1\n"), pytest.raises(StoreError, match="another process"), folder.opened("a: 1\n"):
        pass


@pytest.mark.parametrize(
    "name", ["config.yaml", "run.json", "privacy.json", "metrics.csv", "rounds/001/estimate.parquet"]
)
def test_what_a_comparison_says_to_do_about_damage_makes_the_same_file_again(smoke, name):
    folder = smoke("run", "rounds=2", "evaluation.sample=20")
    whole = contents(folder)
    (folder / name).write_bytes(b"\xff")
    with pytest.raises(StoreError) as caught:
        load_rounds(load_run(folder))
    found = re.search(r"; delete (?:the folder (\S+)|it), then give the run's command again", str(caught.value))
    assert found is not None, str(caught.value)
    shutil.rmtree(found[1]) if found[1] else (folder / name).unlink()
    assert contents(smoke("run", "rounds=2", "evaluation.sample=20")) == whole


def test_damaged_round_file_is_named(smoke):
    folder = smoke("run")
    (folder / "rounds" / "001" / "metrics.json").write_text("{")
    with pytest.raises(StoreError, match=r"001/metrics\.json .*cannot be read"):
        smoke("run")
