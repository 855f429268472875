"""Attack: kill a run after its reports have left, change something, and give the same command again.

Its devices would send a second report with other noise, while the run claims, and a ledger debits, one. The negative
control is the engine of earlier versions, which did not write down what a poll depended on (`forgetful`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import experiments.run
from device_poll.population import PopulationError
from experiments.closed_polls import ClosedPolls
from experiments.folder.store import StoreError
from experiments.run import run_job
from tests.attacks.test_consent_and_days import Killed, ledger_of
from tests.experiments.use_case_files import play, screen, write_files

SHORT = ("rounds=1", "evaluation.sample=20")
AGGREGATORS = ("trust=secure_aggregation", "trust.noise_by=aggregators")
LEFT = "have left before"
CHANGED = "on devices that held something else"


def killed(run: Callable[[], Path], monkeypatch, write: str) -> None:
    """The run dies when it writes the first result of its poll: all reports have left."""

    def dying(self, *_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(experiments.run.RunFolder, write, dying)
        run()


def without_fingerprint(folder: Path) -> None:
    """As earlier versions left it: what devices hold is not known, only what polls depended on."""
    path = folder / "oracle" / "devices.json"
    told = json.loads(path.read_text())
    del told["fingerprint"]
    path.write_text(json.dumps(told))


@pytest.fixture
def forgetful(monkeypatch) -> Callable[[], None]:
    """Test double: nothing is known of polls whose result was lost."""
    return lambda: monkeypatch.setattr(ClosedPolls, "close", lambda *_: None)


def mail_of(path: Path, changed: str) -> Path:
    """Mail of 200 people, one word of one of which may change."""
    when = {3: changed}
    rows = [{"user": f"u{i:02d}", "text": f"the meeting about {i % 7} is {when.get(i, 'soon')}"} for i in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("ledger", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize("trust", ["local", "shuffled", "secure_aggregation", "central"])
def test_one_word_of_one_mail_has_changed(compose_job, tmp_path, monkeypatch, forgetful, trust, ledger):
    path = mail_of(tmp_path / "mail.jsonl", "soon")
    more = [f"ledger={tmp_path / 'ledger.db'}", "caps.lifetime=100"] if ledger else []

    def run() -> Path:
        job = compose_job(
            "experiment=smoke", "devices=mail", f"devices.path={path}", "minimum_batch=100", f"trust={trust}", *SHORT,
            f"out={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}", *more,
        )  # fmt: skip
        return run_job(*job, screen())

    killed(run, monkeypatch, "write_arrays")
    mail_of(path, "late")
    with pytest.raises(StoreError, match=CHANGED):
        run()
    without_fingerprint(tmp_path / "run")
    with pytest.raises(PopulationError, match=LEFT) as refused:
        run()
    assert "\n" not in str(refused.value)
    mail_of(path, "soon")
    run()  # as it was: the very same reports
    forgetful()  # negative control
    for done in (tmp_path / "run").glob("rounds/00[01]/round.json"):
        done.unlink()
    mail_of(path, "late")
    run()


@pytest.mark.parametrize("exact", [False, True], ids=["reports", "drawn"])
@pytest.mark.parametrize("experiment", ["emoji", "genmoji_fragments"])
def test_what_devices_of_a_count_hold_has_changed(tmp_path, monkeypatch, forgetful, experiment, exact):
    files, law = write_files(tmp_path / "files"), ["exact_above=3999"] if exact else []
    name = {"emoji": "emoji.jsonl", "genmoji_fragments": "prompts.jsonl"}[experiment]
    lines = (files / name).read_text(encoding="utf-8").splitlines(keepends=True)
    changed = {
        "emoji": [lines[0].replace("1000000.0", "990000.0"), *lines[1:]],
        "genmoji_fragments": [*lines[:-40], *lines[-20:]],
    }[experiment]
    assert changed != lines

    def run() -> Path:
        return play(tmp_path / "run", files, experiment, "noise=system", *law)

    killed(run, monkeypatch, "write_table")
    (files / name).write_text("".join(changed), encoding="utf-8")
    with pytest.raises(StoreError, match=CHANGED):
        run()
    without_fingerprint(tmp_path / "run")
    with pytest.raises(PopulationError, match=LEFT):
        run()
    forgetful()  # negative control
    run()


def test_another_ledger(smoke, tmp_path, monkeypatch):
    """In the first, some had no budget left: the second poll is of almost the same devices, with other noise."""
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    with ledger_of(one, 4.0) as ledger:
        ledger.opt_out(np.arange(5))

    def run(path: Path) -> Path:
        return smoke("run", *SHORT, f"ledger={path}", "caps.lifetime=4")

    killed(lambda: run(one), monkeypatch, "write_arrays")
    with pytest.raises(PopulationError, match=LEFT):
        run(other)
    run(one)


@pytest.mark.parametrize("with_ledger", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize("job", ["refine", "count"])
def test_noise_that_does_not_repeat_is_drawn_once(smoke, tmp_path, monkeypatch, forgetful, job, with_ledger):
    """The sum that was lost may have been seen: a second one over the same reports has other noise, and their
    difference tells of both."""
    given = [*AGGREGATORS, *([f"ledger={tmp_path / 'ledger.db'}", "caps.lifetime=100"] if with_ledger else [])]
    files = write_files(tmp_path / "files")

    def run() -> Path:
        if job == "refine":
            return smoke("run", *SHORT, *given)
        return play(tmp_path / "run", files, "health_types", *given)

    killed(run, monkeypatch, {"refine": "write_arrays", "count": "write_table"}[job])
    with pytest.raises(PopulationError, match=f"polled before|{LEFT}"):
        run()
    if not with_ledger:  # negative control
        forgetful()
        run()
