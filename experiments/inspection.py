"""What the generator wrote, in numbers and unedited: `synthpoll inspect RUN`.

No number replaces reading: the command prints random texts of the folder's corpora as they are.

    report = inspect_folder(Path("runs/town/seed0-..."), encode)
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.measures import self_similarity
from experiments.store import StoreError
from synth.attributes import AttributeGrid
from synth.corpus import Corpus, Example
from synth.filters import words
from synth.generator import Encode
from synth.languages import likely_language


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Shares are in [0, 1].

    `distinct_2`: different word pairs among all of them; `self_similarity`: mean cosine of pairs of texts;
    `topic_control`: texts whose own topic is the nearest of all topics in the corpus, by the encoder, with
    `topics` of them to choose from; `length_control`: texts within the words asked for; `language_control`: texts whose
    function words are of the language asked for; `coverage`: of the grid; `attempted` and `drops`: over all rounds.
    """

    texts: int
    distinct_2: float
    self_similarity: float
    topic_control: float
    topics: int
    length_control: float
    language_control: float
    coverage: Mapping[str, float]
    attempted: int
    drops: Mapping[str, int]
    shown: tuple[Example, ...]


def corpora(folder: Path) -> Corpus:
    """Every distinct example of a run folder or of a folder of `synthpoll generate`, in order of birth."""
    paths = sorted(folder.glob("rounds/*/corpus.parquet")) or sorted(folder.glob("corpus.parquet"))
    if not paths:
        raise StoreError(f"{folder} holds no corpus; give a run folder or a folder that `synthpoll generate` wrote")
    found = {example.id: example for path in paths for example in Corpus.from_parquet(path)}
    return Corpus(tuple(found.values()))


def inspect_folder(folder: Path, encode: Encode, grid: AttributeGrid, sample: int = 30, seed: int = 0) -> Inspection:
    """All numbers, and `sample` random texts. Raises StoreError if there is no corpus."""
    corpus = corpora(folder)
    vectors = encode(corpus.texts)
    asked = [example.attributes.get("topic", "") for example in corpus]
    names = sorted(set(asked))
    nearest = np.argmax(vectors @ encode(names).T, axis=1)
    spoken = [words(text) for text in corpus.texts]
    pairs = [pair for text in spoken for pair in itertools.pairwise(text)]
    ranges = [grid.words(example.attributes) for example in corpus]
    within = [low <= len(text) <= high for text, (low, high) in zip(spoken, ranges, strict=True)]
    right = [
        likely_language(text) in (example.attributes.get("language", "English"), None)
        for text, example in zip(spoken, corpus, strict=True)
    ]
    attempted, drops = _counted(folder)
    drawn = np.random.default_rng(seed).permutation(len(corpus))[:sample]
    return Inspection(
        texts=len(corpus),
        distinct_2=len(set(pairs)) / max(len(pairs), 1),
        self_similarity=self_similarity(vectors) if len(corpus) > 1 else 1.0,
        topic_control=float(np.mean([names[i] == topic for i, topic in zip(nearest, asked, strict=True)])),
        topics=len(names),
        length_control=float(np.mean(within)),
        language_control=float(np.mean(right)),
        coverage=grid.coverage([example.attributes for example in corpus]),
        attempted=attempted,
        drops=drops,
        shown=tuple(corpus.examples[i] for i in drawn),
    )


def _counted(folder: Path) -> tuple[int, Mapping[str, int]]:
    """Attempts and drops of every generation in the folder."""
    attempted, drops = 0, Counter[str]()
    for path in (*folder.glob("*.json"), *folder.glob("rounds/*/round.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "attempted" in content and "drops" in content:
            attempted += content["attempted"]
            drops.update(content["drops"])
    return attempted, dict(drops.most_common())


def print_inspection(console: Console, found: Inspection) -> None:
    """The texts first, then the numbers."""
    for number, example in enumerate(found.shown, start=1):
        about = ", ".join(v for k, v in example.attributes.items() if k not in ("template", "entities"))
        console.print(f"[bold]{number}.[/bold] ({about})", highlight=False)
        console.print(f"Subject: {example.subject}\n{example.text}\n", markup=False, highlight=False)
    table = Table(title=f"{found.texts} texts", show_header=False)
    rows: Sequence[tuple[str, str]] = [
        ("different word pairs (distinct-2)", f"{found.distinct_2:.3f}"),
        ("mean cosine of two texts", f"{found.self_similarity:.3f}"),
        (f"own topic is the nearest of {found.topics}", f"{found.topic_control:.0%}"),
        ("words within the range asked for", f"{found.length_control:.0%}"),
        ("language asked for", f"{found.language_control:.0%}"),
        ("grid covered", ", ".join(f"{name} {share:.0%}" for name, share in found.coverage.items())),
        ("kept of attempted", f"{found.attempted - sum(found.drops.values())} of {found.attempted}"),
        ("dropped", ", ".join(f"{reason} {count}" for reason, count in found.drops.items())),
    ]
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
