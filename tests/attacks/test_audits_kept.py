"""All audits of a run are kept, and what one has refuted no later one lifts; runs and audits of earlier versions."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.audit.run import audit_run_folder
from experiments.export_run import export
from experiments.finished import load_run
from experiments.folder.store import StoreError
from experiments.refine.release import ExportError
from experiments.statement import facts
from privacy.audit import FAMILY_WISE_ERROR, AuditResult
from privacy.mechanism import Reports
from privacy.unary_encoding import OptimizedUnaryEncoding
from tests.experiments.conftest import contents
from tests.experiments.use_case_files import screen

SHAPE = ("rounds=2", "evaluation.sample=20", "epsilon=1")


@dataclass(frozen=True, kw_only=True)
class Bare(OptimizedUnaryEncoding):
    """Negative control: bits without noise, whatever epsilon it claims."""

    def privatize(self, values, rng) -> Reports:
        bits = np.zeros((len(values), self.domain_size), dtype=np.uint8)
        bits[np.arange(len(values)), values] = 1
        return np.packbits(bits, axis=1, bitorder="little")


BROKEN = f"mechanism._target_={Bare.__module__}.{Bare.__name__}"


@pytest.fixture
def audit(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNTHPOLL_CACHE", str(tmp_path / "cache"))

    def given(folder: Path, trials: int = 8, seed: int = 0) -> AuditResult:
        return audit_run_folder(load_run(folder), trials=trials, seed=seed, screen=screen())

    return given


def exported(folder: Path, to: Path, *options: str) -> None:
    export([str(folder), "--to", str(to), *options], Console(file=io.StringIO()), lambda folder: [])


def audits(folder: Path) -> list[dict]:
    found = json.loads((folder / "audit.json").read_text())
    assert found == json.loads((folder / "privacy.json").read_text())["audits"]
    return found


def stays_refuted(folder: Path, audit, to: Path) -> None:
    """A refutation, then a small audit that could show nothing: the first is still there, and blocks export."""
    assert audit(folder, trials=200).refutes_claim
    later = audit(folder)
    assert not later.refutes_claim and later.refuting_ceiling == 0
    assert [each["refutes_claim"] for each in audits(folder)] == [True, False]
    with pytest.raises(ExportError, match="an audit of this run refutes the epsilon that it claims"):
        exported(folder, to)


def test_a_later_audit_does_not_lift_a_refutation(smoke, audit, tmp_path):
    folder = smoke("run", *SHAPE, BROKEN)
    exported(folder, tmp_path / "before")
    card = folder / "dataset" / "README.md"
    assert "Not for release" not in card.read_text()
    stays_refuted(folder, audit, tmp_path / "after")
    # The statement says it first and shows both; the data set beside it is labelled at once.
    page = (folder / "privacy.md").read_text()
    assert "**This run's claim is refuted**, by audit 1. No later audit lifts that." in page
    assert all(f"{each['number']}. {each['plays']} plays: {each['sentence']}." in page for each in audits(folder))
    assert "> **Not for release:** an audit of this run refutes" in card.read_text()
    # The run's command given again changes nothing; labelled as such it is exported still.
    after = contents(folder)
    smoke("run", *SHAPE, BROKEN)
    assert contents(folder) == after
    exported(folder, tmp_path / "labelled", "--not-for-release")
    assert "(not for release)" in (tmp_path / "labelled" / "README.md").read_text()


def test_negative_control_a_record_that_keeps_the_last_audit_only_is_caught(smoke, audit, tmp_path, monkeypatch):
    folder = smoke("run", *SHAPE, BROKEN)
    monkeypatch.setattr(facts, "kept_audits", lambda files: [])
    with pytest.raises(AssertionError):
        stays_refuted(folder, audit, tmp_path / "after")
    exported(folder, tmp_path / "out")  # released, although it was refuted


def test_an_honest_run_is_not_refuted_however_often_it_is_audited(smoke, audit, tmp_path):
    """Each audit draws new noise and has less of the error; what all may spend stays below the family-wise error."""
    folder = smoke("run", *SHAPE)
    found = [audit(folder, trials=100) for _ in range(6)]
    assert not any(each.refutes_claim for each in found)
    assert len({(each.hits, each.alarms) for each in found}) > 3
    kept = audits(folder)
    assert [each["number"] for each in kept] == [1, 2, 3, 4, 5, 6]
    assert sum(each["refuting_error"] for each in kept) == pytest.approx(FAMILY_WISE_ERROR * 6 / 7)
    strongest = max(each["epsilon_lower"] for each in kept)
    assert f"The strongest measured bound is epsilon >= {strongest:.3f}." in (folder / "privacy.md").read_text()
    exported(folder, tmp_path / "out")


def test_audit_json_of_an_earlier_version_is_the_first_of_the_list(smoke, audit, tmp_path):
    """One object, also in the statement; its verdict stays what it was."""
    made = smoke("made", *SHAPE)
    statement = json.loads((made / "privacy.json").read_text())
    del statement["audits"]
    for refuted in (True, False):
        folder = shutil.copytree(made, tmp_path / f"earlier-{refuted}")
        before = {"plays": 40, "epsilon_lower": 1.25, "refutes_claim": refuted, "sentence": "measured epsilon >= 1.250"}
        (folder / "audit.json").write_text(json.dumps(before))
        (folder / "privacy.json").write_text(json.dumps(statement | {"audit": before}))
        assert audit(folder).number == 2
        assert audits(folder)[0] == before and audits(folder)[1]["number"] == 2
        assert "1. 40 plays: measured epsilon >= 1.250." in (folder / "privacy.md").read_text()
        assert "audit" not in json.loads((folder / "privacy.json").read_text())
        if refuted:
            with pytest.raises(ExportError, match="an audit of this run refutes"):
                exported(folder, tmp_path / "out")
        else:
            exported(folder, tmp_path / "out")


def test_a_record_that_is_gone_is_made_again_from_the_statement(smoke, audit, tmp_path):
    """As the message about a damaged one says: delete it, then give the run's command again."""
    folder = smoke("run", *SHAPE, BROKEN)
    audit(folder, trials=200)
    after = contents(folder)
    (folder / "audit.json").write_text("{")
    with pytest.raises(StoreError, match=r"delete it, then give the run's command again$"):
        smoke("run", *SHAPE, BROKEN)
    (folder / "audit.json").unlink()
    smoke("run", *SHAPE, BROKEN)
    assert contents(folder) == after
    # Killed between the record and the statement, the record alone blocks.
    statement = json.loads(after["privacy.json"])
    (folder / "privacy.json").write_text(json.dumps(statement | {"audits": []}))
    with pytest.raises(ExportError, match="an audit of this run refutes"):
        exported(folder, tmp_path / "out")


def test_a_statement_of_an_earlier_version_is_refused_in_one_line_before_anything_is_played(smoke, audit):
    folder = smoke("run", *SHAPE)
    statement = json.loads((folder / "privacy.json").read_text())
    for lacking in ("trust_models", "composition", "central"):
        (folder / "privacy.json").write_text(json.dumps({k: v for k, v in statement.items() if k != lacking}))
        before = contents(folder)
        with pytest.raises(StoreError, match=r"privacy\.json is not a statement of this version") as caught:
            audit(folder)
        assert "\n" not in str(caught.value) and contents(folder) == before
    (folder / "privacy.json").write_text(json.dumps(statement))
    (folder / "audit.json").write_text('[{"sentence": "x"}]')
    with pytest.raises(StoreError, match=r"audit\.json cannot be read \(not a list of audits\); delete it"):
        audit(folder)
