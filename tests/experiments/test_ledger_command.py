"""`synthpoll ledger FILE` as a user types it: totals, one device, and what its owner decides."""

from __future__ import annotations

import sys

import pytest

from experiments.cli import main

SMALL = ("rounds=1", "evaluation.sample=20", "candidates=20", "keep=6", "caps.lifetime=8", "caps.daily=4")


@pytest.fixture
def path(smoke, tmp_path):
    smoke("run", *SMALL, f"ledger={tmp_path / 'ledger.db'}")
    return tmp_path / "ledger.db"


@pytest.fixture
def typed(path, monkeypatch, capsys):
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
    assert "900 devices have an account; 900 opted in, 0 said no, 0 forgotten on request; 900 were debited" in out
    assert "lifetime 8, daily 4. The most that any device has spent: 4, and 4 in a day" in out
    out, _ = typed(str(path), "--device", "resident-000003", "resident-000004")
    assert out.splitlines() == [f"resident-00000{i}: opted in; has spent 4 in its lifetime" for i in (3, 4)]


def test_what_an_owner_decides_holds_in_the_next_run(typed, path, smoke, tmp_path):
    assert typed(str(path), "--opt-out", "resident-000003", "resident-000004")[0] == "2 devices opted out\n"
    assert typed(str(path), "--forget", "resident-000005")[0] == "1 device forgotten and opted out\n"
    assert typed(str(path), "--opt-in", "resident-000004")[0] == "1 device opted in\n"
    out, _ = typed(str(path))
    assert "898 opted in, 2 said no, 1 forgotten on request; 900 were debited" in out
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
        (["--device", "dora"], "has no account of 1 of 1 devices asked for"),
        (["--opt-out"], "takes FILE and at most one of --device, --opt-out, --opt-in, --forget with one ID or more"),
        (["--burn", "resident-000003"], "takes FILE and at most one of"),
    ],
)
def test_words_that_cannot_be(typed, path, words, said):
    _, error = typed(str(path), *words)
    assert said in error and error.count("\n") == 1 and "dora" not in error


def test_a_file_that_is_not_there_is_not_made(typed, tmp_path):
    assert "there is no ledger" in typed(str(tmp_path / "none.db"))[1] and not (tmp_path / "none.db").exists()
    assert typed()[0] == typed("--help")[0] != ""
