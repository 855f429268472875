"""Real frequencies from files: words, emoji, ranked domains, plain lists, and any table of the same idea.

    EmojiFrequencies(path="emojis.jsonl.gz", segments=("en", "fr")).load().vocabularies
    TableFrequencies(path="apps.csv", value="app", weight="opens", segment="country").load()

None of the files is part of the project; every class says which columns it reads, so that any file of the same shape
will do. Only frequencies are read: a file may hold further columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from device_poll.events.gathered import Gathered
from device_poll.events.rows import (
    OnBadRow,
    Problems,
    check_exponent,
    check_file,
    check_on_bad_row,
    check_table,
    decoded,
    read_rows,
    text_of,
    weight_of,
)
from device_poll.events.vocabulary import EVERYWHERE, Loaded
from device_poll.sources.items import SourceError
from synth.rows.files import numbered_lines, open_bytes

_WORD_MARKS = ("in_debian_wamerican_huge", "in_npm_word_list", "in_urban_dictionary")


@dataclass(frozen=True, kw_only=True)
class WordFrequencies:
    """Words of keyboard locales: a TSV (.tsv, .tsv.gz; no quotes) with the columns locale, word, count_per_billion.

    The columns in_debian_wamerican_huge, in_npm_word_list and in_urban_dictionary (1 or 0), if the file has them and a
    segment fills them, become marks: in which dictionaries a word is. `segments` are the locales to read.
    """

    path: str | Path | None = None
    segments: Sequence[str] = ("en",)
    on_bad_row: OnBadRow = "error"

    def check(self) -> None:
        """Raises SourceError for a missing file or impossible options."""
        _check_segments(self.segments)
        check_on_bad_row(self.on_bad_row)
        check_table(check_file(self.path, _WORDS))

    def load(self) -> Loaded:
        """One vocabulary a segment. Raises SourceError."""
        self.check()
        path = check_file(self.path, _WORDS)
        gathered, problems = Gathered(path, "word"), Problems(path, self.on_bad_row)
        asked, columns = set(self.segments), ("locale", "word", "count_per_billion")
        for where, (locale, word, count, *marks) in read_rows(path, columns, problems, _WORD_MARKS):
            gathered.see(str(locale))
            if locale in asked:
                gathered.add(where, str(locale), word, ("count_per_billion", count), problems, marks)
        return gathered.loaded(self.segments, problems, _WORD_MARKS)


_WORDS = "a TSV of words with the columns locale, word, count_per_billion, such as words_by_locale.tsv.gz"


@dataclass(frozen=True, kw_only=True)
class EmojiFrequencies:
    """Emoji of keyboard locales: JSON lines with `emoji` and `per_billion_words`, an object of locale and frequency."""

    path: str | Path | None = None
    segments: Sequence[str] = ("en", "fr")
    on_bad_row: OnBadRow = "error"

    def check(self) -> None:
        """Raises SourceError for a missing file or impossible options."""
        _check_segments(self.segments)
        check_on_bad_row(self.on_bad_row)
        check_table(check_file(self.path, _EMOJI))

    def load(self) -> Loaded:
        """One vocabulary a segment; an emoji without a frequency there is not in it. Raises SourceError."""
        self.check()
        path = check_file(self.path, _EMOJI)
        gathered, problems = Gathered(path, "emoji"), Problems(path, self.on_bad_row)
        for where, (emoji, frequencies) in read_rows(path, ("emoji", "per_billion_words"), problems):
            if not isinstance(frequencies, dict):
                found = f"per_billion_words of type {type(frequencies).__name__}"
                problems.bad("malformed", f"{where} has {found}; expected an object of locale and number; correct it")
                continue
            for locale in frequencies:
                gathered.see(locale)
            asked = [locale for locale in self.segments if locale in frequencies]
            problems.leave_out("no_frequency", not asked)
            for locale in asked:
                gathered.add(where, locale, emoji, (f"the frequency of {locale}", frequencies[locale]), problems)
        return gathered.loaded(self.segments, problems)


_EMOJI = "JSON lines with emoji and per_billion_words, such as emojis.jsonl.gz"


@dataclass(frozen=True, kw_only=True)
class RankedDomains:
    """Domains by rank: a TSV or CSV with the columns domain and `rank_column`; one segment, 'all'.

    Rank lists give no visits: the weight of rank r is r^-exponent (Zipf). Domains without a rank are left out.
    """

    path: str | Path | None = None
    rank_column: str = "rank_tranco_2025"
    exponent: float = 1.0
    on_bad_row: OnBadRow = "error"

    def check(self) -> None:
        """Raises SourceError for a missing file or impossible options."""
        check_exponent(self.exponent)
        check_on_bad_row(self.on_bad_row)
        check_table(check_file(self.path, self._expected))

    def load(self) -> Loaded:
        """The vocabulary of all devices. Raises SourceError."""
        self.check()
        path = check_file(self.path, self._expected)
        gathered, problems = Gathered(path, "domain"), Problems(path, self.on_bad_row)
        gathered.see(EVERYWHERE)
        for where, (domain, rank) in read_rows(path, ("domain", self.rank_column), problems):
            if rank is None or rank == "":
                problems.leave_out("unranked")
                continue
            number = weight_of(rank, self.rank_column, where, problems)
            if number is None:
                continue
            if number < 1:
                problems.bad("weight", f"{where} has {self.rank_column} {number:g}; expected ranks from 1; correct it")
                continue
            gathered.add(where, EVERYWHERE, domain, ("weight", number**-self.exponent), problems)
        return gathered.loaded((EVERYWHERE,), problems)

    @property
    def _expected(self) -> str:
        return f"a TSV with the columns domain and {self.rank_column}, such as domains.tsv.gz"


@dataclass(frozen=True, kw_only=True)
class ListedValues:
    """A text file with one value a line, most frequent first; one segment, 'all'.

    Nobody publishes how often the values of such a list occur: the weight of line r is ASSUMED to be r^-exponent. The
    default list, health_types.txt, holds identifiers of health data types, a public interface of a phone's operating
    system; their order is a guess as well.
    """

    path: str | Path | None = None
    exponent: float = 1.0
    on_bad_row: OnBadRow = "error"

    def check(self) -> None:
        """Raises SourceError for a missing file or impossible options."""
        check_exponent(self.exponent)
        check_on_bad_row(self.on_bad_row)
        if self.path is not None:
            check_file(self.path, _LIST)

    def load(self) -> Loaded:
        """The vocabulary of all devices. Raises SourceError."""
        self.check()
        if self.path is not None:
            return self._read(Path(self.path))
        with as_file(files("device_poll.events") / "health_types.txt") as path:
            return self._read(path)

    def _read(self, path: Path) -> Loaded:
        gathered, problems, rank = Gathered(path, "value"), Problems(path, self.on_bad_row), 0
        gathered.see(EVERYWHERE)
        with open_bytes(path) as file:
            for number, _, line in numbered_lines(file):
                text = decoded(line, f"line {number}", problems)
                if text is not None and text.strip():
                    rank += 1
                    weight = rank**-self.exponent
                    gathered.add(f"line {number}", EVERYWHERE, text.strip(), ("weight", weight), problems)
        return gathered.loaded((EVERYWHERE,), problems)


_LIST = "a text file with one value a line, most frequent first"


@dataclass(frozen=True, kw_only=True)
class TableFrequencies:
    """Any table (TSV, CSV, JSON lines; plain or .gz): `value`, `weight` and `segment` name its columns.

    Without `segment` there is one segment, 'all'; with it, `segments` are those to read, in order (empty: all, sorted).
    """

    path: str | Path | None = None
    value: str
    weight: str
    segment: str | None = None
    segments: Sequence[str] = ()
    on_bad_row: OnBadRow = "error"

    def check(self) -> None:
        """Raises SourceError for a missing file or impossible options."""
        check_on_bad_row(self.on_bad_row)
        if self.segments:
            _check_segments(self.segments)
            if self.segment is None:
                raise SourceError(
                    "vocabulary.segments is given but vocabulary.segment is null; name the column that holds them"
                )
        check_table(check_file(self.path, self._expected))

    def load(self) -> Loaded:
        """One vocabulary a segment. Raises SourceError."""
        self.check()
        path = check_file(self.path, self._expected)
        gathered, problems = Gathered(path, self.value), Problems(path, self.on_bad_row)
        columns = (self.value, self.weight) + (() if self.segment is None else (self.segment,))
        for where, (value, weight, *segment) in read_rows(path, columns, problems):
            name = EVERYWHERE if self.segment is None else text_of(segment[0], self.segment, where, problems)
            if name is not None:
                gathered.see(name)
                if not self.segments or name in self.segments:
                    gathered.add(where, name, value, (self.weight, weight), problems)
        return gathered.loaded(self.segments or gathered.segments, problems)

    @property
    def _expected(self) -> str:
        names = [name for name in (self.value, self.weight, self.segment) if name is not None]
        return f"a table (.tsv, .csv, .jsonl, plain or .gz) with the columns {', '.join(names)}"


def _check_segments(segments: Sequence[str]) -> None:
    if isinstance(segments, str) or not segments or not all(isinstance(name, str) and name for name in segments):
        raise SourceError(f"vocabulary.segments is {segments!r}; expected a list of names, such as [en, fr]")
    if len(set(segments)) < len(segments):
        raise SourceError(f"vocabulary.segments is {list(segments)}; expected each segment once")
