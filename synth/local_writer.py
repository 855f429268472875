"""Writing on this machine: a causal language model of the transformers library, on the CPU or a GPU.

Prompts are answered in chunks. A chunk is a pure function of the weights, the settings and the stream it is given, so a
killed run that starts again writes the same texts; finished chunks are kept on disk by content hash and are not written
twice. A text does depend on its chunk: float sums in a batch of another size can differ in the last bit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from synth.generator import GenerationError
from synth.kept_answers import keep, kept
from synth.weights import ModelSource, fingerprint
from synth.writer import Answer, Failure, Prompt, Turn

if TYPE_CHECKING:
    from synth.decoding import Engine, Sampling

Precision = Literal["int8", "float32", "bfloat16", "float16"]

# Where a base model, which was not tuned on chats, goes on with the next turn.
_NEXT_TURN = r"\n(?:System|User|Assistant):"


@dataclass(frozen=True, kw_only=True)
class LocalWriter:
    """Packaged, local or Hub weights.

    `temperature`, `top_k`, `top_p`: sampling. Characters of `never` are not written. `chunk` prompts are answered
    together. `precision` int8 is for models of the Llama family on a CPU (synth/llama.py).
    """

    source: ModelSource
    cache: str | Path
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 0.95
    never: str = ""
    chunk: int = 96
    device: str = "cpu"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"writer.precision is {self.precision!r}; expected {' or '.join(get_args(Precision))}")
        if self.chunk < 1:
            raise ValueError(f"writer.chunk is {self.chunk}; expected 1 or more prompts")
        if not self.temperature > 0:
            raise ValueError(f"writer.temperature is {self.temperature}; expected a value above 0")
        if self.top_k < 1:
            raise ValueError(f"writer.top_k is {self.top_k}; expected 1 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"writer.top_p is {self.top_p}; expected a value in (0, 1]")

    @property
    def name(self) -> str:
        """Model and sampling, for lineage and cards."""
        return f"{self.source.name} {self.precision} T={self.temperature:g} top_k={self.top_k} top_p={self.top_p:g}"

    @property
    def continues(self) -> bool:
        """Answers can be begun."""
        return True

    @property
    def reproducible(self) -> str | None:
        """Texts repeat, chunk by chunk, on the same kind of machine."""
        return None

    def check(self) -> None:
        """Raise GenerationError if the libraries, the weights or the device are missing."""
        if missing := [name for name in ("torch", "transformers", "gguf", "accelerate") if find_spec(name) is None]:
            raise GenerationError(f"{', '.join(missing)} not installed; install with: pip install 'synthpoll[models]'")
        self.source.check()
        if self.device.startswith("cuda"):
            import torch

            if not torch.cuda.is_available():
                raise GenerationError(f"writer.device is {self.device}, but torch sees no CUDA device; use device=cpu")
            if self.precision == "int8":
                raise GenerationError("writer.precision is int8, which is for the CPU; use bfloat16 with cuda")

    def write(
        self, shared: Sequence[Turn], prompts: Sequence[Prompt], stream: np.random.SeedSequence
    ) -> list[Answer | Failure]:
        """One answer per prompt, from disk if they were written before."""
        limits = [prompt.limit for prompt in prompts]
        uniforms = np.random.default_rng(stream).random((len(prompts), max(limits)))
        start = self._rendered(shared)
        # A template may put a default system message in front of turns that have none, so each own part is cut out of a
        # rendering behind the first shared turn.
        mark = self._rendered(shared[:1])
        parts = [
            self._rendered([*shared[:1], *prompt.turns], answer=prompt.begin).removeprefix(mark) for prompt in prompts
        ]
        stops = [prompt.stop for prompt in prompts]
        if self._is_base:
            stops = [f"{stop}|{_NEXT_TURN}" if stop else _NEXT_TURN for stop in stops]
        identity = {
            "weights": fingerprint(self._folder),
            "runtime": self._runtime,
            "precision": self.precision,
            "sampling": asdict(self._sampling),
            "prefix": start,
            "parts": parts,
            "stops": stops,
            "limits": limits,
            "uniforms": hashlib.sha256(uniforms.tobytes()).hexdigest(),
        }
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        path = Path(self.cache).expanduser() / "generation" / f"{digest}.json"
        written = kept(path, len(prompts))
        if written is None:
            from synth.decoding import decode

            engine, ends = self._loaded

            def finished(row: int, text: str) -> bool:
                return stops[row] != "" and re.search(stops[row], text) is not None

            found = decode(engine, self._tokenizer, start, parts, uniforms, limits, self._sampling, finished, ends)
            written = [
                Answer(text=self._answer(one.text), log_likelihood=one.log_likelihood, tokens=one.tokens)
                for one in found
            ]
            keep(path, written)
        return [
            replace(answer, text=prompt.begin + answer.text) for prompt, answer in zip(prompts, written, strict=True)
        ]

    def _rendered(self, turns: Sequence[Turn], *, answer: str | None = None) -> str:
        """The turns in the tokenizer's own chat format, then the beginning of an `answer`, if one is to come.

        Base models have no such format and get plain labelled paragraphs, of which they write the next. In front stands
        the token that all their texts opened with in training (a template writes it itself): without it some write
        nonsense.
        """
        if self._is_base:
            text = self._opening + "".join(f"{turn['role'].capitalize()}: {turn['content']}\n\n" for turn in turns)
            begun = f" {answer}" if answer else ""  # with no blank at the end, which would be part of the next token
            return text if answer is None else f"{text}Assistant:{begun}"
        rendered: str = self._tokenizer.apply_chat_template(
            [dict(turn) for turn in turns], tokenize=False, add_generation_prompt=answer is not None
        )
        return rendered + (answer or "")

    def _answer(self, written: str) -> str:
        """What was written without the turns that a base model made up behind it."""
        return re.split(_NEXT_TURN, written, maxsplit=1)[0] if self._is_base else written

    @property
    def _is_base(self) -> bool:
        return self._tokenizer.chat_template is None

    @cached_property
    def _opening(self) -> str:
        """The token that the tokenizer itself puts in front of every text, as text; empty if there is none."""
        first = self._tokenizer("").input_ids[:1]
        return str(self._tokenizer.bos_token) if first and first[0] == self._tokenizer.bos_token_id else ""

    @property
    def _sampling(self) -> Sampling:
        from synth.decoding import Sampling

        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, never=self.never)

    @cached_property
    def _folder(self) -> str:
        return self.source.folder(Path(self.cache).expanduser())

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
                f"writer.precision is int8, which is for models of the Llama family on the CPU; {self.source.name} is "
                f"of type {model.config.model_type} on {self.device}: use writer.precision=float32 or bfloat16"
            )
        if fast and self.precision in ("int8", "float32"):
            return LlamaEngine(LlamaWeights.of(model, "int8" if self.precision == "int8" else "float32")), ends
        return LibraryEngine(model), ends
