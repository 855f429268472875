"""Tokens a second of synthpoll's decoding loop beside transformers' own `generate`, in one run.

    make bench-generation

Both write from the same prompts with the same sampling settings; prefill is part of the time of both. The peer gets the
same padded batch and full prompts, because `generate` has no shared prefix.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from synth.decoding import Engine, Sampling, decode
from synth.library_engine import LibraryEngine
from synth.llama import LlamaEngine, LlamaWeights

ROWS, NEW_TOKENS = 64, 64


def main() -> None:
    """Print one table."""
    with initialize_config_module("conf", version_base="1.3"):
        generator = instantiate(compose("config").generator, _convert_="object")
    writer = generator.writer
    tokenizer = writer._tokenizer
    model = AutoModelForCausalLM.from_pretrained(writer._folder, dtype=torch.float32).eval()
    rng = np.random.default_rng(0)
    form = generator.form
    shared = [{"role": "system", "content": form.system}]
    shared += [turn for example in generator.examples[:3] for turn in form.turns(example)]
    mark, prefix = writer._rendered(shared[:1]), writer._rendered(shared)
    asked = [
        writer._rendered([*shared[:1], {"role": "user", "content": form.request(a)}], answer="").removeprefix(mark)
        for a in generator.grid.sample(ROWS, rng)
    ]

    uniforms = rng.random((ROWS, NEW_TOKENS))
    engines: dict[str, Engine] = {
        "library model": LibraryEngine(model),
        "synth.llama float32": LlamaEngine(LlamaWeights.of(model, "float32")),
        "synth.llama int8": LlamaEngine(LlamaWeights.of(model, "int8")),
    }
    seconds = {}
    for name, engine in engines.items():
        start = time.perf_counter()
        decode(engine, tokenizer, prefix, asked, uniforms, [NEW_TOKENS] * ROWS, Sampling(), lambda row, text: False, ())
        seconds[name] = time.perf_counter() - start

    tokenizer.padding_side = "left"
    batch = tokenizer([prefix + part for part in asked], return_tensors="pt", padding=True, add_special_tokens=False)
    torch.manual_seed(0)
    start = time.perf_counter()
    model.generate(
        **batch, do_sample=True, temperature=0.8, top_k=50, top_p=0.95, max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    peer = time.perf_counter() - start

    tokens = ROWS * NEW_TOKENS
    table = Table(title=f"{ROWS} rows x {NEW_TOKENS} new tokens, {torch.get_num_threads()} threads")
    for name in ("loop", "seconds", "tokens/s", "ratio"):
        table.add_column(name, justify="right")
    table.add_row("transformers generate", f"{peer:.1f}", f"{tokens / peer:.0f}", "1.0")
    for name, ours in seconds.items():
        table.add_row(f"synth.decoding, {name}", f"{ours:.1f}", f"{tokens / ours:.0f}", f"{peer / ours:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
