"""Answers that were paid for, one file each: a killed run reads them instead of asking again.

keep(path, Answer(text="Dear Mei, ..."))
kept(path)                              # that answer; None if there is none, or only a damaged file
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from synth.generator import GenerationError
from synth.writer import Answer


def kept(path: Path) -> Answer | None:
    """What was kept at `path`. Raises GenerationError if the folder cannot be read."""
    with explained(path.parent):
        try:
            return Answer(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # never written; damaged: asked for again
            return None


def keep(path: Path, answer: Answer) -> None:
    """Atomically, because the process may be killed and others may write the same. Raises GenerationError."""
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        scratch = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(answer), file)
            scratch.replace(path)
        except OSError:
            scratch.unlink()  # a full disk needs the space
            raise


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Errors of the file system as one GenerationError that says what to do."""
    try:
        yield
    except OSError as error:
        raise GenerationError(
            f"answers cannot be kept in {folder} ({error.strerror}); free space, allow writing or set writer.cache"
        ) from None
