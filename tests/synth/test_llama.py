"""The fast Llama path against transformers, and its 8-bit products against floats.

That whole continuations agree with plain forward passes is in test_decoding.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from synth.llama import Int8Linear, LlamaEngine, LlamaWeights

PREFIX = [3, 5, 8, 13, 21, 34, 55]
REQUESTS = [[1, 4, 9], [2], [7, 7, 7, 7, 7, 7], *([n, n + 1] for n in range(40, 80))]  # more than one block of rows


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def whole(tiny: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return tiny(torch.tensor([ids])).logits[0, -1]


def test_float32_logits_equal_the_librarys(tiny: Any) -> None:
    engine = LlamaEngine(LlamaWeights.of(tiny, "float32"))
    logits = engine.start(PREFIX, REQUESTS, room=2)
    for row, request in enumerate(REQUESTS):
        torch.testing.assert_close(logits[row], whole(tiny, PREFIX + request), rtol=0, atol=2e-5)
    # Rows 0 and 2 go on; the last row takes the place of row 1.
    engine.keep(torch.tensor([1]), torch.tensor([2]), 2)
    after = engine.step(torch.tensor([11, 12]))
    torch.testing.assert_close(after[0], whole(tiny, PREFIX + REQUESTS[0] + [11]), rtol=0, atol=2e-5)
    torch.testing.assert_close(after[1], whole(tiny, PREFIX + REQUESTS[2] + [12]), rtol=0, atol=2e-5)
    assert (after[0] - whole(tiny, PREFIX + REQUESTS[0] + [12])).abs().max() > 1e-3  # the comparison can fail


def test_int8_logits_are_near_and_not_equal(tiny: Any) -> None:
    exact = LlamaEngine(LlamaWeights.of(tiny, "float32")).start(PREFIX, REQUESTS, room=1)
    rounded = LlamaEngine(LlamaWeights.of(tiny, "int8")).start(PREFIX, REQUESTS, room=1)
    error = (exact - rounded).std() / exact.std()
    assert 0 < error < 0.05


def test_int8_products_are_within_rounding_and_rows_do_not_touch_each_other() -> None:
    numbers = torch.Generator().manual_seed(0)
    x, weight = torch.randn(33, 64, generator=numbers), torch.randn(48, 64, generator=numbers)
    product = Int8Linear(weight)
    result, exact = product(x), x @ weight.T
    # Each side is off by at most half a step; the bound adds both over the 64 terms.
    x_step, w_step = x.abs().amax(1) / 127, weight.abs().amax(1) / 127
    bound = 0.5 * (x_step[:, None] * weight.abs().sum(1) + w_step * x.abs().sum(1)[:, None])
    assert (torch.abs(result - exact) <= bound * 1.01 + 64 * 0.25 * x_step[:, None] * w_step).all()
    assert torch.equal(product(x[5:6]), result[5:6])
    assert torch.equal(product(x.flip(0)), result.flip(0))
    assert torch.equal(product(torch.zeros(2, 64)), torch.zeros(2, 48))


def test_a_prompt_that_the_model_cannot_see_whole_is_refused(tiny: Any) -> None:
    engine = LlamaEngine(LlamaWeights.of(tiny, "float32"))
    with pytest.raises(ValueError, match="the model sees at most"):
        engine.start(PREFIX, REQUESTS, room=10**6)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "gemma3_text"},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
    ],
)
def test_what_is_not_plain_llama_is_left_to_the_library(tiny: Any, change: dict[str, Any]) -> None:
    config = transformers.LlamaConfig.from_dict(tiny.config.to_dict())
    assert LlamaWeights.supports(config)
    for name, value in change.items():
        object.__setattr__(config, name, value)
    assert not LlamaWeights.supports(config)
