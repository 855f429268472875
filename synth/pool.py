"""A pool: texts that somebody else wrote, in a file. The poll says which of them resembles what devices hold.

    generator = PoolGenerator(path="texts.jsonl.gz", fields=PoolFields(attributes=("topic",)))
    generator.check()                                    # reads the file; later calls use what was read
    corpus = generator.seed(300, stream, progress).corpus

No language model is needed. With a `writer`, texts that the pool lacks and all variations are the writer's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synth.corpus import Corpus, Example
from synth.generator import Encode, Generation, GenerationError, Generator, Progress
from synth.rows.files import SourceError
from synth.rows.formats import TABLES
from synth.rows.taking import Columns, OnBadRow, Rows, has_surrogate, kind

POOL = "pool"
"""The operator of a text from a pool, and how the name of its generator begins."""


@dataclass(frozen=True, kw_only=True)
class PoolFields:
    """Which column of a pool holds what.

    `subject` None: no text has a subject. The columns of `attributes` become attributes of the same names: strings, or
    numbers as they are written; where one is null or empty, the text has no such attribute. `delimiter`: what stands
    between the cells of a CSV file: comma, semicolon, tab or pipe. Raises ValueError where a column is named twice.
    """

    text: str = "text"
    subject: str | None = None
    attributes: Sequence[str] = ()
    delimiter: str = "comma"

    def __post_init__(self) -> None:
        if isinstance(self.attributes, str):
            raise ValueError(
                f"generator.fields.attributes is {self.attributes!r}; expected a list of columns, such as "
                f"[{self.attributes}]"
            )
        named = [name for name in (self.text, self.subject, *self.attributes) if name is not None]
        if twice := [name for name in named if named.count(name) > 1]:
            raise ValueError(f"generator.fields names {twice[0]!r} twice; expected each column once; drop one")

    @property
    def columns(self) -> Columns:
        """The columns that are read."""
        subject = () if self.subject is None else (self.subject,)
        return Columns(
            text=self.text,
            others=(*subject, *self.attributes),
            advice={
                self.text: " in generator.fields.text",
                **dict.fromkeys(subject, " in generator.fields.subject"),
                **dict.fromkeys(self.attributes, " in generator.fields.attributes"),
            },
            delimiter=self.delimiter,
            delimiter_key="generator.fields.delimiter",
        )


@dataclass(frozen=True, kw_only=True)
class PoolGenerator:
    """Texts out of a file: JSONL(.gz), CSV(.gz), Parquet or a Hugging Face dataset folder; at most a million or so.

    A row without a usable text, and one whose text is exactly that of an earlier row, is bad: an error, or with
    `on_bad_row` 'skip' left out and counted. What the pool lacks is written by `writer`, and so are all variations.
    The file is read once, by `check` or by whatever needs it first, and then held in memory. A million texts of 100
    characters take 0.5 GB at most and 5 to 9 s on one core. Raises ValueError for another `on_bad_row`.
    """

    path: str | None
    fields: PoolFields = field(default_factory=PoolFields)
    format: str = "auto"
    on_bad_row: OnBadRow = "error"
    writer: Generator | None = None

    def __post_init__(self) -> None:
        if self.on_bad_row not in ("error", "skip"):
            raise ValueError(f"generator.on_bad_row is {self.on_bad_row!r}; expected 'error' or 'skip'")

    @property
    def name(self) -> str:
        """'pool:FILE DIGEST', and ' + ' the writer's name if there is one. Reads the file: GenerationError as `check`.

        The digest is of the usable rows, so lineage names what was read wherever and in which format it lies.
        """
        return self._pool_name if self.writer is None else f"{self._pool_name} + {self.writer.name}"

    @property
    def reproducible(self) -> str | None:
        """None, or why the writer need not repeat itself."""
        return None if self.writer is None else self.writer.reproducible

    @property
    def available(self) -> int:
        """How many usable texts there are. Reads the file: GenerationError as `check`."""
        return len(self._held.texts)

    @property
    def writes(self) -> bool:
        """Whether there is a writer."""
        return self.writer is not None

    def check(self) -> None:
        """Read the file now. Raises GenerationError, one line, if it cannot be used or the writer lacks anything."""
        _ = self._held
        if self.writer is not None:
            self.writer.check()

    def check_parents(self, parents: Corpus) -> None:
        """Raise GenerationError without a writer, and as the writer does."""
        if self.writer is None:
            raise GenerationError(
                f"the pool of {self.path} has no writer, and variations of what wins are to be written; set one, such "
                "as generator=pool_and_smollm2"
            )
        self.writer.check_parents(parents)

    def with_encoder(self, encode: Encode) -> PoolGenerator:
        """The same, with a writer that may use `encode`: the pool's own texts are taken as they are."""
        if self.writer is None:
            return self
        other = replace(self, writer=self.writer.with_encoder(encode))
        if "_held" in vars(self):
            vars(other)["_held"] = self._held  # what was read stays read, also if the file has changed since
        return other

    def seed(self, n: int, stream: np.random.SeedSequence, progress: Progress) -> Generation:
        """All texts in file order if there are at most n, and then what the writer makes up for; else n drawn texts.

        Drawn at random without replacement, and kept in file order; those not drawn are counted as 'surplus'. Without a
        writer there may be fewer than n. Raises GenerationError as `check`, and what the writer raises.
        """
        held, size = self._held, len(self._held.texts)
        chosen = np.arange(size)
        if n < size:
            chosen = np.sort(np.random.default_rng(stream).choice(size, size=n, replace=False))
        drops = held.skipped | ({"surplus": size - n} if n < size else {})
        corpus = Corpus(tuple(self._example(int(i)) for i in chosen))
        progress(len(corpus), n)
        made = Generation(corpus, len(corpus) + sum(drops.values()), drops, tokens=0)
        if self.writer is None or n <= size:
            return made
        return _added(made, self.writer.seed(n - size, stream, lambda kept, _: progress(size + kept, n)))

    def vary(
        self,
        parents: Corpus,
        weights: NDArray[np.float64],
        n: int,
        round: int,
        stream: np.random.SeedSequence,
        progress: Progress,
    ) -> Generation:
        """The writer's n variations. Without a writer: none if n is 0, and GenerationError if it is not."""
        if self.writer is not None:
            return self.writer.vary(parents, weights, n, round, stream, progress)
        if n:
            self.check_parents(parents)
        progress(0, 0)
        return Generation(Corpus(), 0, {}, tokens=0)

    def _example(self, place: int) -> Example:
        held = self._held
        return Example(
            text=held.texts[place],
            subject=held.subjects[place] if held.subjects else "",
            attributes=held.attributes[place] if held.attributes else _NOTHING,
            operator=POOL,
            round=0,
            model=self._pool_name,
            prompt="",
        )

    @cached_property
    def _pool_name(self) -> str:
        path = Path(str(self.path))
        return f"{POOL}:{path.name or path.resolve().name} {self._held.digest}"

    @cached_property
    def _held(self) -> _Held:
        if self.path is None:
            raise GenerationError("generator.path is not set; give a file of texts (generator.path=TEXTS.jsonl.gz)")
        path = Path(self.path).expanduser()
        try:
            if not path.exists():
                raise GenerationError(f"generator.path={self.path} does not exist; give an existing file or folder")
            rows = _PoolRows(path, self.fields, self.on_bad_row)
            TABLES.readers[TABLES.of(path, self.format)](path, rows)
            return rows.finish()
        except SourceError as error:
            raise GenerationError(str(error)) from None
        except PermissionError:  # of a folder; files are told by their reader
            raise GenerationError(
                f"generator.path={self.path} is not readable (permission denied); give this user read access"
            ) from None


_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What was read: one entry a usable text, in file order; no subjects or attributes where none were asked for."""

    texts: tuple[str, ...]
    subjects: tuple[str, ...]
    attributes: tuple[Mapping[str, str], ...]
    skipped: dict[str, int]
    digest: str


class _PoolRows(Rows):
    """Takes the rows of a pool's file."""

    def __init__(self, path: Path, fields: PoolFields, on_bad_row: OnBadRow) -> None:
        super().__init__(source=path, columns=fields.columns, on_bad_row=on_bad_row, skip="generator.on_bad_row=skip")
        self._fields = fields
        self._where: dict[str, str] = {}  # of every usable text, in file order
        self._subjects: list[str] = []
        self._attributes: list[Mapping[str, str]] = []
        self._shared: dict[tuple[str, ...], Mapping[str, str]] = {}
        self._hash = hashlib.blake2b(digest_size=6)
        self._add_to_digest(fields.attributes)

    def take(self, where: str, row: Mapping[str, object], time: float | None) -> None:
        """Take one row if its text, subject and attributes can be used."""
        text = self.text_of(where, row[self._fields.text])
        if text is None:
            return
        if not text or text.isspace():
            self.bad("empty", f"the text of {where} is empty; expected words; write or remove it")
        elif (first := self._where.get(text)) is not None:
            self.bad("repeated", f"the text of {where} is that of {first}; expected each text once; remove one")
        else:
            self._take_text(where, text, row)

    def _take_text(self, where: str, text: str, row: Mapping[str, object]) -> None:
        found: list[str] = []
        for name in self.columns.others:
            cell = row[name]
            # True is a number in Python and a word here.
            entry = "" if cell is None else str(cell) if isinstance(cell, str | int | float) else None
            if entry is None:
                self.bad("not_text", f"{name!r} of {where} is {kind(cell)}; expected a string or a number; correct it")
                return
            if has_surrogate(entry):
                self.bad(
                    "undecodable", f"{name!r} of {where} holds half a surrogate pair; expected Unicode; correct it"
                )
                return
            found.append(entry)
        self._where[text] = where
        self._add_to_digest((text, *found))
        if self._fields.subject is not None:
            self._subjects.append(found.pop(0))
        if self._fields.attributes:
            self._attributes.append(self._named(tuple(found)))

    def _named(self, entries: tuple[str, ...]) -> Mapping[str, str]:
        """One mapping for all rows that have the same attributes: a million would take hundreds of megabytes."""
        if entries not in self._shared:
            pairs = zip(self._fields.attributes, entries, strict=True)
            self._shared[entries] = {name: entry for name, entry in pairs if entry.strip()}
        return self._shared[entries]

    def _add_to_digest(self, entries: Iterable[str]) -> None:
        for entry in entries:
            encoded = entry.encode()
            self._hash.update(b"%d:" % len(encoded))
            self._hash.update(encoded)

    def finish(self) -> _Held:
        """All that was read. Raises SourceError if there is no usable text."""
        if not self._where:
            counts = ", ".join(f"{n} {reason}" for reason, n in sorted(self.skipped.items()))
            hint = self.missing_field or "expected one text a row; check generator.path and generator.fields"
            raise SourceError(f"{self.source} has no usable texts ({counts or 'it is empty'}); {hint}")
        return _Held(
            texts=tuple(self._where),
            subjects=tuple(self._subjects),
            attributes=tuple(self._attributes),
            skipped=dict(sorted(self.skipped.items())),
            digest=self._hash.hexdigest(),
        )


def _added(pool: Generation, written: Generation) -> Generation:
    """What a writer wrote behind what a pool had."""
    return Generation(
        pool.corpus + written.corpus,
        pool.attempted + written.attempted,
        dict(Counter(pool.drops) + Counter(written.drops)),
        tokens=written.tokens,
        reused=written.reused,
    )
