"""`synthpoll ledger FILE` as a user types it: totals, one device, and what its owner decides."""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import pytest

from device_poll.device_ledger import DeviceLedger
from experiments.cli import main
from experiments.count.segments import DeviceNames
from privacy.budget import Budget

SMALL = ("rounds=1", "evaluation.sample=20", "candidates=20", "caps.lifetime=8", "caps.daily=4")


@pytest.fixture
def path(smoke, tmp_path):
    smoke("run", *SMALL, f"ledger={tmp_path / 'ledger.db'}")
    return tmp_path / "ledger.db"


@pytest.fixture
def quick(tmp_path):
    """The same residents, whom no run has polled."""
    path, ids = tmp_path / "quick.db", [f"resident-{i:06d}" for i in range(900)]
    with contextlib.closing(DeviceLedger(path, device_ids=ids, budget=Budget.of(lifetime=8.0, daily=4.0))) as book:
        book.enroll(np.arange(900), np.ones(900, dtype=bool))
    return path


@pytest.fixture
def typed(monkeypatch, capsys):
    """What the command prints, and its line of error."""

    def command(*words: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["synthpoll", "ledger", *words])
        try:
            main()
        except SystemExit as ended:
            assert ended.code == 2
        said = capsys.readouterr()
        return said.out, said.err

    return command


def test_totals_and_one_device(typed, path):
    out, _ = typed(str(path))
    assert "900 devices have an account; 900 opted in, 0 said no; 0 of them were forgotten on request; 900 were" in out
    assert "lifetime 8, daily 4. The most that any device has spent: 4, and 4 in a day" in out
    out, _ = typed(str(path), "--device", "resident-000003", "resident-000004")
    assert out.splitlines() == [f"resident-00000{i}: opted in; has spent 4 in its lifetime" for i in (3, 4)]


def test_what_an_owner_decides_holds_in_the_next_run(typed, path, smoke, tmp_path):
    assert typed(str(path), "--opt-out", "resident-000003", "resident-000004")[0] == "2 devices opted out\n"
    assert typed(str(path), "--forget", "resident-000005")[0] == "1 device forgotten and opted out\n"
    assert typed(str(path), "--opt-in", "resident-000004")[0] == "1 device opted in\n"
    out, _ = typed(str(path))
    assert "898 opted in, 2 said no; 1 of them were forgotten on request; 900 were debited" in out
    smoke("next", *SMALL, f"ledger={path}", "seed=1", "devices.seed=0", "first_day=1")
    out, _ = typed(str(path), "--device", *(f"resident-00000{i}" for i in (3, 4, 5)))
    assert out.splitlines() == [
        "resident-000003: said no; has spent 4 in its lifetime",
        "resident-000004: opted in; has spent 8 in its lifetime",
        "resident-000005: said no; has spent 4 in its lifetime",
    ]
    # The first run is complete, and stays so although it cannot be told any more who answered it.
    smoke("run", *SMALL, f"ledger={path}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "dora"], "has never seen 1 of 1 id given (number 1), and nothing was changed; correct it"),
        (["--opt-in", "resident-000003", "dora"], "has never seen 1 of 2 ids given (number 2), and nothing was"),
        (["--forget", "dora", "resident-000003", "7"], "has never seen 2 of 3 ids given (number 1, 3), and"),
        (["--opt-out"], "takes FILE and at most one of --device, --opt-out, --opt-in, --forget with one ID or more"),
        (["--opt-out", "--new"], "(--opt-out also with --new), not '--opt-out --new'"),
        (["--opt-in", "--new", "dora"], "not '--opt-in --new ID'"),
        (["--opt-out", "--forget", "dora"], "not '--opt-out --forget ID'"),
        (["--burn", "resident-000003"], "takes FILE and at most one of"),
        (["resident-000003"], "takes FILE and at most one of"),
    ],
)
def test_words_that_cannot_be(typed, quick, words, said):
    before, _ = typed(str(quick))
    out, error = typed(str(quick), *words)
    assert said in error and error.count("\n") == 1 and "dora" not in error and "resident" not in error and not out
    assert typed(str(quick))[0] == before


def test_another_spelling_is_no_opt_out(typed, quick):
    """'1 device opted out' would be said of an account that no run debits, while the real one stays in."""
    for spelling in ("Resident-000003", " resident-000003", "resident-3", "resident-000003/0"):
        out, error = typed(str(quick), "--opt-out", spelling)
        assert "has never seen 1 of 1 id given" in error and "--new to opt it out beforehand" in error and not out
    assert "900 devices have an account; 900 opted in" in typed(str(quick))[0]
    assert typed(str(quick), "--device", "resident-000003")[0].startswith("resident-000003: opted in")
    # Negative control: what the command did before.
    with contextlib.closing(DeviceLedger.existing(quick, ["Resident-000003"], may_join=True)) as book:
        book.opt_out(np.array([0]))
    assert typed(str(quick), "--device", "resident-000003")[0].startswith("resident-000003: opted in")


def test_who_says_no_beforehand_is_never_asked(typed, path, smoke):
    told = "2 devices opted out; 1 of these ids this file had never seen: a run knows a device only by its exact id\n"
    assert typed(str(path), "--opt-out", "--new", "resident-000950", "resident-000003")[0] == told
    assert typed(str(path), "--new", "--opt-out", "resident-000950")[0] == "1 device opted out\n"
    assert "901 devices have an account; 899 opted in, 2 said no; 0 of them" in typed(str(path))[0]
    smoke("next", *SMALL, f"ledger={path}", "seed=1", "devices.seed=0", "devices.devices=1000", "first_day=1")
    out, _ = typed(str(path), "--device", "resident-000950", "resident-000951")
    assert out.splitlines() == [
        "resident-000950: said no; has spent 0 in its lifetime",
        "resident-000951: opted in; has spent 4 in its lifetime",
    ]


def test_a_device_of_a_use_case_may_be_given_by_its_number(typed, tmp_path):
    path, budget = str(tmp_path / "counts.db"), Budget.of(lifetime=8.0, daily=4.0)
    with contextlib.closing(DeviceLedger(path, device_ids=DeviceNames(10), budget=budget)) as book:
        book.enroll(np.arange(10), np.ones(10, dtype=bool))
    assert typed(path, "--opt-out", "5", "device 6")[0] == "2 devices opted out: device 5 of use cases\n"
    assert typed(path, "--device", "5", "device 5", "7")[0].splitlines() == [
        "device 5: said no; has spent 0 in its lifetime", "device 7: opted in; has spent 0 in its lifetime",
    ]  # fmt: skip
    for unknown in ("05", "10", "-1", "id=5", "device 05"):
        assert "has never seen 1 of 1 id given" in typed(path, "--opt-out", unknown)[1], unknown
    # Beforehand a number could be anybody's: it has to be said in full.
    line = typed(path, "--opt-out", "--new", "device 10", "11")[1]
    assert "id number 2 of those given is a number" in line and "give a user as id=NAME" in line
    assert typed(path, "--opt-out", "--new", "device 10", "id=5")[0].startswith("2 devices opted out; 2 of these ids")
    # Now a user of mail is named 5, too.
    for action in ("--opt-out", "--opt-in", "--forget", "--device"):
        line = typed(path, action, "5")[1]
        assert "nothing was changed: give a user as id=NAME" in line and line.count("\n") == 1
    assert typed(path, "--opt-in", "id=5")[0] == "1 device opted in\n"
    assert typed(path, "--device", "id=5", "device 5")[0].splitlines() == [
        "5: opted in; has spent 0 in its lifetime", "device 5: said no; has spent 0 in its lifetime",
    ]  # fmt: skip


def test_a_file_that_is_not_there_is_not_made(typed, tmp_path):
    assert "there is no ledger" in typed(str(tmp_path / "none.db"))[1] and not (tmp_path / "none.db").exists()
    assert typed()[0] == typed("--help")[0] != ""
