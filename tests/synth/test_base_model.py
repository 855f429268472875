"""Base models, which know no chat: labelled paragraphs behind their opening token, and an answer that ends in time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import synth.decoding
from synth.decoding import Continuation
from synth.local_writer import LocalWriter
from synth.weights import ModelSource
from synth.writer import Answer, Prompt

SHARED = [
    {"role": "system", "content": "You write emails."},
    {"role": "user", "content": "Write about rain."},
    {"role": "assistant", "content": "It rains."},
]
STREAM = np.random.SeedSequence(3)
OPENING = "<|im_start|>"


def ask(begin: str = "", stop: str = "") -> Prompt:
    return Prompt(turns=({"role": "user", "content": "Write about snow."},), limit=12, begin=begin, stop=stop)


@pytest.fixture
def base(folder: Path, tmp_path: Path) -> Path:
    """The tiny model without its chat template, and with a token that opens every text."""
    place = tmp_path / "base"
    shutil.copytree(folder, place)
    (place / "chat_template.jinja").unlink()
    settings = json.loads((place / "tokenizer_config.json").read_text("utf-8"))
    (place / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": OPENING}), encoding="utf-8")
    tokenizer = json.loads((place / "tokenizer.json").read_text("utf-8"))
    opening = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == OPENING)
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": OPENING, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {OPENING: {"id": OPENING, "ids": [opening], "tokens": [OPENING]}},
    }
    (place / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    loaded = transformers.AutoTokenizer.from_pretrained(place)
    assert loaded.chat_template is None and loaded("").input_ids == [opening]
    return place


def writer(place: Path, cache: Path, **changes: Any) -> LocalWriter:
    return LocalWriter(source=ModelSource(model=str(place)), cache=cache, top_k=600, top_p=1.0, **changes)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the loop was given; it answers with `SAID` in place of a model."""
    calls: list[dict[str, Any]] = []

    def fake(
        engine: Any, tokenizer: Any, prefix: str, requests: Sequence[str], *rest: Any
    ) -> list[Continuation]:  # fmt: skip
        finished: Callable[[int, str], bool] = rest[3]
        calls.append({"prefix": prefix, "requests": list(requests), "finished": finished})
        return [Continuation(text=SAID, log_likelihood=-1.0, tokens=5) for _ in requests]

    monkeypatch.setattr(synth.decoding, "decode", fake)
    return calls


SAID = " Subject: Snow\n\nIt snows.\n\nUser: Write about hail.\n\nAssistant: It hails."


def test_a_base_model_reads_labelled_paragraphs_behind_its_opening_token(
    base: Path, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    writer(base, tmp_path).write(SHARED, [ask(), ask("Subject: Snow")], STREAM)
    [call] = asked
    assert call["prefix"] == (
        f"{OPENING}System: You write emails.\n\nUser: Write about rain.\n\nAssistant: It rains.\n\n"
    )
    # The opening token stands once, in front; an answer that begins freely begins behind the label.
    assert call["requests"] == [
        "User: Write about snow.\n\nAssistant:",
        "User: Write about snow.\n\nAssistant: Subject: Snow",
    ]


def test_the_answer_of_a_base_model_ends_where_it_makes_up_the_next_turn(
    base: Path, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    for reused in (False, True):  # the second time from disk
        got = writer(base, tmp_path).write(SHARED, [ask(), ask("Hi.", stop=r"\nBest\b")], STREAM)
        assert got == [
            Answer(text=f"{begun} Subject: Snow\n\nIt snows.\n", log_likelihood=-1.0, tokens=5) for begun in ("", "Hi.")
        ]
        assert [one.reused for one in got if isinstance(one, Answer)] == [reused] * 2
    [call] = asked
    for row, text, over in (
        (0, "It snows.\n\nUser", False),
        (0, "It snows.\n\nUser:", True),
        (0, "It snows.\n\nAssistant: It", True),
        (0, "It snows.\nBest", False),
        (1, "It snows.\nBest", True),
        (1, "It snows.\nSystem:", True),
        (1, "The User: a person", False),
    ):
        assert call["finished"](row, text) is over, text


def test_a_model_with_a_chat_template_is_left_alone(folder: Path, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    got = writer(folder, tmp_path).write(SHARED, [ask("Hi.")], STREAM)
    assert got == [Answer(text=f"Hi.{SAID}", log_likelihood=-1.0, tokens=5)]
    [call] = asked
    assert call["requests"] == ["<|im_start|>user\nWrite about snow.<|im_end|>\n<|im_start|>assistant\nHi."]
    assert not call["finished"](0, "It snows.\n\nUser:")


def test_a_base_model_writes(base: Path, tmp_path: Path) -> None:
    """The real loop and the tiny model: texts of the whole chain, which repeat."""
    first = writer(base, tmp_path / "a").write(SHARED, [ask("Hi."), ask()], STREAM)
    assert all(isinstance(entry, Answer) and len(entry.text) > 3 for entry in first)
    assert writer(base, tmp_path / "b").write(SHARED, [ask("Hi."), ask()], STREAM) == first
