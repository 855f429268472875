"""docs/privacy.md names the tests that hold its sentences up: those that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
BRACKETS = re.compile(r"\[((?:\w+/)?test_\w+(?:,\s+(?:\w+/)?test_\w+)*)\]")
COMMANDS = re.compile(r"`pytest (\S+)(?: -k (\w+))?`")


def missing(page: str) -> list[str]:
    """The tests that a page names and that are not there."""
    named = [name for names in BRACKETS.findall(page) for name in re.split(r",\s+", names)]
    gone = [name for name in named if not (ROOT / "tests" / f"{name}.py").is_file()]
    for path, word in COMMANDS.findall(page):
        file = ROOT / path
        tests = re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE) if file.is_file() else []
        if not any(word in test for test in tests):
            gone.append(f"{path} -k {word}")
    return gone


def test_the_tests_that_the_claim_rests_on_are_there() -> None:
    assert len(BRACKETS.findall(PAGE)) > 40 and len(COMMANDS.findall(PAGE)) > 10
    assert missing(PAGE) == []


@pytest.mark.parametrize(
    "sentence",
    ["Held up [privacy/test_nothing].", "Held up [test_docs,\n test_gone].", "`pytest tests/test_docs.py -k vanished`"],
)
def test_one_that_is_gone_is_found(sentence: str) -> None:
    """Negative control."""
    assert missing(PAGE + sentence)


def test_paragraphs_that_claim_name_a_test() -> None:
    """Every paragraph of the page, but for tables, what is defined or measured, and what is not claimed."""
    told = PAGE.split("## The default claim")[1].split("## Not claimed")[0]
    paragraphs = [each for each in told.split("\n\n") if not each.startswith(("#", "|", "    "))]
    silent = [each.split("\n")[0] for each in paragraphs if each and not BRACKETS.search(each)]
    assert [each for each in silent if not each.startswith(("**Neighbours.**", "What nulls cost", "**Timing**"))] == []


def test_every_attack_has_a_negative_control() -> None:
    attacks = sorted((ROOT / "tests" / "attacks").glob("test_*.py"))
    texts = {path.name: path.read_text(encoding="utf-8").lower() for path in attacks}
    assert len(texts) > 10
    assert [
        name for name, text in texts.items() if "negative control" not in text and "negative_control" not in text
    ] == []
