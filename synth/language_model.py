"""The generator: few-shot chats answered by a language model, filtered, with lineage.

It knows the grid, the operators and the filters; which model answers is the writer's business (synth/local_writer.py,
synth/endpoint_writer.py).

    generator = LanguageModelGenerator(writer=LocalWriter(source=..., cache=...), ...)
    corpus = generator.seed(300, stream, progress).corpus
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from synth.attributes import AttributeGrid
from synth.corpus import Corpus, Example
from synth.filters import Draft, Filters, Seen, words
from synth.generator import Encode, Generation, GenerationError, Progress
from synth.probe import check_rewriting
from synth.prompts import EmailForm, Form, ShownExample, load_examples
from synth.shortening import before_drift
from synth.variation import SEED, Asked, Operators
from synth.writer import Answer, Failure, Prompt, Writer

_SUBJECT_TOKENS = 20
_SLACK_TOKENS = 4
_TOKENS_PER_WORD = 1.4


@dataclass(frozen=True, kw_only=True)
class LanguageModelGenerator:
    """Few-shot generation and variation.

    `examples` are the few-shot examples, of which every chunk of requests shows `shown`; `system` replaces the form's
    system message (small models do best with the one they were tuned on); `attempts` bounds the requests
    per kept text; no text gets more than `max_new_tokens`, and what is cut off is shortened to what is whole (Form).
    `shares` are the proportions in which the seed corpus covers the grid (AttributeGrid.sample; None: even).
    `encode` enables the topic and the near-duplicate filter.
    """

    writer: Writer
    form: Form = field(default_factory=EmailForm)
    grid: AttributeGrid = field(default_factory=AttributeGrid.from_yaml)
    examples: tuple[ShownExample, ...] = field(default_factory=load_examples)
    filters: Filters = field(default_factory=Filters)
    operators: Operators = field(default_factory=lambda: Operators(shares={"attribute_change": 1}))
    shares: Mapping[str, Mapping[str, float]] | None = None
    shown: int = 0
    system: str | None = None
    max_new_tokens: int = 150
    attempts: float = 4.0
    encode: Encode | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"generator.max_new_tokens is {self.max_new_tokens}; expected 1 or more")
        if self.attempts < 1:
            raise ValueError(f"generator.attempts is {self.attempts}; expected 1 or more requests per kept text")
        if not 0 <= self.shown <= len(self.examples):
            raise ValueError(f"generator.shown is {self.shown}; expected 0 to {len(self.examples)} of the examples")
        self.grid.sample(1, np.random.default_rng(0), self.shares)  # raises now if shares name what is not in the grid

    @property
    def name(self) -> str:
        """Model and sampling, for lineage and cards."""
        return self.writer.name

    @property
    def reproducible(self) -> str | None:
        """None if the same seed gives the same texts; otherwise why not."""
        return self.writer.reproducible

    @property
    def available(self) -> int:
        """0: it writes all."""
        return 0

    @property
    def writes(self) -> bool:
        """It does nothing else."""
        return True

    def check(self) -> None:
        """Raise GenerationError if the writer lacks anything, or an operator that is asked for."""
        self.writer.check()
        if "continuation" in self.operators.active and not self.writer.continues:
            raise GenerationError(
                f"generator.operators.shares.continuation is above 0, but {self.name} cannot continue a text; set it 0"
            )

    def check_parents(self, parents: Corpus) -> None:
        """Raise GenerationError if a parent was not asked for with this grid, as texts from elsewhere were not."""
        for parent in parents:
            try:
                self.grid.heading(parent.attributes)
            except ValueError as error:
                raise GenerationError(
                    f"{self.name} cannot vary a text of {parent.model}: {error}; give such texts columns named as the "
                    "axes of this writer's grid, with entries of it (generator.fields.attributes)"
                ) from None

    def with_encoder(self, encode: Encode) -> LanguageModelGenerator:
        """The same generator with the filters that need an encoder switched on."""
        return replace(self, encode=encode)

    def seed(self, n: int, stream: np.random.SeedSequence, progress: Progress) -> Generation:
        """n kept examples over the grid."""
        wanted = self.grid.sample(self._most_requests(n), np.random.default_rng(stream), self.shares)
        return self._write(n, (Asked(attributes=a, operator=SEED) for a in wanted), 0, stream, progress, Seen())

    def vary(
        self,
        parents: Corpus,
        weights: NDArray[np.float64],
        n: int,
        round: int,
        stream: np.random.SeedSequence,
        progress: Progress,
    ) -> Generation:
        """n kept variations, parents in proportion to their weights."""
        if len(parents) == 0 or not np.all(weights >= 0) or not weights.sum() > 0:
            raise GenerationError(f"nothing to vary: {len(parents)} parents with total weight {weights.sum():g}")
        self.check_parents(parents)
        if "rewrite" in self.operators.active:
            check_rewriting(self.writer, self.form, self.examples, self.encode)
        rng = np.random.default_rng(stream)
        most = self._most_requests(n)
        drawn = _proportional(weights, most, n, rng)
        partners = rng.choice(len(parents), size=most, p=weights / weights.sum())
        asked = (
            self.operators.ask(parents.examples[parent], parents.examples[partner], self.grid, rng)
            for parent, partner in zip(drawn, partners, strict=True)
        )
        seen = Seen()
        if self.encode is not None:
            seen.vectors.extend(self.encode(parents.texts))
        return self._write(n, asked, round, stream, progress, seen)

    def _most_requests(self, n: int) -> int:
        return int(np.ceil(self.attempts * n)) + self.writer.chunk

    def _write(
        self,
        n: int,
        requests: Iterator[Asked],
        round: int,
        stream: np.random.SeedSequence,
        progress: Progress,
        seen: Seen,
    ) -> Generation:
        kept: list[Example] = []
        drops: Counter[str] = Counter()
        attempted, reused = 0, 0
        tokens: int | None = 0
        progress(0, n)
        for number in itertools.count():
            batch = list(itertools.islice(requests, self.writer.chunk))
            if len(kept) >= n or not batch:
                break
            child = np.random.SeedSequence(entropy=stream.entropy, spawn_key=(*stream.spawn_key, number))
            rng = np.random.default_rng(child)
            shown = [self.examples[i] for i in rng.permutation(len(self.examples))[: self.shown]]
            shared = [{"role": "system", "content": self.system or self.form.system}]
            shared += [turn for example in shown for turn in self.form.turns(example)]
            prompts = [self._prompt(asked, rng) for asked in batch]
            answers = self.writer.write(shared, prompts, child)
            attempted += len(batch)
            reused += sum(answer.reused for answer in answers if isinstance(answer, Answer))
            tokens = _sum_known(tokens, answers)
            drafts = [
                self._draft(asked, answer, prompt, shown)
                for asked, answer, prompt in zip(batch, answers, prompts, strict=True)
            ]
            drafts = self._steady(drafts)
            verdicts = self.filters.judge([draft for draft in drafts if isinstance(draft, Draft)], seen, self.encode)
            judged = iter(verdicts)
            for asked, draft, prompt in zip(batch, drafts, prompts, strict=True):
                reason = draft.reason if isinstance(draft, Failure) else next(judged)
                if reason is not None:
                    drops[reason] += 1
                elif isinstance(draft, Draft) and len(kept) < n:
                    kept.append(self._example(asked, draft, shared, prompt, round))
                else:
                    drops["surplus"] += 1
            progress(len(kept), n)
        if len(kept) < n:
            counted = ", ".join(f"{reason} {count}" for reason, count in drops.most_common())
            raise GenerationError(
                f"only {len(kept)} of {n} texts were kept after {attempted} attempts (dropped: {counted}); "
                "loosen the filters, raise generator.attempts or use a larger model"
            )
        return Generation(Corpus(tuple(kept)), attempted, dict(sorted(drops.items())), tokens, reused)

    def _prompt(self, asked: Asked, rng: np.random.Generator) -> Prompt:
        turns = [] if asked.shown is None else self.form.turns(_shown(asked.shown))
        request = self.form.request(asked.attributes)
        if asked.rewrite:
            request = self.form.rewrite(asked.rewrite, asked.attributes)
        begin = ""
        if asked.begin and asked.parent:
            begin = self.form.reopen(asked.parent.subject, asked.begin)
        elif self.writer.continues and not asked.rewrite:
            begin = self.form.begin(asked.attributes, rng)
        limit = _SLACK_TOKENS + int(_TOKENS_PER_WORD * self.grid.words(asked.attributes)[1])
        if "subject" in self.form.answered:
            limit += _SUBJECT_TOKENS
        return Prompt(
            turns=(*turns, {"role": "user", "content": request}),
            limit=min(limit, self.max_new_tokens),
            begin=begin,
            stop=self.form.stop,
        )

    def _draft(
        self, asked: Asked, answer: Answer | Failure, prompt: Prompt, shown: Sequence[ShownExample]
    ) -> Draft | Failure:
        if isinstance(answer, Failure):
            return answer
        subject, body = self.form.parse(answer.text) or ("", None)
        _, begun = self.form.parse(prompt.begin) or ("", "")
        behind = body.removeprefix(begun) if body and begun and body.startswith(begun) else ""
        if (begun[-1:] + behind[:1]).isalnum() and behind:
            return Failure(reason="word run on")  # 'red pandas' for 'red panda' is luck, 'red pandalion' the rule
        if body:
            body = self.form.shorten(body, self.grid.words(asked.attributes)[1], begun)
        if body and body == begun and not self.form.is_complete(begun, asked.attributes):
            return Failure(reason="nothing added")
        examples = [example.body for example in shown] + ([asked.shown.text] if asked.shown else [])
        return Draft(
            attributes=asked.attributes,
            subject=subject,
            body=body,
            shown=tuple(examples),
            begun=begun,
            log_likelihood=answer.log_likelihood,
        )

    def _steady(self, drafts: Sequence[Draft | Failure]) -> list[Draft | Failure]:
        """The drafts up to where they lose the thread; a failure for those that are then too short."""
        least = self.filters.min_sentence_similarity
        steady = list(drafts)
        if self.encode is None or least is None:
            return steady
        places = [i for i, draft in enumerate(drafts) if isinstance(draft, Draft) and draft.body]
        whole = [draft for draft in drafts if isinstance(draft, Draft) and draft.body]
        bodies = before_drift([draft.body or "" for draft in whole], [d.begun for d in whole], least, self.encode)
        for place, draft, body in zip(places, whole, bodies, strict=True):
            if body == draft.body:
                continue
            short = len(words(body)) < self.grid.words(draft.attributes)[0]
            steady[place] = Failure(reason="drifting") if short else replace(draft, body=body)
        return steady

    def _example(
        self, asked: Asked, draft: Draft, shared: Sequence[Mapping[str, str]], prompt: Prompt, round: int
    ) -> Example:
        whole = json.dumps([list(shared), [dict(turn) for turn in prompt.turns], prompt.begin])
        return Example(
            text=draft.body or "",
            subject=draft.subject,
            attributes=asked.attributes,
            operator=asked.operator,
            change=asked.change,
            round=round,
            model=self.name,
            prompt=hashlib.blake2b(whole.encode(), digest_size=8).hexdigest(),
            parents=(asked.parent.id,) if asked.parent else (),
            family=asked.parent.root if asked.parent else "",
        )


def _sum_known(before: int | None, answers: Sequence[Answer | Failure]) -> int | None:
    """Tokens written now, added to those before; None as soon as a count is missing."""
    now = [answer.tokens for answer in answers if isinstance(answer, Answer) and not answer.reused]
    counts = [count for count in (before, *now) if count is not None]
    return sum(counts) if len(counts) == 1 + len(now) else None


def _shown(example: Example) -> ShownExample:
    return ShownExample(attributes=example.attributes, subject=example.subject, body=example.text)


def _proportional(weights: NDArray[np.float64], most: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`most` parent indices; every run of `wanted` of them follows the weights as closely as whole numbers allow."""
    share = weights / weights.sum()
    runs = []
    for _ in range(-(-most // wanted)):
        # Systematic sampling: one uniform number places a comb of `wanted` teeth on the cumulative weights.
        comb = (rng.random() + np.arange(wanted)) / wanted
        runs.append(rng.permutation(np.searchsorted(np.cumsum(share), comb).clip(max=len(share) - 1)))
    return np.concatenate(runs)[:most]
