"""Can this model rewrite? Asked once, before the rewriting operator is used.

Small models copy the text instead of changing its topic. The probe gives the model the packaged examples, asks for each
about another example's topic, and looks whether the answer is nearer to the new topic than to the old one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synth.generator import Encode, GenerationError
from synth.prompts import Form, ShownExample
from synth.writer import Answer, Prompt, Writer

# Of so many probes, this share must change the topic. A model that copies changes none, one that follows nearly all.
_PROBES = 16
_LEAST = 0.6


def rewriting_rate(writer: Writer, form: Form, examples: Sequence[ShownExample], encode: Encode) -> tuple[int, int]:
    """(answers that moved to the topic asked for, probes)."""
    count = min(_PROBES, len(examples))
    asked = [examples[(i + 1) % len(examples)].attributes for i in range(count)]
    prompts = [
        Prompt(turns=({"role": "user", "content": form.rewrite(example.body, attributes)},), limit=150, stop=form.stop)
        for example, attributes in zip(examples[:count], asked, strict=True)
    ]
    shared = [{"role": "system", "content": form.system}]
    answers = writer.write(shared, prompts, np.random.SeedSequence(0))
    bodies = [(form.parse(a.text) or ("", ""))[1] if isinstance(a, Answer) else "" for a in answers]
    texts = encode(bodies)
    new = encode([attributes["topic"] for attributes in asked])
    old = encode([example.attributes["topic"] for example in examples[:count]])
    moved = ((texts * new).sum(axis=1) > (texts * old).sum(axis=1)) & np.array([bool(body) for body in bodies])
    return int(moved.sum()), count


def check_rewriting(writer: Writer, form: Form, examples: Sequence[ShownExample], encode: Encode | None) -> None:
    """Raise GenerationError if the writer's model does not rewrite, or if there is no encoder to tell."""
    if encode is None:
        raise GenerationError(
            "generator.operators.shares.rewrite needs an encoder to probe the model with; set it to 0"
        )
    moved, probes = rewriting_rate(writer, form, examples, encode)
    if moved < _LEAST * probes:
        raise GenerationError(
            f"asked to rewrite {probes} texts about another topic, {writer.name} did so {moved} times (at least "
            f"{_LEAST:.0%} expected); set generator.operators.shares.rewrite=0 or use a larger model"
        )
