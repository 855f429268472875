"""Decoding with a shared prefix, padding and an in-place cache, against plain forward passes.

The tolerance of the sampling law is five standard errors.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from synth import decoding
from synth.decoding import Sampling, decode
from synth.library_engine import LibraryEngine
from synth.llama import LlamaEngine, LlamaWeights

GREEDY = Sampling(temperature=1.0, top_k=1, top_p=1.0)


SAMPLE = decoding._sample


def never(row: int, text: str) -> bool:
    return False


def long_enough(row: int, text: str) -> bool:
    return len(text) >= 70


ENGINES = {
    "library": LibraryEngine,
    "llama": lambda model: LlamaEngine(LlamaWeights.of(model, "float32")),
}


def write(tiny: tuple[Any, Any], engine: str, *rest: Any) -> list[str]:
    model, tokenizer = tiny
    written = decode(ENGINES[engine](model), tokenizer, *rest, {tokenizer.eos_token_id})
    return [continuation.text for continuation in written]


@pytest.fixture(scope="module")
def tiny(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


PREFIX = "<|im_start|>system\nYou write emails.<|im_end|>\n<|im_start|>user\n"
REQUESTS = [
    "about a late train",
    "x",
    "about a lost cat and a new printer, from a clerk who wants to thank somebody",
    "",
]
REQUESTS = [f"{asked}<|im_end|>\n<|im_start|>assistant\n" for asked in REQUESTS]
LIMITS = [25, 40, 7, 40]
SAMPLED = Sampling(temperature=1.0, top_k=100, top_p=0.95)


def plain(
    tiny: tuple[Any, Any], asked: str, uniforms: NDArray[np.float64], limit: int, sampling: Sampling
) -> tuple[str, list[NDArray[np.float32]]]:
    """One continuation by whole forward passes without a cache, and the logits of every step."""
    model, tokenizer = tiny
    ids = [i for part in (PREFIX, asked) for i in tokenizer(part, add_special_tokens=False).input_ids]
    tokens: list[int] = []
    logits = []
    while len(tokens) < limit:
        with torch.inference_mode():
            logits.append(model(torch.tensor([ids + tokens])).logits[0, -1].numpy())
        if sampling is GREEDY:
            token = int(logits[-1].argmax())
        else:
            token = int(SAMPLE(torch.tensor(logits[-1])[None], uniforms[[len(tokens)]], sampling)[0])
        if token == tokenizer.eos_token_id:
            break
        tokens.append(token)
        if long_enough(0, "".join(tokenizer.decode([t]) for t in tokens)):
            break
    return tokenizer.decode(tokens), logits


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_decoding_equals_plain_forward_passes(
    tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, sampling: Sampling, engine: str
) -> None:
    uniforms = rng().random((4, 40))
    captured: list[dict[int, NDArray[np.float32]]] = []  # for each step the logits of each request

    def capture(logits: torch.Tensor, own: NDArray[np.float64], sampling: Sampling) -> NDArray[np.int64]:
        # A row is known by its uniform number: decode may move rows.
        requests = [int(np.flatnonzero(uniforms[:, len(captured)] == number)[0]) for number in own]
        captured.append(dict(zip(requests, logits.numpy().copy(), strict=True)))
        return SAMPLE(logits, own, sampling)

    monkeypatch.setattr(decoding, "_sample", capture)
    texts = write(tiny, engine, PREFIX, REQUESTS, uniforms, LIMITS, sampling, long_enough)
    expected = [plain(tiny, REQUESTS[i], uniforms[i], LIMITS[i], sampling) for i in range(4)]
    assert texts == [text for text, _ in expected]
    lengths = [len(logits) for _, logits in expected]
    assert len(set(lengths)) >= 3, f"the rows must end at different times, so that rows are dropped: {lengths}"
    assert len(captured) == max(lengths)
    for step, found in enumerate(captured):
        wanted = {request: logits[step] for request, (_, logits) in enumerate(expected) if len(logits) > step}
        assert set(found) == set(wanted)
        for a in found:
            np.testing.assert_allclose(found[a], wanted[a], rtol=0, atol=1e-4)
            # Negative control: rows could not be exchanged unseen.
            assert all(np.abs(found[a] - wanted[b]).max() > 1e-2 for b in wanted if b != a)


@pytest.mark.parametrize("engine", list(ENGINES))
def test_a_row_depends_on_its_own_numbers_only(tiny: tuple[Any, Any], engine: str) -> None:
    uniforms = rng().random((4, 40))
    sampling = SAMPLED
    together = write(tiny, engine, PREFIX, REQUESTS, uniforms, LIMITS, sampling, never)
    for row in range(4):
        alone = write(tiny, engine, PREFIX, [REQUESTS[row]], uniforms[[row]], [LIMITS[row]], sampling, never)
        assert alone == [together[row]]
    torch.manual_seed(99)
    assert write(tiny, engine, PREFIX, REQUESTS, uniforms, LIMITS, sampling, never) == together
    assert write(tiny, engine, PREFIX, REQUESTS, uniforms[::-1], LIMITS, sampling, never) != together


def test_sampling_follows_temperature_top_k_and_top_p() -> None:
    logits, n = torch.tensor([2.0, -1.0, 1.0, 0.0, 1.5, -3.0]), 40_000
    sampling = Sampling(temperature=0.7, top_k=5, top_p=0.9)
    weights = np.exp(logits.numpy().astype(np.float64) / 0.7)
    weights[[5]] = 0  # top k
    weights /= weights.sum()
    order = np.argsort(-weights)
    needed = int((np.cumsum(weights[order]) < 0.9).sum()) + 1
    weights[order[needed:]] = 0  # top p: the smallest set of mass 0.9
    weights /= weights.sum()
    assert (weights > 0).sum() == 3
    drawn = decoding._sample(logits.expand(n, -1), rng().random(n), sampling)
    counts = np.bincount(drawn, minlength=6)
    assert (np.abs(counts - n * weights) <= 5 * np.sqrt(n * weights * (1 - weights))).all()
    # Negative control: without the temperature the law is another one.
    hot = decoding._sample(logits.expand(n, -1), rng().random(n), replace(sampling, temperature=1.0))
    assert (np.abs(np.bincount(hot, minlength=6) - n * weights) > 5 * np.sqrt(n * weights * (1 - weights))).any()
    for extreme in (0.0, np.nextafter(1.0, 0.0)):
        assert weights[decoding._sample(logits[None], np.array([extreme]), sampling)[0]] > 0


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_bad_sampling(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(fields))} is {next(iter(fields.values()))}"):
        Sampling(**fields)


def test_the_likelihood_is_the_models_own(tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny
    chosen: list[NDArray[np.int64]] = []

    def capture(logits: torch.Tensor, own: NDArray[np.float64], sampling: Sampling) -> NDArray[np.int64]:
        tokens = np.array([[3, 30], [7, 70], [9, 90]])[:, len(chosen)]
        chosen.append(tokens)
        return tokens

    monkeypatch.setattr(decoding, "_sample", capture)
    written = decode(
        ENGINES["library"](model), tokenizer, PREFIX, REQUESTS[:3], rng().random((3, 2)), [2, 2, 2], SAMPLED, never, ()
    )
    for row, continuation in enumerate(written):
        prompt = [i for part in (PREFIX, REQUESTS[row]) for i in tokenizer(part, add_special_tokens=False).input_ids]
        own = [int(tokens[row]) for tokens in chosen]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + own])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert continuation.log_likelihood == pytest.approx(logits[[0, 1], own].sum().item() / 3, abs=1e-4)
