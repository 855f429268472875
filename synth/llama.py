"""The Llama architecture, small and fast on a CPU: the forward pass of many continuations of one prefix.

Two things make it three to five times as fast as the library's model (`make bench-generation`): the prefix that all
rows share is kept and multiplied once instead of once per row, and the weights are 8-bit integers, whose products this
generation of CPUs adds four times as fast as floats. In float32 the logits equal those of transformers
(tests/synth/test_llama.py); int8 costs some hundredths of a nat per token (docs/generation.md).

    engine = LlamaEngine(LlamaWeights.of(model, "int8"))
    logits = engine.start(prefix, requests, room=120)      # float32[rows, vocabulary], after each request
    logits = engine.step(tokens)                           # one more token per row

Touvron et al. 2023 (arXiv 2302.13971), with grouped-query attention; used for no other architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention, silu

Precision = Literal["int8", "float32"]
Linear = Callable[[Tensor], Tensor]

# Requests are read in blocks of this many rows, which bounds the memory of their attention scores.
_BLOCK = 32


class Int8Linear:
    """x W^T with both sides rounded to 8 bits: W per output row, x per input row (Dettmers et al. 2022, section 2).

    The integer sums are exact, so a row of the result does not depend on the other rows of x.
    """

    def __init__(self, weight: Tensor) -> None:
        scale = weight.abs().amax(1) / 127
        self._scale = scale
        self._weight = torch.round(weight / scale[:, None]).to(torch.int8).t()

    def __call__(self, x: Tensor) -> Tensor:
        """float32[n, inputs] -> float32[n, outputs]."""
        scale = x.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
        return torch._int_mm(torch.round(x / scale).to(torch.int8), self._weight) * (scale * self._scale)


@dataclass(frozen=True, kw_only=True)
class _Layer:
    attention_norm: Tensor
    queries_keys_values: Linear
    attention_out: Linear
    feed_forward_norm: Tensor
    gate_and_up: Linear
    down: Linear


@dataclass(frozen=True, kw_only=True)
class LlamaWeights:
    """The weights of a Llama model, in the layout of the fast path. Make it with `of`."""

    embedding: Tensor
    layers: tuple[_Layer, ...]
    norm: Tensor
    head: Linear
    heads: int
    key_heads: int
    head_size: int
    epsilon: float
    cosine: Tensor
    sine: Tensor

    @staticmethod
    def supports(config: Any) -> bool:
        """Whether `config` (of transformers) describes exactly what this file computes."""
        rope = getattr(config, "rope_parameters", None) or {}
        return (
            config.model_type == "llama"
            and config.hidden_act == "silu"
            and rope.get("rope_type") == "default"
            and not config.attention_bias
            and not config.mlp_bias
        )

    @classmethod
    def of(cls, model: Any, precision: Precision) -> LlamaWeights:
        """The weights of a `LlamaForCausalLM` in float32; int8 copies, float32 shares its memory where it can."""
        if not cls.supports(model.config):
            raise ValueError(f"model type is {model.config.model_type!r}; synth.llama computes plain Llama models only")
        config, state = model.config, model.state_dict()
        make: Callable[[Tensor], Linear] = Int8Linear if precision == "int8" else _float_linear
        heads, size = config.num_attention_heads, config.head_dim
        layers = []
        for i in range(config.num_hidden_layers):

            def of(name: str, layer: int = i) -> Tensor:
                weight: Tensor = state[f"model.layers.{layer}.{name}.weight"]
                return weight

            layers.append(
                _Layer(
                    attention_norm=of("input_layernorm"),
                    queries_keys_values=make(torch.cat([of(f"self_attn.{x}_proj") for x in "qkv"])),
                    attention_out=make(of("self_attn.o_proj")),
                    feed_forward_norm=of("post_attention_layernorm"),
                    gate_and_up=make(torch.cat([of("mlp.gate_proj"), of("mlp.up_proj")])),
                    down=make(of("mlp.down_proj")),
                )
            )
        embedding = state["model.embed_tokens.weight"]
        inverse = config.rope_parameters["rope_theta"] ** -(torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(config.max_position_embeddings).float(), inverse).repeat(1, 2)
        return cls(
            embedding=embedding,
            layers=tuple(layers),
            norm=state["model.norm.weight"],
            head=make(embedding if config.tie_word_embeddings else state["lm_head.weight"]),
            heads=heads,
            key_heads=config.num_key_value_heads,
            head_size=size,
            epsilon=config.rms_norm_eps,
            cosine=angles.cos(),
            sine=angles.sin(),
        )

    def forward(self, ids: Tensor, positions: Tensor, attend: _Attention, last: Tensor | None = None) -> Tensor:
        """Logits float32[n, vocabulary] of int64[n] tokens, or of those at the indices `last`.

        `attend(layer, queries, keys, values)` -> float32[n, heads, head_size] knows which tokens see which.
        """
        x = self.embedding[ids]
        for i, layer in enumerate(self.layers):
            joined = layer.queries_keys_values(self._normed(x, layer.attention_norm)).view(len(x), -1, self.head_size)
            queries, keys, values = torch.split(joined, [self.heads, self.key_heads, self.key_heads], dim=1)
            seen = attend(i, self._rotated(queries, positions), self._rotated(keys, positions), values)
            x = x + layer.attention_out(seen.reshape(len(x), -1))
            gate, up = layer.gate_and_up(self._normed(x, layer.feed_forward_norm)).chunk(2, dim=1)
            x = x + layer.down(silu(gate) * up)
        if last is not None:
            x = x[last]
        return self.head(self._normed(x, self.norm))

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * weight

    def _rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        half = self.head_size // 2
        swapped = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        return x * self.cosine[positions][:, None] + swapped * self.sine[positions][:, None]


_Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def _float_linear(weight: Tensor) -> Linear:
    return lambda x: linear(x, weight)


class LlamaEngine:
    """Keys and values of one batch: the prefix once, and each row's own tokens, left-aligned."""

    def __init__(self, weights: LlamaWeights) -> None:
        self._weights = weights
        self._prefix: list[tuple[Tensor, Tensor]] = []
        self._own: list[tuple[Tensor, Tensor]] = []
        self._lengths = torch.zeros(0, dtype=torch.long)  # own tokens of each row

    @torch.inference_mode()
    def start(self, prefix: Sequence[int], requests: Sequence[Sequence[int]], room: int) -> Tensor:
        """Read everything; logits float32[rows, vocabulary] after each request, with room for `room` more tokens."""
        w = self._weights
        # Dropped before the new ones are made: two batches' keys and values would be the peak of the memory.
        self._prefix, self._own = [], []
        self._read_prefix(torch.tensor(prefix))
        longest = max(map(len, requests)) + room
        if len(prefix) + longest > len(w.cosine):
            raise ValueError(
                f"prompt and answer take {len(prefix) + longest} tokens; the model sees at most {len(w.cosine)}"
            )
        # One block, which goes back to the system as a whole: many of a few megabytes would leave the heap in holes.
        own = torch.zeros(len(w.layers), 2, len(requests), w.key_heads, longest, w.head_size)
        self._own = [(keys, values) for keys, values in own]
        self._lengths = torch.tensor([len(request) for request in requests])
        logits = torch.empty(len(requests), len(w.embedding))
        # Requests of like length together, so that little of a block is padding.
        order = sorted(range(len(requests)), key=lambda row: len(requests[row]))
        for first in range(0, len(order), _BLOCK):
            logits[order[first : first + _BLOCK]] = self._read(len(prefix), requests, order[first : first + _BLOCK])
        return logits

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Logits float32[rows, vocabulary] after one more token int64[rows] of each row."""
        columns = self._lengths
        logits = self._weights.forward(tokens, self._prefix[0][0].shape[1] + columns, self._after(columns))
        self._lengths = columns + 1
        return logits

    @torch.inference_mode()
    def keep(self, gaps: Tensor, movers: Tensor, rows: int) -> None:
        """Keep `rows` rows: those in `movers`, from behind, take the places in `gaps`. Copies only what moves."""
        for keys, values in self._own:
            keys[gaps], values[gaps] = keys[movers], values[movers]
        self._lengths[gaps] = self._lengths[movers]
        self._lengths = self._lengths[:rows]

    def _read_prefix(self, ids: Tensor) -> None:
        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            q, k, v = (x.transpose(0, 1).contiguous() for x in (queries, keys, values))
            self._prefix.append((k, v))
            return scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[
                0
            ].transpose(0, 1)

        self._weights.forward(ids, torch.arange(len(ids)), attend, last=torch.tensor([0]))

    def _read(self, shared: int, requests: Sequence[Sequence[int]], block: Sequence[int]) -> Tensor:
        """Read the requests in `block`, packed without padding; logits after the last token of each."""
        w = self._weights
        lengths = self._lengths[block]
        width = int(lengths.max())
        # Token t of the block is the columns[t]-th of row rows[t].
        rows = torch.repeat_interleave(torch.arange(len(block)), lengths)
        columns = torch.cat([torch.arange(length) for length in lengths.tolist()])
        ids = torch.tensor([token for row in block for token in requests[row]])
        visible = torch.ones(width, shared + width, dtype=torch.bool).tril(shared)
        place = torch.tensor(block)[rows]

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            own_keys, own_values = self._own[layer]
            own_keys[place, :, columns], own_values[place, :, columns] = keys, values
            padded = queries.new_zeros(len(block), width, w.heads, w.head_size)
            padded[rows, columns] = queries
            k, v = (
                torch.cat([x.expand(len(block), -1, -1, -1), own[block, :, :width]], dim=2)
                for x, own in zip(self._prefix[layer], self._own[layer], strict=True)
            )
            seen = scaled_dot_product_attention(padded.transpose(1, 2), k, v, attn_mask=visible, enable_gqa=True)
            return seen.transpose(1, 2)[rows, columns]

        return w.forward(ids, shared + columns, attend, last=lengths.cumsum(0) - 1)

    def _after(self, columns: Tensor) -> _Attention:
        """Attention of one new token per row, at `columns` of its row, to the prefix and the row up to itself."""
        w, count = self._weights, len(columns)
        group, heads, size = w.heads // w.key_heads, w.key_heads, w.head_size
        reach = int(columns.max()) + 1
        hidden = torch.zeros(count, 1, 1, reach).masked_fill_(
            (torch.arange(reach) > columns[:, None])[:, None, None], -torch.inf
        )  # added to the scores
        rows = torch.arange(count)

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            own_keys, own_values = self._own[layer]
            own_keys[rows, :, columns], own_values[rows, :, columns] = keys, values
            prefix_keys, prefix_values = self._prefix[layer]
            by_row = queries.view(count, heads, group, size) / math.sqrt(size)
            # All rows' queries meet the shared prefix in one product per key head.
            to_prefix = torch.bmm(by_row.transpose(0, 1).reshape(heads, -1, size), prefix_keys.transpose(1, 2))
            to_own = by_row @ own_keys[:count, :, :reach].transpose(2, 3) + hidden
            scores = torch.cat([to_prefix, to_own.transpose(0, 1).reshape(heads, -1, reach)], dim=2)
            shares = torch.softmax(scores, dim=2)
            shared = prefix_keys.shape[1]
            from_prefix = torch.bmm(shares[..., :shared], prefix_values).view(heads, count, group, size)
            own_shares = shares[..., shared:].view(heads, count, group, reach).transpose(0, 1)
            from_own = own_shares @ own_values[:count, :, :reach]
            return (from_prefix.transpose(0, 1) + from_own).reshape(count, w.heads, size)

        return attend
