"""The words of a command line: a name stays one, and what cannot be understood is told in one line that works."""

from __future__ import annotations

import json
import re
import shlex
import sys

import pytest

from experiments.cli import COMMANDS, main
from experiments.launch import UsageError
from experiments.words import understood

RUN = ["experiment=smoke", "devices=mail", "devices.unit=item", "minimum_batch=5", "rounds=1", "candidates=8"]
SMALL = [*RUN, "decision=survival", "decision.keep=3", "evaluation.sample=30", "evaluation.frechet_dimensions=4"]


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command in this process; (status, what it printed, its error)."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synthpoll", *words])
        status = 0
        try:
            main()
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("devices.path=2023", 'devices.path="2023"'),
        ("devices.path=1e5", 'devices.path="1e5"'),
        ("out=true", 'out="true"'),
        ("out=x[/b]y", 'out="x[/b]y"'),
        ("devices.path=ünï/m.jsonl", 'devices.path="ünï/m.jsonl"'),
        ("devices.path=d=x/m.jsonl", 'devices.path="d=x/m.jsonl"'),
        ('out=a"b', 'out="a\\"b"'),
        ("out=a b", 'out="a b"'),
        ("devices.path=~/mail/m.jsonl.gz", "devices.path=~/mail/m.jsonl.gz"),
        ("devices.path='quoted already'", "devices.path='quoted already'"),
        ("ledger=null", "ledger=null"),
        ("vocabulary.path=a.txt,b.txt", "vocabulary.path=a.txt,b.txt"),
        ("out=${name}", "out=${name}"),
        ("seed=2023", "seed=2023"),
        ("--cfg", "--cfg"),
    ],
)
def test_a_place_is_a_name_whatever_it_looks_like(word, read):
    assert understood("run", [word]) == [read]


@pytest.mark.parametrize("name", ["2023", "ünï", "d=x", "a b", "x[/b]y", "50%?"])
def test_folders_of_any_name(command, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    rows = [{"user": i, "text": f"the note number {i} about the boat"} for i in range(40)]
    (tmp_path / name / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, error = command("run", *SMALL, f"devices.path={name}", f"out=run {name}", "cache=cache")
    assert (status, error) == (0, ""), error
    assert f"Run folder: run {name}" in out and (tmp_path / f"run {name}" / "run.json").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run epsilonn=2", "there is no key 'epsilonn'; did you mean epsilon?"),
        (
            "run experiment=town decision=survival decision.kep=3",
            "there is no key 'decision.kep'; did you mean decision.keep",
        ),
        ("run base_url=x", "there is no key 'base_url'; synthpoll run --help lists all"),
        (
            "generate generator=endpoint base_url=x",
            "there is no key 'base_url'; did you mean generator.writer.base_url?",
        ),
        ("run experiment=smok", "experiment is 'smok'; expected one of email_polling, emoji, "),
        ("run experiment=smok", "did you mean smoke?"),
        ("audit mechanism=rr", "mechanism is 'rr'; expected one of count_mean_sketch, "),
        ("run --experiment smoke", "values are given as key=value: experiment=smoke"),
        ("run --epsilon=2", "values are given as key=value: epsilon=2"),
        ("run epsilon", "'epsilon' is no key=value; expected, for example, epsilon=4"),
        ("run name=a:{b", "in quotes it can: 'name=\"a:{b\"'"),
        ("run name=ü", "in quotes it can: 'name=\"ü\"'"),
        ("run experiment=smoke +foo=1", "there is no key 'foo' where it is given; leave it out"),
        ("run experiment=smoke keep=5", "give decision=survival decision.keep=5"),
        ("run experiment=smoke selector=z_score", "give decision=survival selector@decision.selector=z_score"),
        (
            "generate generator=endpoint out=OUT",
            "generator.writer.base_url is missing; give generator.writer.base_url=VALUE",
        ),
        ("runn", "did you mean run?"),
    ],
)
def test_one_line_says_what_to_give(command, tmp_path, monkeypatch, words, said):
    """And nothing is left behind by a start that failed."""
    monkeypatch.chdir(tmp_path)
    status, _, error = command(*shlex.split(words))
    assert status == 2 and error.startswith("synthpoll: ") and error.count("\n") == 1, error
    assert said in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "run experiment=smoke epsilonn=2",
        "run experiment=smok",
        "run --experiment smoke",
        "run experiment=smoke keep=5",
        "run experiment=smoke selector=z_score",
        "run experiment=smoke name=a:{b",
    ],
)
def test_advice_works_when_it_is_typed(command, tmp_path, monkeypatch, words):
    """Each is followed: the word in question is replaced by what the error says to give."""
    monkeypatch.chdir(tmp_path)
    _, _, error = command(*words.split())
    given = [word for word in words.split()[1:] if not word.startswith("--") and word != "smoke"]
    if found := re.search(r"did you mean (\w+)\?", error):
        last = given[-1].partition("=")
        given[-1] = f"{last[0]}={found[1]}" if "experiment" in last[0] else f"{found[1]}={last[2]}"
    elif found := re.search(r"give (.*)$|key=value: (.*)$|in quotes it can: '(.*)'$", error.strip()):
        given = [*given[:1], *shlex.split(next(filter(None, found.groups())).replace('"', '\\"'))]
    status, out, told = command("run", *given, "--cfg", "job")
    assert (status, told) == (0, "") and "_target_: experiments.refine.job.RefineJob" in out


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"help", "-h", "--help", "--version"}))
def test_every_command_has_help(command, name):
    status, out, error = command(name, "--help")
    assert (status, error) == (0, "") and f"synthpoll {name}" in out


def test_a_word_alone_is_no_option_of_ours():
    with pytest.raises(UsageError, match=r"--epsilon is no option of synthpoll audit; .*: epsilon=VALUE"):
        understood("audit", ["--epsilon"])


def test_fewer_items_than_neighbours(command, tmp_path, monkeypatch):
    """Four mails: a measure looks at the neighbours that there are."""
    monkeypatch.chdir(tmp_path)
    rows = [{"user": i, "text": f"the note number {i} about the boat"} for i in range(4)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [word for word in SMALL if not word.startswith("minimum_batch")]
    status, _, error = command("run", *given, "minimum_batch=1", "devices.path=m.jsonl", "cache=cache")
    assert (status, error) == (0, "")
