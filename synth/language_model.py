"""The generator: a causal language model of the transformers library answers few-shot chats.

Texts are written in chunks of a fixed number of requests. A chunk is a pure function of the weights, the settings and
its place (seed, round, stage, chunk number), so a killed run that starts again writes the same texts; finished chunks
are kept on disk by content hash and are not written twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from synth.attributes import AttributeGrid
from synth.corpus import Corpus, Example
from synth.filters import Draft, Filters, whole_sentences
from synth.generator import Encode, Generation, GenerationError, Progress
from synth.prompts import ShownEmail, finished, load_examples, own_part, parse, shared_prefix
from synth.weights import ModelSource, fingerprint

if TYPE_CHECKING:
    from synth.decoding import Engine

_Precision = Literal["int8", "float32", "bfloat16", "float16"]
_SHOWN = 3  # few-shot examples in a prompt
_SUBJECT_TOKENS = 24

PARENT_AS_EXAMPLE = "parent as example"
ATTRIBUTE_CHANGE = "attribute change"


@dataclass(frozen=True, kw_only=True)
class _Request:
    """One text that is asked for: what the prompt says and what its lineage will say."""

    attributes: Mapping[str, str]
    operator: str
    parent: Example | None = None


@dataclass(frozen=True, kw_only=True)
class LanguageModelGenerator:
    """Few-shot generation on packaged, local or Hub weights.

    `chunk` requests are decoded together; it is part of what a text depends on, because float sums in a batch of
    another size can differ in the last bit. `few_shot_share` is the share of chunks of variations that see their parent
    as an example; the others are written anew from the parent's topic and other attributes. `attempts` bounds the
    requests per kept text. No text gets more than `max_new_tokens`; what is cut off ends with its last whole sentence.
    Characters of `never` are not written. `precision` int8 is for models of the Llama family on a CPU
    (synth/llama.py). `encode` enables the topic filter.
    """

    source: ModelSource
    cache: str | Path
    grid: AttributeGrid = field(default_factory=AttributeGrid.from_yaml)
    examples: tuple[ShownEmail, ...] = field(default_factory=load_examples)
    filters: Filters = field(default_factory=Filters)
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 0.95
    never: str = "[{"
    max_new_tokens: int = 150
    chunk: int = 64
    few_shot_share: float = 0.5
    attempts: float = 4.0
    device: str = "cpu"
    precision: _Precision = "float32"
    encode: Encode | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(_Precision):
            raise ValueError(
                f"generator.precision is {self.precision!r}; expected one of {', '.join(get_args(_Precision))}"
            )
        if self.chunk < 1:
            raise ValueError(f"generator.chunk is {self.chunk}; expected 1 or more requests")
        if self.max_new_tokens < 1:
            raise ValueError(f"generator.max_new_tokens is {self.max_new_tokens}; expected 1 or more")
        if not 0 <= self.few_shot_share <= 1:
            raise ValueError(f"generator.few_shot_share is {self.few_shot_share}; expected a share in [0, 1]")
        if self.attempts < 1:
            raise ValueError(f"generator.attempts is {self.attempts}; expected 1 or more requests per kept text")

    @property
    def name(self) -> str:
        """Model and sampling, for lineage and cards."""
        return f"{self.source.model} {self.precision} T={self.temperature:g} top_k={self.top_k} top_p={self.top_p:g}"

    def check(self) -> None:
        """Raise GenerationError if the libraries, the weights or the device are missing."""
        if missing := [name for name in ("torch", "transformers", "gguf", "accelerate") if find_spec(name) is None]:
            raise GenerationError(f"{', '.join(missing)} not installed; install with: pip install 'synthpoll[models]'")
        self.source.check()
        if self.device.startswith("cuda"):
            import torch

            if not torch.cuda.is_available():
                raise GenerationError(
                    f"generator.device is {self.device}, but torch sees no CUDA device; use device=cpu"
                )

    def with_encoder(self, encode: Encode) -> LanguageModelGenerator:
        """The same generator with the topic filter switched on."""
        return replace(self, encode=encode)

    def seed(self, n: int, stream: np.random.SeedSequence, progress: Progress) -> Generation:
        """n kept examples; topics in even shares."""
        wanted = self.grid.sample(self._most_requests(n), np.random.default_rng(stream))
        requests = (_Request(attributes=attributes, operator="seed") for attributes in wanted)
        return self._write(n, requests, 0, stream, progress)

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
        rng = np.random.default_rng(stream)
        requests = []
        for place, index in enumerate(_proportional(weights, self._most_requests(n), n, rng)):
            parent = parents.examples[index]
            # Whole chunks have one operator: a prompt with its parent is three times as long, and the rows of a chunk
            # are padded to the longest.
            chunk = place // self.chunk
            shown = int((chunk + 1) * self.few_shot_share) > int(chunk * self.few_shot_share)
            requests.append(
                _Request(
                    attributes=self.grid.change(parent.attributes, rng),
                    operator=PARENT_AS_EXAMPLE if shown else ATTRIBUTE_CHANGE,
                    parent=parent,
                )
            )
        return self._write(n, iter(requests), round, stream, progress)

    def _most_requests(self, n: int) -> int:
        return int(np.ceil(self.attempts * n)) + self.chunk

    def _write(
        self, n: int, requests: Iterator[_Request], round: int, stream: np.random.SeedSequence, progress: Progress
    ) -> Generation:
        kept: list[Example] = []
        drops: Counter[str] = Counter()
        seen: set[str] = set()
        attempted = 0
        progress(0, n)
        for number in itertools.count():
            batch = list(itertools.islice(requests, self.chunk))
            if len(kept) >= n or not batch:
                break
            child = np.random.SeedSequence(entropy=stream.entropy, spawn_key=(*stream.spawn_key, number))
            drafts, digests = self._chunk(batch, np.random.default_rng(child))
            attempted += len(batch)
            for asked, draft, digest, verdict in zip(
                batch, drafts, digests, self.filters.judge(drafts, seen, self.encode), strict=True
            ):
                if verdict is not None:
                    drops[verdict] += 1
                elif draft.body is not None and len(kept) < n:
                    kept.append(
                        Example(
                            text=draft.body,
                            subject=draft.subject,
                            attributes=asked.attributes,
                            operator=asked.operator,
                            round=round,
                            model=self.name,
                            prompt=digest,
                            parents=(asked.parent.id,) if asked.parent else (),
                            family=asked.parent.root if asked.parent else "",
                        )
                    )
                else:
                    drops["surplus"] += 1
            progress(len(kept), n)
        if len(kept) < n:
            counted = ", ".join(f"{reason} {count}" for reason, count in drops.most_common())
            raise GenerationError(
                f"only {len(kept)} of {n} texts were kept after {attempted} attempts (dropped: {counted}); "
                "loosen the filters, raise generator.attempts or use a larger model"
            )
        return Generation(Corpus(tuple(kept)), attempted, dict(sorted(drops.items())))

    def _chunk(self, batch: Sequence[_Request], rng: np.random.Generator) -> tuple[list[Draft], list[str]]:
        """Drafts and prompt digests of one chunk, from disk if they were written before."""
        shown = [self.examples[i] for i in rng.permutation(len(self.examples))[:_SHOWN]]
        longest = [_SUBJECT_TOKENS + int(1.4 * self.grid.length_words[r.attributes["length"]][1]) for r in batch]
        limits = [min(limit, self.max_new_tokens) for limit in longest]
        uniforms = rng.random((len(batch), max(limits)))
        prompts = [own_part(self._tokenizer, r.attributes, _shown_parent(r)) for r in batch]
        start = shared_prefix(self._tokenizer, shown)
        identity = {
            "weights": fingerprint(self._folder),
            "torch": self._runtime,
            "precision": self.precision,
            "sampling": asdict(self._sampling),
            "prefix": start,
            "prompts": prompts,
            "limits": limits,
            "uniforms": hashlib.sha256(uniforms.tobytes()).hexdigest(),
        }
        path = self._cache / "generation" / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()}.json"
        if path.is_file():
            texts = json.loads(path.read_text(encoding="utf-8"))
        else:
            from synth.decoding import decode

            engine, ends = self._loaded
            texts = decode(engine, self._tokenizer, start, prompts, uniforms, limits, self._sampling, finished, ends)
            _write_atomically(path, json.dumps(texts))
        drafts = []
        for asked, text in zip(batch, texts, strict=True):
            subject, body = parse(text) or ("", None)
            examples = tuple(example.body for example in shown) + ((asked.parent.text,) if asked.parent else ())
            drafts.append(
                Draft(
                    attributes=asked.attributes,
                    subject=subject,
                    body=whole_sentences(body) if body else None,
                    shown=examples,
                )
            )
        digests = [hashlib.blake2b((start + p).encode(), digest_size=8).hexdigest() for p in prompts]
        return drafts, digests

    @property
    def _cache(self) -> Path:
        return Path(self.cache).expanduser()

    @property
    def _sampling(self) -> Any:
        from synth.decoding import Sampling

        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, never=self.never)

    @cached_property
    def _folder(self) -> str:
        return self.source.folder(self._cache)

    @cached_property
    def _runtime(self) -> str:
        import torch

        return f"{torch.__version__} {self.device} {torch.get_num_threads()} threads"

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._folder)

    @cached_property
    def _loaded(self) -> tuple[Engine, set[int]]:
        """The engine and the tokens that end a text."""
        import torch
        from transformers import AutoModelForCausalLM

        from synth.decoding import end_tokens
        from synth.library_engine import LibraryEngine
        from synth.llama import LlamaEngine, LlamaWeights

        dtype = torch.float32 if self.precision == "int8" else getattr(torch, self.precision)
        model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=dtype).to(self.device).eval()
        ends = end_tokens(model, self._tokenizer)
        fast = LlamaWeights.supports(model.config) and self.device == "cpu"
        if self.precision == "int8" and not fast:
            raise GenerationError(
                f"generator.precision is int8, which is for models of the Llama family on the CPU; {self.source.model} "
                f"is of type {model.config.model_type} on {self.device}: use generator.precision=float32 or bfloat16"
            )
        if fast and self.precision in ("int8", "float32"):
            return LlamaEngine(LlamaWeights.of(model, self.precision)), ends
        return LibraryEngine(model), ends


def _shown_parent(asked: _Request) -> ShownEmail | None:
    """The parent as a further example, for the few-shot operator."""
    if asked.parent is None or asked.operator != PARENT_AS_EXAMPLE:
        return None
    return ShownEmail(attributes=asked.parent.attributes, subject=asked.parent.subject, body=asked.parent.text)


def _proportional(weights: NDArray[np.float64], most: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`most` parent indices; every run of `wanted` of them follows the weights as closely as whole numbers allow."""
    share = weights / weights.sum()
    runs = []
    for _ in range(-(-most // wanted)):
        # Systematic sampling: one uniform number places a comb of `wanted` teeth on the cumulative weights.
        comb = (rng.random() + np.arange(wanted)) / wanted
        runs.append(rng.permutation(np.searchsorted(np.cumsum(share), comb).clip(max=len(share) - 1)))
    return np.concatenate(runs)[:most]


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(scratch).replace(path)
