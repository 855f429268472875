"""A pool of texts on the command line: how it is composed, with a writer and without, and a run that is made of one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from device_poll.fleet import SimulatedFleet
from experiments.folder.layout import Round
from experiments.launch import told
from synth.attributes import AttributeGrid
from synth.corpus import Corpus
from synth.generator import GenerationError
from synth.language_model import LanguageModelGenerator
from synth.local_writer import LocalWriter
from synth.pool import PoolGenerator
from synth.prompts import ImagePromptForm
from synth.scripted import ScriptedFakeGenerator


@dataclass(frozen=True)
class OfPackagedGrid:
    """Fake: a writer of which only the grid is asked for."""

    grid: AttributeGrid = field(default_factory=lambda: AttributeGrid.packaged("email"))
    name: str = "writer"


GRID = OfPackagedGrid()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = [{"body": f"text {i} about my plans", "topic": f"topic {i % 3}"} for i in range(10)]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_pool_is_composed(compose_job, path):
    job, *_ = compose_job(
        "experiment=smoke", "generator=pool", f"generator.path={path}", "generator.fields.text=body",
        "generator.fields.attributes=[topic]", "generator.on_bad_row=skip",
    )  # fmt: skip
    assert isinstance(job.generator, PoolGenerator)
    assert job.generator.writer is None and job.generator.available == 10 and not job.generator.writes


def test_without_a_path_it_says_what_to_set(compose_job):
    job, *_ = compose_job("experiment=smoke", "generator=pool")
    assert told(job.check) == "generator.path is not set; give a file of texts (generator.path=TEXTS.jsonl.gz)"


@pytest.mark.parametrize(
    "override", ["generator=pool_and_smollm2", "generator=pool generator@generator.writer=smollm2"]
)
def test_a_pool_with_a_writer_is_one_override(compose_job, override):
    """Equal, both ways, and the writer is what it is alone, whatever it is set to."""
    job, identity, _ = compose_job("experiment=smoke", *override.split(), "generator.path=F")
    assert identity == compose_job("experiment=smoke", "generator=pool_and_smollm2", "generator.path=F")[1]
    writer = job.generator.writer
    assert isinstance(job.generator, PoolGenerator) and isinstance(writer, LanguageModelGenerator)
    alone = compose_job("experiment=smoke", "generator=smollm2")[0].generator
    assert writer == alone and isinstance(writer.writer, LocalWriter)
    warm = compose_job("experiment=smoke", *override.split(), "generator.writer.writer.temperature=0.9")[0]
    assert warm.generator.writer.writer.temperature == 0.9


def test_other_writers_and_other_commands():
    with initialize_config_module("conf", version_base="1.3"):
        config = compose(
            "generate", ["out=x", "generator=pool", "generator.path=F", "generator@generator.writer=genmoji"]
        )
    generator = instantiate(config, _convert_="object").generator
    assert isinstance(generator, PoolGenerator) and isinstance(generator.writer.form, ImagePromptForm)


def test_a_run_of_a_pool_and_a_writer(smoke, path):
    given = [
        "generator=pool", f"generator.path={path}", "generator.fields.text=body", "generator.fields.attributes=[topic]",
        "generator@generator.writer=scripted_fake",
    ]  # fmt: skip
    folder = smoke("run", *given)
    corpus = Corpus.from_parquet(folder / Round(0).corpus)
    assert len(corpus) == 40
    corpus = Corpus.from_parquet(folder / Round(0).pool)
    assert len(corpus) == 200
    assert corpus.texts[:10] == [f"text {i} about my plans" for i in range(10)]
    assert [e.operator for e in corpus] == ["pool"] * 10 + ["seed"] * 190
    run = json.loads((folder / "run.json").read_text())
    assert run["generator"].startswith("pool:texts.jsonl ") and run["generator"].endswith(" + scripted fake")
    card = (folder / "dataset" / "README.md").read_text()
    assert "is not known to synthpoll" in card and str(path.parent) not in card
    again = smoke("again", *given)
    last = Round(3).corpus
    assert (again / last).read_bytes() == (folder / last).read_bytes()


def test_a_pool_without_a_writer_cannot_have_children(compose_job, path):
    given = ("experiment=smoke", "generator=pool", f"generator.path={path}", "generator.fields.text=body")
    for further in (("decision=survival",), ("candidates=5", "decision.written=3")):
        job, *_ = compose_job(*given, *further)
        assert told(job.check).startswith(f"the pool of {path} has no writer")


def test_a_pool_that_is_no_larger_than_a_slate_is_refused(compose_job, path):
    job, *_ = compose_job("experiment=smoke", "generator=pool", f"generator.path={path}", "generator.fields.text=body")
    assert told(job.check).startswith("the pool has 10 texts and candidates is 40; expected a larger pool")


def test_a_pool_needs_no_language_model(smoke, path):
    """Its texts are chosen from as they are: nothing is written, and all of them are looked at."""
    folder = smoke("run", "generator=pool", f"generator.path={path}", "generator.fields.text=body", "candidates=5")
    assert len(Corpus.from_parquet(folder / Round(0).pool)) == 10
    released = Corpus.from_parquet(folder / Round(3).corpus)
    assert len(released) == 5 and {example.operator for example in released} == {"pool"}
    assert "predicted_votes" in json.loads((folder / Round(1).metrics).read_text())


def test_texts_that_the_writer_cannot_vary_are_refused_before_a_poll(smoke, path, monkeypatch):
    """Their topics are none of the writer's grid; no device is asked and nothing is debited."""
    writer = LanguageModelGenerator.check_parents
    monkeypatch.setattr(ScriptedFakeGenerator, "check_parents", lambda self, parents: writer(GRID, parents))
    monkeypatch.setattr(SimulatedFleet, "answer", lambda *_: pytest.fail("polled"))
    fields = ("generator.fields.text=body", "generator.fields.attributes=[topic]")
    with pytest.raises(GenerationError, match=r"cannot vary a text of pool:texts.jsonl .*: .* topic"):
        smoke("run", "generator=pool", f"generator.path={path}", *fields, "generator@generator.writer=scripted_fake")
