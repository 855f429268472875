"""`synthpoll compare` as a user types it: the table, who is best, one-line errors, and a real run from end to end."""

from __future__ import annotations

import io
import itertools
import shutil
import sys

import numpy as np
import pytest
from rich.console import Console

from experiments.cli import main
from experiments.compare.command import compare, parse
from experiments.folder.reader import CompareError
from tests.experiments.run_folders import make_run
from tests.experiments.test_compare_page import Page


@pytest.fixture
def said():
    """What `synthpoll compare` prints on a wide terminal."""

    def run(*arguments: object) -> str:
        screen = io.StringIO()
        compare([str(argument) for argument in arguments], Console(file=screen, width=200))
        return screen.getvalue()

    return run


def test_a_sweep_of_twelve_names_the_best_run_per_epsilon(tmp_path, said):
    for epsilon in (1, 4):
        for keep in (3, 5):
            for seed in (0, 1, 2):
                folder = tmp_path / f"sweep/e{epsilon}k{keep}s{seed}"
                make_run(folder, epsilon=epsilon, seed=seed, lift=0.1 * (keep == 5), config={"keep": keep})
    screen = said(tmp_path / "sweep", "--oracle", "--metric", "similarity")
    assert "12 runs, each after its last poll" in screen
    assert "0, 1, 2" in screen
    assert "Best per epsilon by similarity after the last poll (higher is better, noise-free truth" in screen
    assert "epsilon 1: epsilon 1, keep 5, 0.451 (apart from all others over 3 seeds)" in screen
    assert "epsilon 4: epsilon 4, keep 5, 0.511 (apart from all others over 3 seeds)" in screen


def test_one_run_is_a_table_and_a_hint(tmp_path, said):
    screen = said(make_run(tmp_path / "a"))
    assert "made" in screen
    assert " similarity" not in screen and "noise-free" not in screen
    assert "add --to PAGE.html; what only a simulation knows: add --oracle" in screen
    whole = said(tmp_path / "a", "--oracle")
    assert "similarity*" in whole
    assert "* noise-free truth, known only to the simulation" in whole
    assert "add --oracle" not in whole


def test_what_each_poll_bought(tmp_path, said):
    """The change is that of the mean over seeds, since the column before."""
    for seed in (0, 1):
        make_run(tmp_path / f"s{seed}", seed=seed, lift=0.01 * seed)
    screen = said(tmp_path, "--oracle").split("What each poll bought")[1].splitlines()
    row = next(i for i, line in enumerate(screen) if "similarity*" in line)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in screen[row : row + 2]]
    values, changes = [float(cell) for cell in cells[0][1:]], cells[1][2:]
    assert len(values) >= 3 and changes == [f"{b - a:+.3f}" for a, b in itertools.pairwise(values)]
    assert "similarity" not in said(tmp_path).split("What each poll bought")[1], "truth only where it was asked for"
    for keep in range(2, 7):
        make_run(tmp_path / f"k{keep}", config={"keep": keep})
    assert "What each poll bought is shown for up to 4 configurations: name fewer runs." in said(tmp_path)


def test_truth_is_neither_read_nor_shown_unless_it_is_asked_for(tmp_path, said):
    """The page is the same to the last byte with and without oracle/; with --oracle it has the votes."""
    run, page = make_run(tmp_path / "a", arms=["no_privacy"]), tmp_path / "page.html"
    votes = [",".join(map(str, np.load(path)[:-1])) for path in sorted(run.rglob("oracle/votes.npy"))]
    assert len(votes) == 3 and all(len(set(each.split(","))) > 6 for each in votes)
    assert "Page with the truth: " in said(run, "--oracle", "--to", page)
    whole = Page(page.read_text())
    assert all(each in whole.raw["data"] for each in votes)
    assert '"name":"similarity"' in whole.raw["data"] and '"no_privacy":' in whole.raw["data"]
    assert "oracle" in {given.get("id") for _, given in whole.elements}, "the switch that says what is simulation only"
    assert "Page: " in said(run, "--to", page)
    released = page.read_text()
    assert not any(each in released for each in votes)
    assert '"name":"similarity"' not in released and '"no_privacy":' not in released
    assert "oracle" not in {given.get("id") for _, given in Page(released).elements}
    screen = said(run)
    for folder in list(run.rglob("oracle")):
        shutil.rmtree(folder, ignore_errors=True)
    assert said(run, "--to", page) and page.read_text() == released and said(run) == screen


def test_a_metric_of_the_truth_says_what_it_needs(tmp_path, said):
    with pytest.raises(CompareError, match=r"such as .*none_share.*; metrics of the noise-free truth need --oracle"):
        said(make_run(tmp_path / "a"), "--metric", "similarity")
    with pytest.raises(CompareError, match=r"such as .*similarity[^;]*$"):
        said(tmp_path / "a", "--metric", "similar", "--oracle")


def test_two_kinds_of_epsilon_are_told_apart(tmp_path, said):
    held = {"epsilon": 0.7, "delta": 1e-6, "trust_model": "shuffled"}
    assert "local epsilon" in said(make_run(tmp_path / "a", central=held))
    assert "local epsilon" not in said(make_run(tmp_path / "b"))


def test_labels_are_no_terminal_markup(tmp_path, said):
    folders = [make_run(tmp_path / str(i), config={"note": f"[bold]{i}[/bold] [/]"}) for i in range(2)]
    assert "note [bold]1[/bold] [/]" in said(*folders)


def test_what_was_left_out_is_said(tmp_path, said):
    for name, complete in (("a", 3), ("b", 3), ("c", 0)):
        make_run(tmp_path / "s" / name, complete=complete)
    screen = said(tmp_path / "s")
    assert f"Left out: {tmp_path}/s/c: no complete round yet" in screen
    assert "s/b: same configuration and seed as" in screen


def test_the_page_is_written_where_asked(tmp_path, said):
    screen = said(make_run(tmp_path / "a"), f"--to={tmp_path}/page.html")
    assert f"Page: {tmp_path}/page.html (" in screen
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to"], "--to needs a value"),
        (["--metric="], "no run was named"),
        (["--fast", "a"], "unknown option --fast; expected --to, --metric or --oracle"),
        (["--oracle=yes", "a"], "unknown option --oracle"),
        (["--to", "x.html"], "no run was named"),
    ],
)
def test_arguments_that_cannot_be_understood(arguments, message):
    with pytest.raises(CompareError, match=message):
        parse(arguments)


def test_options_may_stand_anywhere():
    request = parse(["--metric=recall", "a", "--oracle", "b=1"])
    assert (request.runs, request.metric, request.oracle, request.to) == (("a", "b=1"), "recall", True, None)
    assert not parse(["a"]).oracle


def test_a_wrong_place_for_the_page_is_said_before_any_work(tmp_path, said):
    with pytest.raises(CompareError, match=r"ends in \.html"):
        said("no-such-run", "--to", tmp_path / "page.txt")


def test_the_command_from_end_to_end(smoke, tmp_path, monkeypatch, capsys):
    """Real run folders of the smoke experiment, two budgets, through the entry point."""
    for epsilon in (2, 6):
        smoke(f"sweep/e{epsilon}", f"epsilon={epsilon}")
    monkeypatch.setattr(
        sys, "argv", ["synthpoll", "compare", str(tmp_path / "sweep"), "--to", str(tmp_path / "p.html")]
    )
    main()
    screen = capsys.readouterr().out
    assert "epsilon 2" in screen
    assert "epsilon 6" in screen
    assert '"label":"epsilon 6"' in (tmp_path / "p.html").read_text()


def test_an_error_is_one_line_and_status_two(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["synthpoll", "compare", str(tmp_path / "gone")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("synthpoll: ")
    assert error.count("\n") == 1


def test_help_is_printed(said):
    assert "synthpoll compare RUN [RUN ...] [--to PAGE.html]" in said("--help")
    assert said() == said("-h")
