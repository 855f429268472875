"""Vocabularies from files: what comes out, and one test for each way in which a file can be wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from device_poll.events.frequencies import (
    EmojiFrequencies,
    ListedValues,
    RankedDomains,
    TableFrequencies,
    WordFrequencies,
)
from device_poll.events.vocabulary import Frequencies, Vocabulary, most_frequent_first
from device_poll.sources.items import SourceError

SECRET = "zanzibar"
"""A value that no error may show."""

WORD_HEADER = "locale\trank\tword\tcount_per_billion\tin_debian_wamerican_huge\tin_npm_word_list\tin_urban_dictionary"
WORDS = [
    "en\t1\tthe\t600\t1\t1\t1",
    'en\t3\t"lol\t100\t0\t0\t1',  # a quote is a letter like any other
    "en\t2\tof\t300\t1\t1\t0",
    "fr\t1\tde\t50\t\t\t",
    "fr\t2\tla\t50\t\t\t",
    "en\t4\tnever\t0\t1\t1\t1",
]
EMOJI = [
    {"emoji": "😂", "name": "joy", "per_billion_words": {"en": 30.0, "fr": 5}},
    {"emoji": "🎉", "name": "party", "per_billion_words": {"en": 70.0}},
    {"emoji": "🏳️", "name": "flag", "per_billion_words": {}},
]
DOMAINS = ["domain\trank_tranco_2025\trank_old", "b.example\t2\t1", "a.example\t1\t", "c.example\t\t3"]


def lines(path: Path, rows: list[str]) -> Path:
    content = ("\n".join(rows) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def words(folder: Path, rows: list[str] = WORDS, name: str = "words.tsv") -> Path:
    return lines(folder / name, [WORD_HEADER, *rows])


def emoji(folder: Path, rows: list[dict[str, object]] = EMOJI) -> Path:
    return lines(folder / "emoji.jsonl.gz", [json.dumps(row, ensure_ascii=False) for row in rows])


@pytest.mark.parametrize("name", ["words.tsv", "words.tsv.gz"])
def test_words_by_locale(tmp_path: Path, name: str) -> None:
    loaded = WordFrequencies(path=words(tmp_path, name=name), segments=["fr", "en"]).load()
    french, english = loaded.vocabularies
    assert (french.segment, english.segment) == ("fr", "en")
    assert english.values == ("the", "of", '"lol')  # sorted, whatever the order of rows
    np.testing.assert_allclose(english.weights, [0.6, 0.3, 0.1])
    assert {name: mark.tolist() for name, mark in english.marks.items()} == {
        "in_debian_wamerican_huge": [True, True, False],
        "in_npm_word_list": [True, True, False],
        "in_urban_dictionary": [True, False, True],
    }
    assert french.values == ("de", "la")  # ties in file order
    assert french.marks == {}
    assert loaded.dropped == {"zero": 1}


def test_words_need_no_marks_and_may_have_other_columns(tmp_path: Path) -> None:
    path = lines(tmp_path / "w.tsv", ["count_per_billion\tnote\tlocale\tword", "3\tx\ten\ta"])
    (english,) = WordFrequencies(path=path).load().vocabularies
    assert english.values == ("a",) and english.marks == {}


def test_emoji_of_two_locales(tmp_path: Path) -> None:
    loaded = EmojiFrequencies(path=emoji(tmp_path)).load()
    english, french = loaded.vocabularies
    assert english.values == ("🎉", "😂") and french.values == ("😂",)
    np.testing.assert_allclose(english.weights, [0.7, 0.3])
    assert loaded.dropped == {"no_frequency": 1}


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_ranks_become_zipf_weights(tmp_path: Path, exponent: float) -> None:
    path = lines(tmp_path / "d.tsv", DOMAINS)
    loaded = RankedDomains(path=path, exponent=exponent).load()
    (everywhere,) = loaded.vocabularies
    assert everywhere.segment == "all"
    assert set(everywhere.values) == {"a.example", "b.example"}
    np.testing.assert_allclose(everywhere.weights, np.array([1, 2.0**-exponent]) / (1 + 2.0**-exponent))
    assert loaded.dropped == {"unranked": 1}
    (old,) = RankedDomains(path=path, rank_column="rank_old").load().vocabularies
    assert old.values == ("b.example", "c.example")


def test_a_list_in_order(tmp_path: Path) -> None:
    path = lines(tmp_path / "list.txt", ["often", "", "  sometimes ", "#rarely"])
    (everywhere,) = ListedValues(path=path).load().vocabularies
    assert everywhere.values == ("often", "sometimes", "#rarely")
    np.testing.assert_allclose(everywhere.weights, np.array([6, 3, 2]) / 11)


def test_the_packaged_list_of_health_types() -> None:
    frequencies = ListedValues()
    frequencies.check()
    loaded = frequencies.load()
    (everywhere,) = loaded.vocabularies
    assert 100 <= len(everywhere) <= 300 and loaded.dropped == {}
    assert all(value.startswith("HK") and "TypeIdentifier" in value for value in everywhere.values)


@pytest.mark.parametrize("name", ["t.tsv", "t.csv", "t.csv.gz", "t.jsonl", "t.ndjson.gz"])
def test_any_table(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, object]] = [
        {"where": "us", "app": "mail", "opens": 3},
        {"where": "uk", "app": "maps", "opens": 2.5},
        {"where": "us", "app": "chess", "opens": 9},
    ]
    if ".csv" in name or ".tsv" in name:
        mark = "," if ".csv" in name else "\t"
        content = [mark.join(rows[0]), *(mark.join(str(cell) for cell in row.values()) for row in rows)]
    else:
        content = [json.dumps(row) for row in rows]
    path = lines(tmp_path / name, content)
    by_segment = TableFrequencies(path=path, value="app", weight="opens", segment="where").load().vocabularies
    assert [(v.segment, v.values) for v in by_segment] == [("uk", ("maps",)), ("us", ("chess", "mail"))]
    (us,) = (
        TableFrequencies(path=path, value="app", weight="opens", segment="where", segments=["us"]).load().vocabularies
    )
    np.testing.assert_allclose(us.weights, [0.75, 0.25])
    (together,) = TableFrequencies(path=path, value="app", weight="opens").load().vocabularies
    assert (together.segment, together.values) == ("all", ("chess", "mail", "maps"))


def test_quoted_cells_of_csv(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.csv", ["value,weight", '"a, ""b""",2'])
    (everywhere,) = TableFrequencies(path=path, value="value", weight="weight").load().vocabularies
    assert everywhere.values == ('a, "b"',)


BAD_ROWS: list[tuple[str, str, str]] = [
    # (row of the English list, reason, what the error says)
    (f"en\t9\t{SECRET}\t-4\t1\t1\t1", "weight", "has count_per_billion -4; expected a finite number, 0 or more"),
    (f"en\t9\t{SECRET}\tnan\t1\t1\t1", "weight", "has count_per_billion nan; expected a finite number"),
    (f"en\t9\t{SECRET}\tinf\t1\t1\t1", "weight", "has count_per_billion inf; expected a finite number"),
    (f"en\t9\tother\t{SECRET}\t1\t1\t1", "weight", "has count_per_billion that is no number"),
    ("en\t9\tthe\t4\t1\t1\t1", "duplicate", "has the word of line 2 again; expected each once"),
    ("en\t9\t \t4\t1\t1\t1", "empty", "has an empty word; expected a value"),
    (f"en\t9\t{SECRET}", "malformed", "has 3 cells, the header has 7; expected as many"),
]


@pytest.mark.parametrize(("row", "reason", "message"), BAD_ROWS)
def test_a_bad_row_is_an_error_or_counted(tmp_path: Path, row: str, reason: str, message: str) -> None:
    path = words(tmp_path, [*WORDS, row])
    with pytest.raises(SourceError) as caught:
        WordFrequencies(path=path).load()
    assert str(caught.value).startswith(f"{path}: line 8 {message}")
    assert "or leave such rows out with on_bad_row=skip" in str(caught.value)
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    loaded = WordFrequencies(path=path, on_bad_row="skip").load()
    assert loaded.dropped == {reason: 1, "zero": 1}
    assert loaded.vocabularies[0].values == ("the", "of", '"lol')


@pytest.mark.parametrize("tail", [b"\xff", b"\xc3"])
def test_bytes_that_are_not_utf8(tmp_path: Path, tail: bytes) -> None:
    path = words(tmp_path)
    path.write_bytes(path.read_bytes() + f"en\t9\t{SECRET}".encode() + tail + b"\t4\t1\t1\t1\n")
    with pytest.raises(SourceError, match=r"line 8 is not UTF-8 \(byte 14 of the line\)") as caught:
        WordFrequencies(path=path).load()
    assert SECRET not in str(caught.value)
    assert WordFrequencies(path=path, on_bad_row="skip").load().dropped == {"undecodable": 1, "zero": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"emoji": "🎈", "per_billion_words": 3}', "malformed"),
        ('{"emoji": "🎈", "per_billion_words": {"en": "often"}}', "weight"),
        ('{"emoji": "🎈", "per_billion_words": {"en": true}}', "weight"),
        ('{"emoji": 5, "per_billion_words": {"en": 1}}', "not_text"),
        ('{"emoji": "\\ud83d", "per_billion_words": {"en": 1}}', "undecodable"),
        ('{"emoji": "🎈"}', "missing"),
        ('["🎈"]', "malformed"),
        ('{"emoji": ', "malformed"),
    ],
)
def test_bad_json_lines(tmp_path: Path, row: str, reason: str) -> None:
    path = lines(tmp_path / "e.jsonl", [json.dumps(EMOJI[0]), row])
    with pytest.raises(SourceError, match=r"line 2 .*; .*on_bad_row=skip") as caught:
        EmojiFrequencies(path=path, segments=["en"]).load()
    assert "🎈" not in str(caught.value)
    assert EmojiFrequencies(path=path, segments=["en"], on_bad_row="skip").load().dropped == {reason: 1}


@pytest.mark.parametrize(
    ("frequencies", "message"),
    [
        (lambda path: WordFrequencies(path=path), r"no column 'locale'; it has: domain, rank_tranco_2025, rank_old"),
        (lambda path: RankedDomains(path=path, rank_column="rank"), r"no column 'rank'; it has: domain, rank_tranco"),
        (lambda path: TableFrequencies(path=path, value="domain", weight="hits"), r"no column 'hits'; it has: domain"),
    ],
)
def test_wrong_columns(tmp_path: Path, frequencies: Callable[[Path], Frequencies], message: str) -> None:
    source = frequencies(lines(tmp_path / "d.tsv", DOMAINS))
    source.check()  # the file is there: what is in it is seen when it is read
    with pytest.raises(SourceError, match=message):
        source.load()


def test_a_file_without_a_header_shows_no_value(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.tsv", [f"https://{SECRET}?\t1", "b.example\t2"])
    with pytest.raises(SourceError, match=r"2 fields, not shown .*is there a header line\?") as caught:
        RankedDomains(path=path).load()
    assert SECRET not in str(caught.value)


def test_an_empty_locale(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no usable rows of segment 'de' .*; it has: en, fr; name one of these"):
        WordFrequencies(path=words(tmp_path), segments=["en", "de"]).load()
    with pytest.raises(SourceError, match=r"no usable rows of segment 'de' .*; it has: en, fr; name one of these"):
        EmojiFrequencies(path=emoji(tmp_path), segments=["de"]).load()
    path = lines(tmp_path / "zero.tsv", [WORD_HEADER, "en\t1\tthe\t0\t1\t1\t1"])
    with pytest.raises(SourceError, match=r"segment 'en' \(left out: 1 zero\); it has: en"):
        WordFrequencies(path=path).load()


def test_a_column_of_values_in_place_of_segments_is_not_listed(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.csv", ["value,weight", *(f"{SECRET}{i},1" for i in range(100))])
    source = TableFrequencies(path=path, value="value", weight="weight", segment="value", segments=["en"])
    with pytest.raises(SourceError, match=r"100 different names, not shown \(is this the right column\?\)") as caught:
        source.load()
    assert SECRET not in str(caught.value)


def test_half_filled_marks(tmp_path: Path) -> None:
    path = words(tmp_path, [*WORDS, f"en\t9\t{SECRET}\t1\t\t1\t1"])
    with pytest.raises(SourceError, match=r"column in_debian_wamerican_huge of segment 'en' .* in 1 of 4 rows"):
        WordFrequencies(path=path).load()


@pytest.mark.parametrize(
    ("frequencies", "message"),
    [
        (WordFrequencies(), r"vocabulary.path is null; expected a TSV of words .*; set vocabulary.path=FILE"),
        (EmojiFrequencies(), r"vocabulary.path is null; expected JSON lines with emoji"),
        (RankedDomains(), r"vocabulary.path is null; expected a TSV with the columns domain and rank_tranco_2025"),
        (TableFrequencies(value="app", weight="n"), r"vocabulary.path is null; expected a table .* columns app, n;"),
        (WordFrequencies(path="nowhere.tsv"), r"vocabulary.path is nowhere.tsv, which does not exist; expected a TSV"),
        (ListedValues(path="nowhere.txt"), r"nowhere.txt, which does not exist; expected a text file"),
        (WordFrequencies(path="tests"), r"vocabulary.path is tests, which is no file"),
        (WordFrequencies(path="README.md"), r"README.md ends in none of .tsv, .csv, .jsonl"),
        (WordFrequencies(segments="en"), r"vocabulary.segments is 'en'; expected a list of names"),
        (EmojiFrequencies(segments=()), r"vocabulary.segments is \(\); expected a list of names"),
        (EmojiFrequencies(segments=("en", "en")), r"expected each segment once"),
        (TableFrequencies(value="a", weight="b", segments=["x"]), r"vocabulary.segment is null; name the column"),
        (ListedValues(exponent=-1.0), r"vocabulary.exponent is -1; expected 0 .* to 10"),
        (RankedDomains(exponent=float("nan")), r"vocabulary.exponent is nan"),
        (ListedValues(on_bad_row="ignore"), r"vocabulary.on_bad_row is 'ignore'; expected 'error' or 'skip'"),  # type: ignore[arg-type]
    ],
)
def test_options_are_checked_before_any_work(
    frequencies: Frequencies, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    for act in (frequencies.check, frequencies.load):
        with pytest.raises(SourceError, match=message):
            act()


def test_a_truncated_gzip_file(tmp_path: Path) -> None:
    path = words(tmp_path, name="words.tsv.gz")
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(SourceError, match="not a complete gzip file"):
        WordFrequencies(path=path).load()


def test_a_vocabulary_checks_itself_and_shows_no_value() -> None:
    good = most_frequent_first("en", [SECRET, "b"], np.array([1.0, 3.0]))
    assert good.values == ("b", SECRET) and SECRET not in repr(good)
    for values, weights, message in (
        (("a", "a"), [0.5, 0.5], "has a value twice"),
        ((), [], "has no values"),
        (("a", "b"), [0.5], r"weights has shape \(1,\)"),
        (("a", "b"), [0.5, 0.6], "sum to 1.1"),
        (("a", "b"), [1.0, 0.0], "the least is 0"),
        (("a", "b"), [0.4, 0.6], "weights rise"),
    ):
        with pytest.raises(ValueError, match=message):
            Vocabulary(segment="en", values=values, weights=np.array(weights, dtype=np.float64))
