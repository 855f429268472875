"""Write a corpus without a poll: `synthpoll generate n=2000 out=emails`.

Finished chunks of texts are in the cache by content hash, so a command that was killed continues where it stopped when
it is given again, and ends with the same texts.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from embed.cache import CachedEncoder
from embed.encoder import Encoder
from experiments.folder.layout import CORPUS
from experiments.folder.store import RunFolder
from experiments.progress import bar
from experiments.stages import Timings, effort
from privacy.randomness import Stage, seed_sequence
from synth.generator import Generation, Generator


@dataclass(frozen=True, kw_only=True)
class Generate:
    """`n` texts of `generator` into the folder `out`. Raises ValueError for n below 1 or a negative seed."""

    n: int
    seed: int
    out: str
    cache: str
    generator: Generator
    encoder: Encoder

    def __post_init__(self) -> None:
        if not isinstance(self.n, int) or isinstance(self.n, bool) or self.n < 1:
            raise ValueError(f"n is {self.n!r}; expected a whole number of texts, 1 or more")
        seed_sequence(self.seed, 0, Stage.SEED_CORPUS)


def generate(job: Generate, config: str, console: Console) -> Path:
    """Write the corpus and `config`, the resolved configuration; return the folder.

    Raises GenerationError or EncoderError, or StoreError for a folder that cannot be written, is in use or was written
    with another configuration.
    """
    for part in (job.generator, job.encoder):
        part.check()
    with RunFolder(Path(job.out)).opened(config) as folder:
        made, seconds = _made(job, folder, console)
        folder.write_table(CORPUS, made.corpus.to_table())
        lines = [
            json.dumps({"subject": e.subject, "text": e.text, "attributes": dict(e.attributes)}, ensure_ascii=False)
            for e in made.corpus
        ]
        folder.write_text("texts.jsonl", "\n".join(lines) + "\n")
        folder.write_json(
            "generation.json",
            {
                "generator": job.generator.name,
                "seed": job.seed,
                "attempted": made.attempted,
                "kept": len(made.corpus),
                "drops": made.drops,
            },
        )
    console.print(f"In {seconds:.0f} s {made.counted}")
    console.print(f"Texts: {folder.path}", soft_wrap=True)
    return folder.path


def _made(job: Generate, folder: RunFolder, console: Console) -> tuple[Generation, float]:
    """The texts, and the seconds that they took."""
    encoder = CachedEncoder(job.encoder, Path(job.cache).expanduser() / "embeddings" / "synthetic.sqlite")
    generator = job.generator.with_encoder(encoder.encode)
    start = time.perf_counter()
    with Timings(folder).measure(0, "run: seed corpus") as facts, bar(console, "Writing") as advance:
        made = generator.seed(job.n, seed_sequence(job.seed, 0, Stage.SEED_CORPUS), advance)
        facts.update(effort(made))
    return made, time.perf_counter() - start
