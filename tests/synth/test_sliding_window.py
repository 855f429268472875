"""Models whose layers see only the latest tokens, in a batch behind a shared prefix: the library's own logits."""

from __future__ import annotations

import numpy as np
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from synth.library_engine import LibraryEngine

WINDOW = 16


def model() -> Gemma3ForCausalLM:
    """Random weights; the first and the third layer see WINDOW tokens."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        query_pre_attn_scalar=16,
    )
    made = Gemma3ForCausalLM(config).eval()
    for weights in made.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.5)
    return made


def differences(prefix: int, lengths: list[int], steps: int) -> torch.Tensor:
    """Largest difference of logits [steps, rows], relative to the largest logit; the second row leaves on its way."""
    rng, whole = np.random.default_rng(0), model()
    engine, shared = LibraryEngine(whole), rng.integers(100, size=prefix).tolist()
    rows = [shared + rng.integers(100, size=length).tolist() for length in lengths]
    logits, alive = engine.start(shared, [row[prefix:] for row in rows], steps), list(range(len(rows)))
    found = torch.full((steps, len(rows)), torch.nan)
    for step in range(steps):
        with torch.inference_mode():
            wanted = torch.stack([whole(torch.tensor([rows[row]])).logits[0, -1] for row in alive])
        found[step, alive] = (logits - wanted).abs().amax(1) / wanted.abs().amax(1)
        if step == steps // 2:
            engine.keep(torch.tensor([1]), torch.tensor([len(alive) - 1]), len(alive) - 1)
            alive[1] = alive.pop()
        tokens = rng.integers(100, size=len(alive)).tolist()
        for row, token in zip(alive, tokens, strict=True):
            rows[row] = [*rows[row], token]
        logits = engine.step(torch.tensor(tokens))
    return found


def test_within_the_window_padded_rows_too_have_the_librarys_logits() -> None:
    found = differences(prefix=4, lengths=[3, 1, 5], steps=WINDOW - 4 - 5)
    assert found.isnan().sum() == 3 and found.nan_to_num().max() < 1e-4


def test_behind_the_window_rows_without_padding_have_the_librarys_logits() -> None:
    found = differences(prefix=30, lengths=[6, 6, 6], steps=12)
    assert found.nan_to_num().max() < 1e-4


def test_behind_the_window_padding_takes_its_place_in_it() -> None:
    """What the engine's docstring says; also the proof that these differences can be seen."""
    found = differences(prefix=30, lengths=[12, 12, 3], steps=4)
    assert found[:, 0].max() < 1e-4 and found[:, 2].nan_to_num().max() > 1e-3
