"""Answers that were paid for, kept on disk: a killed run reads them instead of asking again.

keep(path, [Answer(text="Dear Mei, ...")])
kept(path, 1)                               # those answers; None if there are none, or only a damaged file
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from synth.generator import GenerationError
from synth.writer import Answer


def kept(path: Path, number: int) -> list[Answer] | None:
    """The `number` answers that were kept at `path`, marked as reused; None if never written, or damaged.

    Raises GenerationError if the folder cannot be read.
    """
    with explained(path.parent):
        try:
            found = [replace(Answer(**entry), reused=True) for entry in json.loads(path.read_bytes())]
        except (FileNotFoundError, ValueError, TypeError):
            return None
    return found if len(found) == number and all(map(_is_sound, found)) else None


def keep(path: Path, answers: Sequence[Answer]) -> None:
    """Atomically, because the process may be killed and others may write the same. Raises GenerationError."""
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        scratch = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump([asdict(answer) for answer in answers], file)
            scratch.replace(path)
        except OSError:
            scratch.unlink()  # a full disk needs the space
            raise


def _is_sound(answer: Answer) -> bool:
    return (
        isinstance(answer.text, str)
        and isinstance(answer.log_likelihood, float | int | None)
        and isinstance(answer.tokens, int | None)
    )


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Errors of the file system as one GenerationError that says what to do."""
    try:
        yield
    except OSError as error:
        raise GenerationError(
            f"answers cannot be kept in {folder} ({error.strerror}); free space, allow writing or set writer.cache, "
            "then run the same command again: what is finished is kept"
        ) from None
