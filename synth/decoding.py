"""Batched, seeded sampling of continuations that share a prompt prefix.

Why not `model.generate`: its top-p sorts the whole vocabulary (49,152 entries) for every token of every row, and the
shared few-shot prefix would be read and kept for every row. This loop takes the top k first and drops finished rows;
what a model does with prefix and rows is the engine's business. `make bench-generation` prints the rates.

Randomness is handed in as one row of uniform numbers per continuation, so a text depends on its own numbers and not on
what torch's global generator did before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray


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


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """What was written, in `tokens` tokens. `log_likelihood` is the model's own at temperature 1, in nats per token."""

    text: str
    log_likelihood: float
    tokens: int


class Engine(Protocol):
    """A language model and the keys and values of one batch (synth/llama.py, synth/library_engine.py)."""

    def start(self, prefix: Sequence[int], requests: Sequence[Sequence[int]], room: int) -> torch.Tensor:
        """Logits [rows, vocabulary] after prefix + request, with room for `room` more tokens."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [rows, vocabulary] after one more token int64[rows]."""

    def keep(self, gaps: torch.Tensor, movers: torch.Tensor, rows: int) -> None:
        """Keep `rows` rows: those in `movers`, from behind, take the places in `gaps`."""


@torch.inference_mode()
def decode(
    engine: Engine,
    tokenizer: Any,
    prefix: str,
    requests: Sequence[str],
    uniforms: NDArray[np.float64],
    limits: Sequence[int],
    sampling: Sampling,
    finished: Callable[[int, str], bool],
    ends: Collection[int],
) -> list[Continuation]:
    """Continuations of prefix + request, one per request.

    `uniforms` is float64[len(requests), max(limits)] in [0, 1); `limits` the most new tokens of each row; `finished`
    tells from a row's number and its text so far whether it has ended, as do the tokens in `ends`.
    """
    prefix_ids = tokenizer(prefix, add_special_tokens=False).input_ids
    request_ids = [tokenizer(request, add_special_tokens=False).input_ids for request in requests]
    logits = engine.start(prefix_ids, request_ids, max(limits))
    pieces: dict[int, str] = {}
    texts = [""] * len(requests)
    tokens: list[list[int]] = [[] for _ in requests]
    likelihood = np.zeros(len(requests))
    banned = torch.tensor(_tokens_with(tokenizer, sampling.never), dtype=torch.long, device=logits.device)
    alive = np.arange(len(requests))  # alive[i] is the request that row i of the tensors belongs to
    for step in range(max(limits)):
        logits.index_fill_(1, banned, -torch.inf)
        chosen = _sample(logits, uniforms[alive, step], sampling)
        picked = logits[torch.arange(len(alive)), torch.from_numpy(chosen)].float()
        likelihood[alive] += (picked - torch.logsumexp(logits.float(), dim=1)).cpu().numpy()
        going = np.ones(len(alive), dtype=bool)
        for i, (request, token) in enumerate(zip(alive.tolist(), chosen.tolist(), strict=True)):
            if token in ends:
                going[i] = False
                continue
            if token not in pieces:
                pieces[token] = tokenizer.decode([token])
            texts[request] += pieces[token]
            tokens[request].append(token)
            going[i] = not finished(request, texts[request]) and len(tokens[request]) < limits[request]
        if not going.any():
            break
        if not going.all():
            kept = int(going.sum())
            order = np.arange(kept)
            gaps, movers = np.flatnonzero(~going[:kept]), kept + np.flatnonzero(going[kept:])
            order[gaps] = movers
            alive, chosen = alive[order], chosen[order]
            engine.keep(torch.from_numpy(gaps), torch.from_numpy(movers), kept)
        logits = engine.step(torch.from_numpy(chosen))
    return [
        # Decoded as a whole: a character may be spread over several tokens. The end token counts in the likelihood.
        Continuation(text=tokenizer.decode(row), log_likelihood=float(total) / (len(row) + 1), tokens=len(row))
        for row, total in zip(tokens, likelihood, strict=True)
    ]


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """The tokens after which a text is over."""
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
