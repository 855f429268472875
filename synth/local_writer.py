"""Writing on this machine: a causal language model of the transformers library, on the CPU or a GPU.

Prompts are answered in chunks. A chunk is a pure function of the weights, the settings and the stream it is given, so a
killed run that starts again writes the same texts; finished chunks are kept on disk by content hash and are not written
twice. A text does depend on its chunk: float sums in a batch of another size can differ in the last bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from synth.generator import GenerationError
from synth.weights import ModelSource, fingerprint
from synth.writer import Answer, Failure, Prompt, Turn

if TYPE_CHECKING:
    from synth.decoding import Engine, Sampling

Precision = Literal["int8", "float32", "bfloat16", "float16"]


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
        return f"{self.source.model} {self.precision} T={self.temperature:g} top_k={self.top_k} top_p={self.top_p:g}"

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
            self._rendered([*shared[:1], *prompt.turns], answer=True).removeprefix(mark) + prompt.begin
            for prompt in prompts
        ]
        identity = {
            "weights": fingerprint(self._folder),
            "runtime": self._runtime,
            "precision": self.precision,
            "sampling": asdict(self._sampling),
            "prefix": start,
            "parts": parts,
            "stops": [prompt.stop for prompt in prompts],
            "limits": limits,
            "uniforms": hashlib.sha256(uniforms.tobytes()).hexdigest(),
        }
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        path = Path(self.cache).expanduser() / "generation" / f"{digest}.json"
        if path.is_file():
            written = json.loads(path.read_text(encoding="utf-8"))
        else:
            from synth.decoding import decode

            engine, ends = self._loaded
            stops = [re.compile(prompt.stop) if prompt.stop else None for prompt in prompts]

            def finished(row: int, text: str) -> bool:
                stop = stops[row]
                return stop is not None and stop.search(text) is not None

            found = decode(engine, self._tokenizer, start, parts, uniforms, limits, self._sampling, finished, ends)
            written = [asdict(continuation) for continuation in found]
            _write_atomically(path, json.dumps(written))
        return [
            Answer(text=prompt.begin + entry["text"], log_likelihood=entry["log_likelihood"])
            for prompt, entry in zip(prompts, written, strict=True)
        ]

    def _rendered(self, turns: Sequence[Turn], *, answer: bool = False) -> str:
        """The turns in the tokenizer's own chat format; base models without one get plain labelled paragraphs."""
        if self._tokenizer.chat_template is None:
            text = "".join(f"{turn['role'].capitalize()}: {turn['content']}\n\n" for turn in turns)
            return text + ("Assistant:" if answer else "")
        rendered: str = self._tokenizer.apply_chat_template(
            [dict(turn) for turn in turns], tokenize=False, add_generation_prompt=answer
        )
        return rendered

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
                f"writer.precision is int8, which is for models of the Llama family on the CPU; {self.source.model} is "
                f"of type {model.config.model_type} on {self.device}: use writer.precision=float32 or bfloat16"
            )
        if fast and self.precision in ("int8", "float32"):
            return LlamaEngine(LlamaWeights.of(model, "int8" if self.precision == "int8" else "float32")), ends
        return LibraryEngine(model), ends


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(scratch).replace(path)
