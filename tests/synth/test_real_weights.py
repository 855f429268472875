"""The packaged language model, end to end: found, verified, converted, and writing emails that pass the filters."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml

from synth.filters import Filters
from synth.language_model import LanguageModelGenerator
from synth.weights import ModelSource


def quiet(kept: int, wanted: int) -> None:
    pass


@pytest.mark.weights
def test_the_packaged_model_writes_emails_that_repeat(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = yaml.safe_load((files("conf") / "generator" / "smollm2.yaml").read_text("utf-8"))
    chosen = {name: settings[name] for name in ("temperature", "top_k", "top_p", "few_shot_share", "attempts")}
    parts = {name: {k: v for k, v in settings[name].items() if k != "_target_"} for name in ("source", "filters")}
    cache = tmp_path_factory.mktemp("smollm2")

    def generator() -> LanguageModelGenerator:
        source, filters = ModelSource(**parts["source"]), Filters(**parts["filters"])
        return LanguageModelGenerator(source=source, cache=cache, filters=filters, chunk=8, **chosen)

    generator().check()  # `make install` brings the weights: without them this fails, it is not skipped
    first = generator().seed(6, np.random.SeedSequence(0), quiet)
    assert len(first.corpus) == 6 and len(set(first.corpus.texts)) == 6
    assert first.attempted <= 24, f"most texts should be kept, but: {first.drops}"
    for example in first.corpus:
        assert len(example.text.split()) >= 12
        assert not set("[]{}<>") & set(example.text + example.subject), "a placeholder"
        assert "Subject:" not in example.text
    assert sum(bool(example.subject) for example in first.corpus) >= 4
    # Small as it is, the model writes about what it was asked for: most texts share a word with their topic.
    near = [set(e.attributes["topic"].lower().split()) & set(e.text.lower().split()) - {"a", "an", "the", "of", "for"}
            for e in first.corpus]  # fmt: skip
    assert sum(bool(words) for words in near) >= 3

    shutil.rmtree(cache / "generation")  # but not the converted model
    assert generator().seed(6, np.random.SeedSequence(0), quiet) == first
    assert [path.name for path in (cache / "models").glob("SmolLM2*")] == [Path(generator()._folder).name]
    shutil.rmtree(cache)  # half a gigabyte
