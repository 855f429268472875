"""A tiny language model of random weights, for tests of everything that decodes; and a server of the chat protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from synth import endpoint_writer
from synth.attributes import AttributeGrid
from synth.prompts import EmailForm, load_examples
from tests.synth.endpoint_client import KEY
from tests.synth.endpoint_server import EndpointServer

END = "<|im_end|>"
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GRID = AttributeGrid(
    axes={
        "topic": ("a late train", "a lost cat", "a new printer"),
        "purpose": ("ask", "tell", "thank somebody"),
        "tone": ("dry", "warm"),
        "length": ("short", "long"),
        "sender_role": ("friend", "clerk"),
    },
    groups=dict.fromkeys(("a late train", "a lost cat", "a new printer"), "any"),
    length_words={"short": (5, 10), "long": (10, 20)},
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that transformers can load: byte-level BPE and a Llama of two layers that likes to end sentences."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    texts = [example.body for example in load_examples()] + [
        EmailForm().request(a) for a in GRID.sample(30, np.random.default_rng(0))
    ]
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END)
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True), ". ", "\n", "\nSubject:"])
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in (". ", "\n", "\nSubject:", END)}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.3,
        eos_token_id=ids[END],
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # The first entry of the residual stream is large and constant; what reads it gets a bias.
        model.model.embed_tokens.weight[:, 0] = 4.0
        model.lm_head.weight[:, 0] = 0.0
        for name, bias in ((". ", 1.7), ("\n", 1.3), ("\nSubject:", 1.4), (END, 1.0)):
            model.lm_head.weight[ids[name], 0] = bias
    place = tmp_path_factory.mktemp("model")
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def endpoint_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's key in the environment, and nothing else that the client would read there."""
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith("OPENAI_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SYNTHPOLL_API_KEY", KEY)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waiting times, which are not waited for."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(endpoint_writer, "_pause", pause)
    return waited


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with EndpointServer() as endpoint:
        yield endpoint
