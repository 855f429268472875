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
from synth.local_writer import LocalWriter
from synth.weights import ModelSource


def quiet(kept: int, wanted: int) -> None:
    pass


@pytest.mark.weights
def test_the_packaged_model_writes_emails_that_repeat(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = yaml.safe_load((files("conf") / "writer" / "smollm2.yaml").read_text("utf-8"))
    asked = yaml.safe_load((files("conf") / "generator" / "_emails.yaml").read_text("utf-8"))
    cache = tmp_path_factory.mktemp("smollm2")
    names = ("temperature", "top_k", "top_p", "never", "precision")

    def generator() -> LanguageModelGenerator:
        source = ModelSource(**{name: value for name, value in settings["source"].items() if name != "_target_"})
        filters = Filters(**{name: value for name, value in asked["filters"].items() if name != "_target_"})
        writer = LocalWriter(source=source, cache=cache, chunk=12, **{name: settings[name] for name in names})
        return LanguageModelGenerator(writer=writer, filters=filters, attempts=5.0)

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
    assert [path.name for path in (cache / "models").glob("SmolLM2*")] == [Path(generator().writer._folder).name]
    shutil.rmtree(cache)  # half a gigabyte
