"""From a run folder to its released data set: what a release is made of, and the only files it is made from.

    run = PublicRun(Path("runs/town/seed0-1a2b3c4d"))
    run.release(polls=3).files(Format.HF)

dataset/ in the run folder and `synthpoll export` are both made here. Nothing under oracle/ can be named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from experiments.folder import layout
from experiments.folder.layout import CONFIG, FACTS, STATEMENT, Key, Round
from experiments.folder.reader import RunFiles
from experiments.folder.store import RunFolder, StoreError
from experiments.refine.job import RefineJob
from experiments.statement.audits import kept_audits, stated_audits
from experiments.statement.facts import simulation
from synth.cards import public_name
from synth.corpus import Corpus
from synth.export import Format, Release
from synth.prompts import EMAIL, Form, ImagePromptForm

_STATED = ("run", "composition", "trust", "noise", "accuracy", "facts", "summary")
_FORMS: Mapping[str, Form] = {
    f"{type(form).__module__}.{type(form).__qualname__}": form for form in (EMAIL, ImagePromptForm())
}


class ExportError(StoreError):
    """A data set cannot be exported; the message says why and what to do, in one line."""


def release(folder: RunFolder, job: RefineJob, corpus: Corpus) -> None:
    """Write dataset/ of a finished run: a Hugging Face folder, and the same as JSONL in it."""
    made = replace(PublicRun(folder.path).release(polls=job.rounds), corpus=corpus)
    lines = {f"jsonl/{name}": content for name, content in made.files(Format.JSONL).items() if name != "README.md"}
    for name, content in (lines | made.files(Format.HF)).items():
        folder.write_bytes(f"{layout.DATASET}/{name}", content)


@dataclass(frozen=True)
class PublicRun:
    """What the server itself knows of the run at `path`. Raises ExportError, from any member, for what is not there."""

    path: Path

    @cached_property
    def statement(self) -> dict[str, Any]:
        """privacy.json."""
        if not self.files.has(CONFIG):
            raise ExportError(f"{self.path} has no {CONFIG}; give the folder of a run")
        if not self.files.has(STATEMENT):
            raise ExportError(
                f"{self.path} has no {STATEMENT}, and no data set goes out without a privacy statement; give the "
                "run's command again with this version, which writes one"
            )
        if (self.path / layout.KEYS).is_dir():
            raise ExportError(
                f"{self.path} is a run of a use case, which has no corpus; what it released is in "
                f"{self.path / Key('*').histogram}"
            )
        statement = self.files.json(STATEMENT)
        if lacking := [name for name in _STATED if name not in statement]:
            raise ExportError(
                f"{self.path / STATEMENT} has no '{lacking[0]}'; expected the statement of a `synthpoll run` of this "
                "version"
            )
        if hashlib.sha256(self.files.bytes(CONFIG)).hexdigest() != statement["run"]["configuration_sha256"]:
            raise ExportError(f"{self.path / CONFIG} is not the configuration that its {STATEMENT} is about")
        return statement

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml. Of it only the test share and the generator's form are used: it can name places and devices."""
        return self.files.yaml(CONFIG)

    @property
    def planned(self) -> int:
        """How many polls the run is to have."""
        return int(self.statement["composition"]["rounds"])

    @property
    def polled(self) -> int:
        """How many polls, from the first on, are complete."""
        return RunFolder(self.path).completed_rounds()

    @property
    def form(self) -> Form | None:
        """How texts were asked for; None for a form that this package does not have.

        A generator without a form, such as a fake, writes emails if its texts have subjects.
        """
        named = self.config.get("generator", {}).get("form")
        if isinstance(named, dict):
            return _FORMS.get(str(named.get("_target_")))
        return EMAIL if any(example.subject for example in self.corpus(0)) else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why nothing of this run may be released; empty if it may."""
        found = []
        if self.statement["trust"]["baseline"]:
            found.append(
                f"the trust model {self.statement['trust']['model']} is a baseline, in which the server sees every "
                "device's true answer."
            )
        # The record, and its copy in the statement: a run that was killed between the two has only the first.
        if any(audit["refutes_claim"] for audit in [*kept_audits(self.files), *stated_audits(self.files)]):
            found.append("an audit of this run refutes the epsilon that it claims.")
        return tuple(found)

    @property
    def simulation(self) -> str:
        """Why the run protects nobody, where its noise comes from a seed; else nothing."""
        return simulation(self.statement)

    def corpus(self, number: int) -> Corpus:
        """The corpus in rounds/`number`: what `number` polls have left."""
        name = Round(number).corpus
        try:
            return Corpus.from_parquet(self.place(name))
        except (OSError, pa.ArrowException) as error:
            raise self.files.damaged(name, error.__class__.__name__) from None
        except ValueError as error:
            raise ExportError(str(error)) from None

    def weights(self, number: int, examples: int) -> NDArray[np.float64]:
        """Each example's share of the estimated votes; equal shares before the first poll."""
        if not number:
            return np.full(examples, 1 / examples)
        name = Round(number - 1).next_weights
        weights: NDArray[np.float64] = self.files.array(name)
        if weights.shape != (examples,) or not np.all(weights >= 0) or not np.isclose(weights.sum(), 1):
            raise self.files.damaged(name, f"expected {examples} shares that sum to 1")
        return weights

    def release(self, *, polls: int) -> Release:
        """What may go out of the corpus that `polls` polls have left."""
        run, statement = self.files.json(FACTS), self.statement
        corpus = self.corpus(polls)
        refused = f" ({'baseline, ' if statement['trust']['baseline'] else ''}not for release)" if self.warnings else ""
        part = "" if polls == self.planned else f", after {polls} of {self.planned} polls"
        try:
            return Release(
                title=f"synthpoll {statement['run']['name']}, seed {statement['run']['seed']}{part}{refused}",
                corpus=corpus,
                weights=self.weights(polls, len(corpus)),
                test_share=float(self.config["test_share"]),
                facts=_facts(run, statement, polls),
                privacy=statement["summary"],
                generator=run["generator"],
                form=self.form,
                polls=polls,
                warnings=self.warnings,
                simulation=self.simulation,
            )
        except KeyError as error:
            raise ExportError(f"{self.path}: {FACTS}, {STATEMENT} or {CONFIG} lacks {error}") from None

    @property
    def files(self) -> RunFiles:
        """What a release is made of, and no other file."""
        return RunFiles(self.path, oracle=False, may=layout.RELEASED, error=ExportError, otherwise="")

    def place(self, name: str) -> Path:
        """The path of a public file. Raises ValueError for any other name."""
        if not layout.RELEASED.fullmatch(name):
            raise ValueError(f"name is {name!r}; a release is made from {layout.RELEASED.pattern} only")
        return self.path / name


def _facts(run: Mapping[str, Any], statement: Mapping[str, Any], polls: int) -> dict[str, str]:
    """Lines for the card. No count of items: under the statement's neighbours it is not protected by any noise."""
    planned, accuracy = statement["composition"]["rounds"], statement["accuracy"]
    stderr, reports = accuracy["standard_error"], accuracy["reports"]
    return {
        "run": f"{statement['run']['name']}, seed {statement['run']['seed']}",
        "generator": public_name(run["generator"]),
        "encoder": public_name(run["encoder"]),
        "polls": str(planned) if polls == planned else f"{polls} of {planned}",
        "reports in a poll": f"{reports} or more",
        "mechanism": run["privacy"]["mechanism"]["mechanism"],
        # After the statement's facts, one of which is this model's name only.
        **(statement["facts"] | {"trust model": run["privacy"]["trust_model"]}),
        "standard error of a count": f"{stderr:.1f} devices, {stderr / reports:.2%} of a poll",
        "commit": run["commit"],
        "versions": ", ".join(f"{name} {run['versions'][name]}" for name in ("synthpoll", "torch", "transformers")),
        "configuration, SHA-256": statement["run"]["configuration_sha256"],
    }
