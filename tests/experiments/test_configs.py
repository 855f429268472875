"""Every experiment and every option of every group composes into a job."""

from __future__ import annotations

from pathlib import Path

import pytest

import conf

ROOT = Path(str(conf.__file__)).parent


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "experiment").glob("*.yaml")))
def test_experiment_composes(compose_job, name):
    job, identity, digest = compose_job(f"experiment={name}")
    assert job.name == name
    assert len(digest) == 8
    assert "cache" not in identity


# What an option cannot know: where the user's own model is.
MISSING = {
    "generator=endpoint": ["generator.writer.base_url=http://localhost:8000/v1", "generator.writer.model=m"],
    "generator=local": ["generator.writer.source.model=/models/m"],
    "vocabulary=table": ["job=count", "vocabulary.value=v", "vocabulary.weight=w"],
    # Parts that go together.
    "vocabulary=prompts": ["experiment=genmoji_fragments"],
    "release=fragments": ["experiment=genmoji_fragments"],
    "mechanism=sequence_fragment_puzzle": ["experiment=new_words"],
    # Sketches hash values, which a slate's answers are not: they count what devices hold.
    "mechanism=count_mean_sketch": ["experiment=emoji"],
    "mechanism=hadamard_count_mean_sketch": ["experiment=safari_costly"],
}
# Groups that only a count has.
USE_CASE = {"vocabulary", "activity", "release"}


@pytest.mark.parametrize(
    "option",
    sorted(
        f"{path.parent.name}={path.stem}"
        for path in ROOT.glob("*/*.yaml")
        # A writer is part of a generator, and a file that begins with _ part of others.
        if path.parent.name not in ("experiment", "writer") and not path.stem.startswith("_")
    ),
)
def test_option_composes(compose_job, option):
    group, _, name = option.partition("=")
    if group == "selector":  # of one decision only
        job, *_ = compose_job("decision=survival", f"selector@decision.selector={name}")
        assert name.replace("_", "") in type(job.decision.selector).__name__.lower()
        return
    kind = ["job=count"] if group in USE_CASE and option not in MISSING else []
    compose_job(option, *kind, *MISSING.get(option, []))


def test_every_writer_has_its_generator():
    writers, generators = ({p.stem for p in (ROOT / group).glob("*.yaml")} for group in ("writer", "generator"))
    assert writers <= generators


def test_place_and_speed_are_no_part_of_a_run_s_identity(compose_job):
    base = compose_job("experiment=smoke")[2]
    assert compose_job("experiment=smoke", "workers=2", "out=/tmp/x", "cache=/tmp/y", "runs=z")[2] == base
    assert compose_job("experiment=smoke", "seed=1")[2] != base
