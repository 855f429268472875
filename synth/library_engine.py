"""Any decoder-only model of the transformers library, by its standard forward call with a cache.

Slower than synth/llama.py, and general: nothing is assumed about the architecture but that call. The shared prefix is
read once and its cache repeated for every row.

Where layers see only the latest tokens (Gemma 3: 512), padding takes its place among them: behind so many tokens a row
that is shorter than the longest of its batch sees a little less of the prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


class LibraryEngine:
    """Keys and values of one batch, in the library's own cache."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None
        self._mask = self._positions = torch.zeros((0, 0), dtype=torch.long)
        self._filled = 0

    @torch.inference_mode()
    def start(self, prefix: Sequence[int], requests: Sequence[Sequence[int]], room: int) -> Tensor:
        """Read everything; logits [rows, vocabulary] after each request, with room for `room` more tokens."""
        rows, width, device = len(requests), max(map(len, requests)), self._model.device
        # Padding stands between prefix and request, masked, so that all rows end at the same column and positions
        # count real tokens only.
        ids = torch.zeros((rows, width), dtype=torch.long)
        mask = torch.ones((rows, len(prefix) + width + room), dtype=torch.long)
        for row, request in enumerate(requests):
            ids[row, width - len(request) :] = torch.tensor(request)
            mask[row, len(prefix) : len(prefix) + width - len(request)] = 0
        self._mask = mask.to(device)
        self._positions = self._mask.cumsum(1) - 1
        self._cache = DynamicCache(config=self._model.config)
        self._model(torch.tensor([list(prefix)], device=device), past_key_values=self._cache, logits_to_keep=1)
        self._cache.batch_repeat_interleave(rows)
        self._filled = len(prefix)
        return self._forward(ids.to(device))

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [rows, vocabulary] after one more token int64[rows] of each row."""
        return self._forward(tokens.to(self._model.device)[:, None])

    def keep(self, gaps: Tensor, movers: Tensor, rows: int) -> None:
        """Keep `rows` rows: those in `movers`, from behind, take the places in `gaps`."""
        order = torch.arange(rows)
        order[gaps] = movers
        order = order.to(self._model.device)
        self._cache.batch_select_indices(order)
        self._mask, self._positions = self._mask[order], self._positions[order]

    @torch.inference_mode()
    def _forward(self, ids: Tensor) -> Tensor:
        end = self._filled + ids.shape[1]
        logits: Tensor = self._model(
            ids,
            past_key_values=self._cache,
            attention_mask=self._mask[:, :end],
            position_ids=self._positions[:, self._filled : end],
            logits_to_keep=1,
        ).logits[:, -1]
        self._filled = end
        return logits
