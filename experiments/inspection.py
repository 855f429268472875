"""What the generator wrote, in numbers and unedited: `synthpoll inspect RUN`.

No number replaces reading: the command prints random texts of the folder's corpora as they are.

    found = inspect_folder(Path("runs/town/seed0-..."), encoder, grid)
    print_texts(console, found)
    print_numbers(console, {"town": found})        # several side by side
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from embed.encoder import Encoder
from experiments.folder import layout
from experiments.folder.layout import CORPUS, TIMINGS
from experiments.folder.reader import RunFiles
from experiments.folder.store import StoreError
from experiments.refine.measures import self_similarity
from synth.attributes import AttributeGrid
from synth.corpus import Corpus, Example
from synth.filters import words
from synth.languages import in_another_language


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Shares are in [0, 1].

    `distinct`: by n, different runs of n words among all such runs (falls with the number of texts);
    `self_similarity`: mean cosine of pairs of texts; `topic_control`: texts whose own topic is nearest of all topics
    in the corpus, by the `encoder`, with `topics` to choose from; `length_control`: texts within the words asked
    for; `language_control`: texts whose function words are of the language asked for; `coverage`: of the grid;
    `attempted` and `drops`: over all rounds. `kept_per_minute` and `tokens_per_second` are those of timings.csv, over
    all writing that took no answer from the cache; None where there is none, or where the backend counts no tokens.
    """

    texts: int
    distinct: Mapping[int, float]
    self_similarity: float
    topic_control: float
    topics: int
    encoder: str
    length_control: float
    language_control: float
    coverage: Mapping[str, float]
    attempted: int
    drops: Mapping[str, int]
    kept_per_minute: float | None
    tokens_per_second: float | None
    shown: tuple[Example, ...]


def corpora(folder: Path) -> Corpus:
    """Every distinct example of a run folder or of a folder of `synthpoll generate`, in order of birth."""
    paths = layout.rounds(folder, lambda step: step.corpus) or sorted(folder.glob(CORPUS))
    if not paths:
        raise StoreError(f"{folder} holds no corpus; give a run folder or a folder that `synthpoll generate` wrote")
    found = {example.id: example for path in paths for example in Corpus.from_parquet(path)}
    return Corpus(tuple(found.values()))


def inspect_folder(folder: Path, encoder: Encoder, grid: AttributeGrid, sample: int = 30, seed: int = 0) -> Inspection:
    """All numbers, and `sample` random texts. Raises StoreError if there is no corpus."""
    corpus = corpora(folder)
    vectors = encoder.encode(corpus.texts)
    asked = [example.attributes.get("topic", "") for example in corpus]
    names = sorted(set(asked))
    nearest = np.argmax(vectors @ encoder.encode(names).T, axis=1)
    spoken = [words(text) for text in corpus.texts]
    ranges = [grid.words(example.attributes) for example in corpus]
    within = [low <= len(text) <= high for text, (low, high) in zip(spoken, ranges, strict=True)]
    right = [
        not in_another_language(text, example.attributes.get("language", "English"))
        for text, example in zip(spoken, corpus, strict=True)
    ]
    attempted, drops = _counted(folder)
    per_minute, per_second = _rates(folder)
    drawn = np.random.default_rng(seed).permutation(len(corpus))[:sample]
    return Inspection(
        texts=len(corpus),
        distinct={n: _distinct(spoken, n) for n in (1, 2, 3)},
        self_similarity=self_similarity(vectors) if len(corpus) > 1 else 1.0,
        topic_control=float(np.mean([names[i] == topic for i, topic in zip(nearest, asked, strict=True)])),
        topics=len(names),
        encoder=encoder.name,
        length_control=float(np.mean(within)),
        language_control=float(np.mean(right)),
        coverage=grid.coverage([example.attributes for example in corpus]),
        attempted=attempted,
        drops=drops,
        kept_per_minute=per_minute,
        tokens_per_second=per_second,
        shown=tuple(corpus.examples[i] for i in drawn),
    )


def _counted(folder: Path) -> tuple[int, Mapping[str, int]]:
    """Attempts and drops of every generation in the folder."""
    attempted, drops = 0, Counter[str]()
    for path in (*folder.glob("*.json"), *layout.rounds(folder)):
        content = RunFiles.everything(folder).content(str(path.relative_to(folder)))
        if "attempted" in content and "drops" in content:
            attempted += content["attempted"]
            drops.update(content["drops"])
    return attempted, dict(drops.most_common())


def _distinct(spoken: Sequence[Sequence[str]], n: int) -> float:
    runs = [tuple(text[i : i + n]) for text in spoken for i in range(len(text) - n + 1)]
    return len(set(runs)) / max(len(runs), 1)


def _rates(folder: Path) -> tuple[float | None, float | None]:
    """Texts kept a minute and tokens a second (Inspection). Arms of a run do not count."""
    files = RunFiles.everything(folder)
    rows = files.text_rows(TIMINGS) if files.has(TIMINGS) else []
    fresh = [row for row in rows if row["stage"].startswith("run: ") and row.get("reused") == "0"]
    seconds = sum(float(row["seconds"]) for row in fresh)
    if seconds == 0:
        return None, None
    told = all(row["tokens"] for row in fresh)
    return (
        60 * sum(int(row["kept"]) for row in fresh) / seconds,
        sum(int(row["tokens"]) for row in fresh) / seconds if told else None,
    )


def print_texts(console: Console, found: Inspection) -> None:
    """The random texts, with what was asked for."""
    for number, example in enumerate(found.shown, start=1):
        about = ", ".join(v for k, v in example.attributes.items() if k not in ("template", "entities"))
        console.print(Text.assemble((f"{number}.", "bold"), f" ({about})"))
        console.print(f"Subject: {example.subject}\n{example.text}\n", markup=False, highlight=False)


def print_numbers(console: Console, found: Mapping[str, Inspection]) -> None:
    """A column for every folder."""
    table = Table()
    table.add_column("")
    for name in found:
        table.add_column(Text(name), overflow="fold")
    columns = [_column(one) for one in found.values()]
    for measure in columns[0]:
        table.add_row(measure, *(column[measure] for column in columns))
    console.print(table)


def _column(one: Inspection) -> dict[str, str]:
    kept = one.attempted - sum(one.drops.values())
    return {
        "texts": str(one.texts),
        "distinct-1, -2, -3": ", ".join(f"{share:.3f}" for share in one.distinct.values()),
        "encoder of the next two": one.encoder,
        "mean cosine of two texts": f"{one.self_similarity:.3f}",
        "own topic is the nearest of all": f"{one.topic_control:.0%} of {one.topics}",
        "words within the range asked for": f"{one.length_control:.0%}",
        "language asked for": f"{one.language_control:.0%}",
        "grid covered": ", ".join(f"{name} {share:.0%}" for name, share in one.coverage.items()),
        "kept of attempted": f"{kept} of {one.attempted}",
        "dropped": ", ".join(f"{reason} {count}" for reason, count in one.drops.items()),
        "kept a minute": _rate(one.kept_per_minute, "not measured"),
        "tokens a second": _rate(one.tokens_per_second, "not counted"),
    }


def _rate(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"
