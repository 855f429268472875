"""Batched, seeded sampling of continuations that share a prompt prefix.

Why not `model.generate`: its top-p sorts the whole vocabulary (49,152 entries) for every token of every row, its cache
copies all keys and values at every step, and the shared few-shot prefix would be computed for every row. This loop
takes the top k first, keeps the cache in place, computes the prefix once, and drops finished rows; `make
bench-generation` prints both rates. It asks of a model only the standard forward call with a cache.

Randomness is handed in as one row of uniform numbers per continuation, so a text depends on its own numbers and not on
what torch's global generator did before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Temperature, then the `top_k` likeliest tokens, then of those the smallest set of mass `top_p`.

    Tokens that contain a character of `never` are not written: '[' opens the placeholders that small models love.
    """

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 0.95
    never: str = ""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; expected a value above 0")
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; expected 1 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; expected a value in (0, 1]")


class _InPlaceLayer(DynamicLayer):  # type: ignore[misc]  # transformers ships no types
    """Keys and values in a buffer allocated once; `keys` and `values` are views of its filled part.

    transformers' own DynamicLayer joins tensors at every step, which copies the whole cache for every token.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, capacity: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        rows, heads, length = keys.shape[:3]
        self._buffers = [x.new_empty((rows, heads, capacity, x.shape[-1])) for x in (keys, values)]
        for buffer, x in zip(self._buffers, (keys, values), strict=True):
            buffer[:, :, :length] = x
        self._show(rows, length)

    def _show(self, rows: int, length: int) -> None:
        self.keys, self.values = (buffer[:rows, :, :length] for buffer in self._buffers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write behind the filled part and return everything so far."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        for buffer, x in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: len(x), :, start:end] = x
        self._show(len(key_states), end)
        return self.keys, self.values

    def fill_gaps(self, gaps: torch.Tensor, movers: torch.Tensor, rows: int) -> None:
        """Keep `rows` rows: those in `movers`, from behind, take the places in `gaps`. Copies only what moves."""
        length = self.keys.shape[-2]
        for buffer in self._buffers:
            buffer[gaps, :, :length] = buffer[movers, :, :length]
        self._show(rows, length)


@torch.inference_mode()
def decode(
    model: Any,
    tokenizer: Any,
    prefix: str,
    requests: Sequence[str],
    uniforms: NDArray[np.float64],
    limits: Sequence[int],
    sampling: Sampling,
    finished: Callable[[str], bool],
) -> list[str]:
    """Continuations of prefix + request, one per request.

    `uniforms` is float64[len(requests), max(limits)] in [0, 1); `limits` the most new tokens of each row; `finished`
    tells from the text so far whether a row has ended. Decoder-only models whose cache layers are plain attention.
    """
    device = model.device
    rows = len(requests)
    prefix_ids = tokenizer(prefix, add_special_tokens=False, return_tensors="pt").input_ids.to(device)
    suffixes = [tokenizer(request, add_special_tokens=False).input_ids for request in requests]
    shared, width, longest = prefix_ids.shape[1], max(map(len, suffixes)), max(limits)

    # The request parts differ in length: padding stands between prefix and request, masked, so that all rows end at
    # the same column and positions count real tokens only.
    ids = torch.zeros((rows, width), dtype=torch.long)
    mask = torch.ones((rows, shared + width + longest), dtype=torch.long)
    for row, suffix in enumerate(suffixes):
        ids[row, width - len(suffix) :] = torch.tensor(suffix)
        mask[row, shared : shared + width - len(suffix)] = 0
    ids, mask = ids.to(device), mask.to(device)
    positions = mask.cumsum(1) - 1

    prefix_cache = DynamicCache(config=model.config)
    model(prefix_ids, past_key_values=prefix_cache, logits_to_keep=1)
    cache = DynamicCache(config=model.config)
    cache.layers = [
        _InPlaceLayer(
            layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), shared + width + longest
        )
        for layer in prefix_cache.layers
    ]

    pieces: dict[int, str] = {}
    texts = [""] * rows
    tokens: list[list[int]] = [[] for _ in range(rows)]
    ends = _end_tokens(model, tokenizer)
    banned = _tokens_with(tokenizer, sampling.never)
    alive = np.arange(rows)  # alive[i] is the request that row i of the tensors belongs to
    step_ids, column = ids, shared
    for step in range(longest):
        filled = column + step_ids.shape[1]
        logits = model(
            step_ids,
            past_key_values=cache,
            attention_mask=mask[:, :filled],
            position_ids=positions[:, column:filled],
            logits_to_keep=1,
        ).logits[:, -1]
        logits[:, banned] = -torch.inf
        column = filled
        chosen = _sample(logits, uniforms[alive, step], sampling)
        going = np.ones(len(alive), dtype=bool)
        for i, (request, token) in enumerate(zip(alive.tolist(), chosen.tolist(), strict=True)):
            if token in ends:
                going[i] = False
                continue
            if token not in pieces:
                pieces[token] = tokenizer.decode([token])
            texts[request] += pieces[token]
            tokens[request].append(token)
            going[i] = not finished(texts[request]) and len(tokens[request]) < limits[request]
        if not going.any():
            break
        if not going.all():
            kept = int(going.sum())
            order = np.arange(len(going))
            gaps, movers = np.flatnonzero(~going[:kept]), kept + np.flatnonzero(going[kept:])
            order[gaps] = movers
            order = order[:kept]
            alive, chosen = alive[order], chosen[order]
            mask, positions = mask[torch.from_numpy(order)], positions[torch.from_numpy(order)]
            for layer in cache.layers:
                layer.fill_gaps(torch.from_numpy(gaps), torch.from_numpy(movers), kept)
        step_ids = torch.from_numpy(chosen).to(device)[:, None]
    # Decoded as a whole: a character may be spread over several tokens.
    return [tokenizer.decode(row) for row in tokens]


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured]
    return {token for token in (*ends, tokenizer.eos_token_id) if token is not None}


def _tokens_with(tokenizer: Any, characters: str) -> list[int]:
    """Tokens whose text contains one of the characters; special tokens are not text."""
    special = set(tokenizer.all_special_ids)
    return [
        token
        for piece, token in tokenizer.get_vocab().items()
        if token not in special and any(character in piece for character in characters)
    ]


def _sample(logits: torch.Tensor, uniforms: NDArray[np.float64], sampling: Sampling) -> NDArray[np.int64]:
    """One token per row by inverting the cumulative distribution at the row's uniform number."""
    values, tokens = torch.topk(logits.float(), min(sampling.top_k, logits.shape[-1]))
    scaled = values.cpu().numpy().astype(np.float64) / sampling.temperature
    weights = np.exp(scaled - scaled[:, :1])
    weights /= weights.sum(axis=1, keepdims=True)
    before = np.cumsum(weights, axis=1) - weights
    weights[before >= sampling.top_p] = 0.0
    cumulative = np.cumsum(weights, axis=1)
    index = (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(axis=1)
    # Rounding may carry the sum to the very end; the last token with any weight is then meant.
    index = np.minimum(index, (weights > 0).sum(axis=1) - 1)
    result: NDArray[np.int64] = tokens.cpu().numpy()[np.arange(len(index)), index]
    return result
