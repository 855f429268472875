"""The rows of a frequency file on their way to vocabularies: every class of frequencies feeds one.

gathered = Gathered(path, "word")
gathered.add("line 2", "en", "the", ("count", 3), problems)
gathered.loaded(("en",), problems)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_poll.events.rows import Problems, listed_few, text_of, weight_of
from device_poll.events.vocabulary import Loaded, Vocabulary, most_frequent_first
from device_poll.sources.items import SourceError

_MARKS = {"0": False, "1": True}


class Gathered:
    """Values and weights of each segment on their way to vocabularies."""

    def __init__(self, path: Path, value_name: str) -> None:
        self._path, self._value_name = path, value_name
        self._seen: dict[str, None] = {}
        self._rows: dict[str, dict[str, tuple[float, tuple[object, ...]]]] = {}
        self._first: dict[tuple[str, str], str] = {}

    @property
    def segments(self) -> list[str]:
        """All segments of the file, sorted."""
        return sorted(self._seen)

    def see(self, segment: str) -> None:
        """Remember that the file has this segment."""
        self._seen[segment] = None

    def add(
        self,
        where: str,
        segment: str,
        value: object,
        weight: tuple[str, object],
        problems: Problems,
        marks: Sequence[object] = (),
    ) -> None:
        """Take one row; `weight` with its name."""
        text = text_of(value, self._value_name, where, problems)
        number = None if text is None else weight_of(weight[1], weight[0], where, problems)
        if text is None or number is None:
            return
        rows = self._rows.setdefault(segment, {})
        if text in rows:
            first = self._first[segment, text]
            problems.bad(
                "duplicate", f"{where} has the {self._value_name} of {first} again; expected each once; delete one"
            )
        elif number == 0:
            problems.leave_out("zero")
        else:
            rows[text], self._first[segment, text] = (number, tuple(marks)), where

    def loaded(self, segments: Sequence[str], problems: Problems, mark_names: Sequence[str] = ()) -> Loaded:
        """The vocabularies. Raises SourceError for a segment without rows."""
        for segment in segments:
            if not self._rows.get(segment):
                counts = ", ".join(f"{n} {reason}" for reason, n in problems.dropped.items())
                left = f" (left out: {counts})" if counts else ""
                raise SourceError(
                    f"{self._path} has no usable rows of segment {segment!r}{left}; it has: "
                    f"{listed_few(self.segments)}; name one of these, or bring another file"
                )
        vocabularies = tuple(self._vocabulary(segment, mark_names) for segment in segments)
        return Loaded(vocabularies=vocabularies, dropped=problems.dropped)

    def _vocabulary(self, segment: str, mark_names: Sequence[str]) -> Vocabulary:
        rows = self._rows[segment]
        weights = np.array([weight for weight, _ in rows.values()])
        marks: dict[str, NDArray[np.bool_]] = {}
        for place, name in enumerate(mark_names):
            cells = [marks_of_row[place] for _, marks_of_row in rows.values()]
            if any(cell not in (None, "") for cell in cells):
                marks[name] = self._mark(segment, name, cells)
        return most_frequent_first(segment, list(rows), weights, marks)

    def _mark(self, segment: str, name: str, cells: list[object]) -> NDArray[np.bool_]:
        wrong = sum(str(cell) not in _MARKS for cell in cells)
        if wrong:
            raise SourceError(
                f"{self._path}: column {name} of segment {segment!r} holds something other than 0 and 1 in {wrong} of "
                f"{len(cells)} rows; expected 0 or 1 in all rows of a segment or none; fill or empty it"
            )
        return np.array([_MARKS[str(cell)] for cell in cells])
